import ArgumentParser
import Configuration
import Files
import FoundationEssentials
import Layers
import Models
import Pretraining
import TensorRuntime
import Training
import World

struct Train: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Train a network.", subcommands: [TrainVAE.self])
}

/// What every training command can be told.
struct TrainingOptions: ParsableArguments {
  @Option(help: "Run file, YAML or JSON; unknown keys are errors.") var config: String?
  @Option(name: .customLong("set"), parsing: .singleValue, help: "Override one key: --set steps=100.") var overrides: [String] = []
  @Option(help: "Folder of a new run.") var run: String?
  @Option(help: "Go on with the run in this folder.") var resume: String?
  @Option(help: "Number of steps (overrides the run file).") var steps: Int?
  @Option(help: "Seed (overrides the run file).") var seed: Int?

  /// The run's folder, and whether it is resumed. A resumed run reads the configuration it was started with.
  func folder() throws -> (path: String, resuming: Bool) {
    switch (run, resume) {
    case (nil, nil): throw ValidationError("give --run FOLDER for a new run or --resume FOLDER to go on")
    case (.some, .some): throw ValidationError("--run and --resume exclude each other")
    case (.some(let path), nil): return (path, false)
    case (nil, .some(let path)):
      if config != nil || !overrides.isEmpty || seed != nil || steps != nil { throw ValidationError("a resumed run keeps its configuration: drop --config, --set, --seed and --steps") }
      return (path, true)
    }
  }
  func settings<S: Settings>(_: S.Type = S.self) throws -> S {
    let (path, resuming) = try folder()
    var list = overrides
    if let steps { list.append("steps=\(steps)") }
    if let seed { list.append("seed=\(seed)") }
    return try SettingsReader.read(file: resuming ? "\(path)/config.json" : config, overrides: list)
  }
}

extension TrainingOptions {
  /// Runs a task in its folder, then writes the model to `<run>/model`.
  func execute(_ task: inout some TrainingTask, settings: some Settings, _ loop: TrainingLoop.Options, _ common: CommonOptions, in work: borrowing Workspace) async throws {
    let (path, resuming) = try folder()
    let directory = try RunDirectory(path, resuming: resuming, configuration: try SettingsReader.resolved(settings), environment: Environment.json)
    StopRequest.install()
    let outcome = try await TrainingLoop.run(&task, in: directory, resuming: resuming, loop, work: work) { common.note($0) }
    if case .stopped(let step) = outcome {
      common.note("stopped after step \(step); go on with --resume \(path)")
      throw Failure.Status(code: 75)
    }
    try AtomicDirectory.write(to: "\(path)/model") { (folder) throws(FileError) in
      do { try task.export(to: folder) } catch let error as FileError { throw error } catch {
        throw FileError(.cannotCreate, "cannot export the model", in: "\(path)/model", mend: "\(error)")
      }
    }
    common.note("the trained model is in \(path)/model")
  }
}

struct TrainVAE: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "vae", abstract: "The causal video autoencoder.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: TrainingOptions

  func run() async throws {
    try common.start()
    let settings: AutoencoderSettings = try options.settings()
    if let problem = settings.model.problem { throw ConfigurationError(problem, options.config ?? "configuration", "correct the model section") }
    let work = Workspace()
    let source = ClipSource.world(SceneSampler(.standard, seed: UInt64(settings.seed)), Renderer())
    var task = try AutoencoderTask(settings, source: source, parameters: .random(seed: UInt64(settings.seed)), in: work)
    try await options.execute(&task, settings: settings, .init(checkpointEvery: settings.checkpoint_every, sampleEvery: settings.sample_every), common, in: work)
  }
}
