import ArgumentParser
import Evaluation
import Files
import FoundationEssentials
import Layers
import Models
import Pipelines
import TensorRuntime
import Training
import World

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
  func settings<S: TrainingSettings>(_ common: CommonOptions) throws -> S {
    let (path, resuming) = try folder()
    StopRequest.install()
    var list = overrides
    if let steps { list.append("steps=\(steps)") }
    if let seed { list.append("seed=\(seed)") }
    let settings: S = try SettingsReader.read(
      file: resuming ? "\(path)/config.json" : config, overrides: list,
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
    let directory = try RunDirectory(
      path, resuming: resuming, configuration: try SettingsReader.resolved(settings),
      environment: Environment.json, record: .object(inputs.record))
    let outcome = try await TrainingLoop.run(
      &task, in: directory, resuming: resuming, loop, work: work
    ) { common.note($0) }
    try RunReport.write(run: path)
    if case .stopped(let step) = outcome {
      common.note("stopped after step \(step); go on with --resume \(path)")
      throw Failure.Status(code: 75)
    }
    try AtomicDirectory.write(to: "\(path)/model") { (folder) throws(FileError) in
      do { try task.export(to: folder) } catch let error as FileError { throw error } catch {
        throw FileError(
          .cannotCreate, "cannot export the model", in: "\(path)/model", mend: "\(error)")
      }
    }
    common.note("the trained model is in \(path)/model")
  }
}

/// Training clips: the built-in world, or a dataset of the user.
struct ClipOptions: ParsableArguments {
  @Option(
    in: .path, help: "Dataset: folder, JSON Lines or tar shards; default: the built-in world.")
  var data: String?
  @Option(in: .frames, help: "Frames of a clip; default: 9.") var frames: Int?
  @Option(in: .pixels, help: "Side of a clip in pixels; default: 32.") var size: Int?
  @OptionGroup var world: WorldOption
  @Flag(help: "A broken sample is an error instead of being skipped.") var strict = false

  /// The clips of a run, as given or as recorded.
  func settled(_ inputs: RunInputs) throws -> SettledClips {
    let data = try inputs.path("data", data) { try Dataset($0).fingerprint() }
    return SettledClips(
      data: data, frames: try inputs.number("frames", frames, default: 9),
      size: try inputs.number("size", size, default: 32), world: try world.settled(inputs),
      strict: try inputs.flag("strict", strict))
  }
}

/// The clips a run trains on.
struct SettledClips {
  let data: String?, frames, size: Int, world: WorldOption.Kind, strict: Bool

  var scenes: SceneSettings { world.scenes }
  func source(seed: Int, _ common: CommonOptions, in work: borrowing Workspace) async throws
    -> ClipSource
  {
    guard let data else {
      if frames < 5 || size < 16 {
        throw ValidationError("the world needs --frames of at least 5 and --size of at least 16")
      }
      return .world(
        SceneSampler(scenes, seed: UInt64(seed)),
        Renderer(Canvas(height: size, width: size, frames: frames)))
    }
    let (clips, captions) = try await ClipLoader(frames: frames, size: size).load(
      try Dataset(data), strict: strict, in: work
    ) { common.note($0) }
    return .clips(clips, captions: captions)
  }
}

struct TrainVAE: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vae", abstract: "The causal video autoencoder.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: TrainingOptions
  @OptionGroup var clips: ClipOptions
  @Option(in: .path, help: "Start from this autoencoder directory instead of random weights.")
  var initial: String?

  func run() async throws {
    try common.start()
    let settings: AutoencoderSettings = try options.settings(common)
    let inputs = try options.inputs("vae", common)
    let clips = try clips.settled(inputs)
    let initial = try inputs.path("initial", initial)
    try options.check(settings.model.problem)
    let work = Workspace()
    let source = try await clips.source(seed: settings.seed, common, in: work)
    try settings.model.check(
      frames: source.canvas.frames, height: source.canvas.height, width: source.canvas.width)
    let parameters =
      try initial.map { try WeightHolder.opening($0).source }
      ?? .random(seed: UInt64(settings.seed))
    func make(_ work: borrowing Workspace) throws -> AutoencoderTask {
      try AutoencoderTask(settings, source: source, parameters: parameters, in: work)
    }
    try options.plan(make, in: work)
    var task = try make(work)
    try await options.execute(
      &task, settings: settings, inputs,
      .init(checkpointEvery: settings.checkpoint_every, sampleEvery: settings.sample_every), common,
      in: work)
  }
}

struct TrainEncoders: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "encoders", abstract: "Video and text encoders with the matching head.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: TrainingOptions
  @OptionGroup var clips: ClipOptions
  @Option(
    in: .path, help: "Vocabulary; default: the world's, or the words of the dataset's captions.")
  var vocab: String?
  @Option(in: .path, help: "Start from this reward-model directory instead of random weights.")
  var initial: String?
  @Option(
    in: .path,
    help:
      "Autoencoder directory whose reconstructions are shown as positives (reconstruction_share).")
  var vae: String?
  @Option(
    parsing: .singleValue, in: .path,
    help:
      """
      Generator directory whose one-step predictions are shown as positives (prediction_share); \
      several take turns.
      """
  )
  var generator: [String] = []
  @Option(
    parsing: .singleValue, in: .path,
    help: "Archives of generated clips, negatives of their own captions (generated_per_step).")
  var generated: [String] = []

  func run() async throws {
    try common.start()
    var settings: EncoderSettings = try options.settings(common)
    try settings.check()
    let inputs = try options.inputs("encoders", common)
    let clips = try clips.settled(inputs)
    let initial = try inputs.path("initial", initial)
    let vae = try inputs.path("vae", vae)
    let generators = try inputs.paths("generator", generator)
    let generated = try inputs.paths("generated", generated)
    let vocab = try inputs.path("vocab", vocab)
    let work = Workspace()
    let source = try await clips.source(seed: settings.seed, common, in: work)
    let words = try vocabulary(source, vocab, clips.scenes)
    settings.model.textEncoder.vocabSize = max(
      settings.model.textEncoder.vocabSize == TextEncoderConfig().vocabSize
        ? 0 : settings.model.textEncoder.vocabSize, words.count)
    try options.check(settings.model.problem)
    try settings.model.visionEncoder.check(frames: source.canvas.frames)
    if case .clips(_, let captions) = source {
      let tokenizer = try WordPieceTokenizer(vocabulary: words)
      common.noteCut(captions) { tokenizer.truncation(of: $0, maxLength: settings.model.maxTxtL) }
    }
    let parameters =
      try initial.map { try WeightHolder.opening($0).source }
      ?? .random(seed: UInt64(settings.seed))
    let examples = try Self.examples(generated)
    try source.check(noise: settings.caption_noise)
    try check(settings, hasGenerators: !generators.isEmpty, hasAutoencoder: vae != nil)
    let predictions = try generators.map { try OneStepPrediction(GeneratorFolder($0)) }
    let chosen = settings
    let loop = TrainingLoop.Options(checkpointEvery: settings.checkpoint_every)
    if settings.stage != .joint {
      func make(_ work: borrowing Workspace) throws -> TowerTask {
        try TowerTask(chosen, source: source, vocabulary: words, parameters: parameters, in: work)
      }
      try options.plan(make, in: work)
      var task = try make(work)
      return try await options.execute(&task, settings: settings, inputs, loop, common, in: work)
    }
    let reconstruct = try vae.map { try Reconstruction.through($0) }
    func make(_ work: borrowing Workspace) throws -> EncoderTask {
      try EncoderTask(
        chosen, source: source, vocabulary: words, reconstruct: reconstruct,
        predictions: predictions, generated: examples, parameters: parameters, in: work)
    }
    try options.plan(make, in: work)
    var task = try make(work)
    try await options.execute(&task, settings: settings, inputs, loop, common, in: work)
  }
  /// The generated clips of all archives, with their captions.
  private static func examples(_ archives: [String]) throws -> (clips: [Tensor], captions: [String])
  {
    var examples: (clips: [Tensor], captions: [String]) = ([], [])
    for path in archives {
      let more = try ClipArchive.read(path)
      examples.clips += more.clips
      examples.captions += more.captions
    }
    return examples
  }
  /// Refuses positives for which a model is missing.
  private func check(_ settings: EncoderSettings, hasGenerators: Bool, hasAutoencoder: Bool) throws
  {
    if settings.prediction_share > 0 && !hasGenerators {
      throw ConfigurationError(
        "no generator to predict with", "prediction_share",
        "give --generator DIR, or set prediction_share to 0")
    }
    if settings.reconstruction_share > 0 && !hasAutoencoder {
      throw ConfigurationError(
        "no autoencoder to reconstruct with", "reconstruction_share",
        "give --vae DIR, or set reconstruction_share to 0")
    }
  }
  private func vocabulary(_ source: ClipSource, _ vocab: String?, _ scenes: SceneSettings) throws
    -> [String]
  {
    if let vocab { return try TextFile.lines(vocab) }
    switch source {
    case .world: return CaptionGrammar.vocabulary(scenes)
    case .clips(_, let captions):
      let words = Set(
        captions.flatMap { $0.lowercased().split { !$0.isLetter && !$0.isNumber }.map(String.init) }
      )
      return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + words.sorted()
    }
  }
}

/// Clips encoded and decoded by an autoencoder, with mean latents.
enum Reconstruction {
  static func through(_ folder: String) throws -> @Sendable (Tensor, borrowing Workspace) -> Tensor
  {
    let config: AutoencoderConfig = try ModelFolder.config(folder)
    let holder = try WeightHolder.opening(folder)
    let encoder = try AutoencoderEncoder(config, from: holder.source)
    let decoder = try AutoencoderDecoder(config, from: holder.source)
    return { clips, work in
      let moments = encoder.forward(PixelRange.centered(clips, in: work), in: work).y
      return PixelRange.unit(
        decoder.forward(LatentPosterior(moments, in: work).mean, in: work).y, in: work)
    }
  }
}

struct TrainGenerator: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generator", abstract: "The velocity network, by flow matching.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: TrainingOptions
  @OptionGroup var clips: ClipOptions
  @Option(in: .path, help: "Autoencoder directory.") var vae: String?
  @Option(in: .path, help: "Text encoder: a reward-model or BERT directory.") var textEncoder:
    String?
  @Option(in: .path, help: "Start from this generator directory instead of random weights.")
  var initial: String?

  func run() async throws {
    try common.start()
    var settings: GeneratorSettings = try options.settings(common)
    let inputs = try options.inputs("generator", common)
    let clips = try clips.settled(inputs)
    let initial = try inputs.path("initial", initial)
    let vae = try inputs.required("vae", vae)
    let textEncoder = try inputs.required("text-encoder", textEncoder)
    let work = Workspace()
    let source = try await clips.source(seed: settings.seed, common, in: work)
    let config: AutoencoderConfig = try ModelFolder.config(vae)
    let prompts = try GeneratorFolder.promptEncoder(textEncoder)
    (settings.model.textEmbedDim, settings.model.pooledProjectionDim) = (
      prompts.encoder.config.hiddenSize, prompts.encoder.config.hiddenSize
    )
    (settings.model.inChannels, settings.model.outChannels) = (
      config.latentChannels, config.latentChannels
    )
    if case .clips(let list, let captions) = source {
      settings.clips = list.count
      common.noteCut(captions) { prompts.truncation(of: $0) }
    }
    try options.check(settings.model.problem)
    try config.check(
      frames: source.canvas.frames, height: source.canvas.height, width: source.canvas.width,
      patch: settings.model.patch)
    try source.check(noise: settings.caption_noise)
    if settings.distil_guidance > 0 && initial == nil {
      throw ConfigurationError(
        "nothing to distil guidance from", "distil_guidance",
        "give --initial DIR, or set distil_guidance to 0")
    }
    let encoder = try AutoencoderEncoder(config, from: try WeightHolder.opening(vae).source)
    let parameters =
      try initial.map { try WeightHolder.opening("\($0)/transformer").source }
      ?? .random(seed: UInt64(settings.seed))
    let (path, _) = try options.folder()
    let components = PipelineComponents(vae: vae, textEncoder: textEncoder, shift: settings.shift)
    let preview =
      settings.sample_every > 0
      ? LatentDecoder(
        try AutoencoderDecoder(config, from: try WeightHolder.opening(vae).source),
        scalingFactor: config.scalingFactor) : nil
    let frozen = GeneratorTask.FrozenModels(
      encoder: encoder, scalingFactor: config.scalingFactor, prompts: prompts, preview: preview)
    let chosen = settings
    func make(_ work: borrowing Workspace, report: (String) -> Void) throws -> GeneratorTask {
      try GeneratorTask(
        chosen, source: source, frozen: frozen, parameters: parameters, early: "\(path)/early",
        components: { try components.write(to: $0) }, report: report, in: work)
    }
    try options.plan({ try make($0) { _ in } }, in: work)
    var task = try make(work) { common.note($0) }
    try await options.execute(
      &task, settings: settings, inputs,
      .init(checkpointEvery: settings.checkpoint_every, sampleEvery: settings.sample_every), common,
      in: work)
  }
}
