import ArgumentParser
import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import Training
import World

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
    try common.startRanks()
    var settings: EncoderSettings = try options.settings(common)
    try settings.check()
    let inputs = try options.inputs("encoders", common)
    let clips = try clips.settled(inputs)
    let initial = try inputs.path("initial", initial)
    let vae = try inputs.path("vae", vae)
    let generators = try inputs.paths("generator", generator)
    let generated = try inputs.paths("generated", generated)
    let vocab = try inputs.path("vocab", vocab)
    let work = try options.workspace()
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
    let autoencoder = AutoencoderFolder(folder)
    let (encoder, decoder) = (try autoencoder.encoder(), try autoencoder.decoder())
    return { clips, work in
      decoder(work.scaled(encoder(clips, in: work), by: decoder.scalingFactor), in: work)
    }
  }
}
