import ArgumentParser
import Cluster
import Evaluation
import Files
import TensorRuntime
import Training

struct Train: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Train a network.",
    subcommands: [
      TrainVAE.self, TrainEncoders.self, TrainGenerator.self, TrainOTMap.self, TrainPost.self,
      TrainKeys.self,
    ])
}

/// The options of every training command.
struct TrainingOptions: ParsableArguments {
  @Option(in: .path, help: "Run file, YAML or JSON; unknown keys are errors.") var config: String?
  @Option(
    name: .customLong("set"), parsing: .singleValue, in: .text,
    help: "Override one key: --set steps=100.") var overrides: [String] = []
  @Option(in: .path, help: "Folder of a new run.") var run: String?
  @Option(in: .path, help: "Go on with the run in this folder.") var resume: String?
  @Option(in: .steps, help: "Number of steps (overrides the run file).") var steps: Int?
  @Option(in: .seed, help: "Seed (overrides the run file).") var seed: Int?
  @Option(
    in: .grace,
    help: """
      Seconds that a step may still take once a signal asks the run to stop; a longer one is given \
      up and begins again when the run is resumed.
      """) var stopWithin = StopRequest.defaultGrace
  @Option(
    in: .text,
    help:
      """
      Most memory to keep packed weights in, besides what a step needs (3G, 500M); default: a \
      quarter of what is free. Less costs time, and changes no bit.
      """
  ) var memory: String?

  func validate() throws { _ = try MemoryBudget.kept(memory) }
  /// Where a run computes.
  func workspace() throws -> Workspace {
    Workspace(
      pool: BufferPool(panelBudget: PanelBudget(bytes: try MemoryBudget.kept(memory))))
  }

  /// The folder of the run, and whether the run is resumed. A resumed run reads the configuration
  /// with which it was started.
  func folder() throws -> (path: String, resuming: Bool) {
    switch (run, resume) {
    case (nil, nil):
      throw ValidationError("give --run FOLDER for a new run or --resume FOLDER to go on")
    case (.some, .some): throw ValidationError("--run and --resume exclude each other")
    case (.some(let path), nil): return (path, false)
    case (nil, .some(let path)):
      if config != nil || !overrides.isEmpty || seed != nil || steps != nil {
        throw ValidationError(
          "a resumed run keeps its configuration: drop --config, --set, --seed and --steps")
      }
      return (path, true)
    }
  }
  /// The run file and the overrides over the defaults, or over `published` ones.
  func settings<S: TrainingSettings>(_ common: CommonOptions, over published: S = S()) throws -> S {
    let (path, resuming) = try folder()
    StopRequest.install(grace: stopWithin)
    var list = overrides
    if let steps { list.append("steps=\(steps)") }
    if let seed { list.append("seed=\(seed)") }
    let settings: S = try SettingsReader.read(
      over: published, file: resuming ? "\(path)/config.json" : config, overrides: list,
      note: { common.note($0) })
    common.use(settings.compute_dtype)
    return settings
  }
  /// The inputs of the run, which `RunInputs` compares with those at its beginning.
  func inputs(_ command: String, _ common: CommonOptions) throws -> RunInputs {
    let (path, resuming) = try folder()
    let inputs = try RunInputs(run: path, isResumed: resuming, command: command)
    if inputs.lacksRecord && TextFile.exists("\(path)/config.json") {
      common.note(
        """
        the run has no run.json (it was begun by an earlier version): give its data, models and \
        sizes as they were
        """
      )
    }
    return inputs
  }
  /// Refuses impossible sizes.
  func check(_ problem: String?) throws {
    if let problem {
      throw ConfigurationError(problem, config ?? "configuration", "correct the model section")
    }
  }

  /// Refuses more parts of a step than it has clips.
  func check(accumulation: Int, of clips: Int) throws {
    if accumulation > clips {
      throw ConfigurationError(
        "\(accumulation) parts of a step of \(clips)", "accumulation", "give at most \(clips)")
    }
  }
  /// Refuses a run whose first step needs more memory than the machine has, before any is taken:
  /// the task is made and the step is run without their arithmetic.
  func plan<T: TrainingTask>(
    _ make: (borrowing Workspace) throws -> T, in work: borrowing Workspace
  ) throws {
    try MemoryBudget.plan(work.pool) { planned in
      var task = try make(planned)
      for kind in task.kindsOfStep(from: 0) { _ = try task.step(kind, in: planned) }
    }
  }

  /// Runs a task in its folder, then writes the model to `<run>/model`.
  func execute(
    _ task: inout some TrainingTask, settings: some Settings, _ inputs: RunInputs,
    _ loop: TrainingLoop.Options, _ common: CommonOptions, in work: borrowing Workspace
  ) async throws {
    let (path, resuming) = try folder()
    if let note = inputs.otherBits { common.note(note) }
    let configuration = try SettingsReader.resolved(settings)
    let record = JSONValue.object(inputs.record)
    let cluster = Cluster.current
    try ClusterStart.same(configuration.line, what: "configuration", path)
    try ClusterStart.same(record.line, what: "set of models, data or sizes", path)
    if let leaves = task.leaves, leaves < cluster.size {
      throw ClusterStart.Disagreement(
        message: Failure.Message(
          64, "\(cluster.size) ranks for the \(leaves) parts of a step", "accumulation",
          "raise accumulation, or start fewer ranks"))
    }
    let directory =
      cluster.isFirst
      ? try RunDirectory(
        path, resuming: resuming, configuration: configuration, environment: Environment.json,
        record: record) : nil
    try cluster.barrier()
    let outcome: TrainingLoop.Outcome
    do {
      outcome = try await TrainingLoop.run(
        &task, in: directory, resuming: resuming, loop, work: work
      ) { common.note($0) }
    } catch let error as ClusterError where error.status == ClusterError.lost {
      // A launcher that has lost a host may outlive its ranks; a job script can look for this file.
      try? OutputFile.write("\(error.status)\n", to: "\(path)/ended")
      throw error
    }
    if cluster.isFirst { try RunReport.write(run: path) }
    if case .stopped(let step) = outcome {
      common.note("stopped after step \(step); go on with --resume \(path)")
      throw Failure.Status(code: 75)
    }
    let trained = try task.collected(in: work)
    if !cluster.isFirst { return }
    try AtomicDirectory.write(to: "\(path)/model") { (folder) throws(FileError) in
      do { try trained.export(to: folder) } catch let error as FileError { throw error } catch {
        throw FileError(
          .cannotCreate, "cannot export the model", in: "\(path)/model", mend: "\(error)")
      }
    }
    common.note("the trained model is in \(path)/model")
  }
}
