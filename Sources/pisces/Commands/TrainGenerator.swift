import ArgumentParser
import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import Training

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
    try common.startRanks()
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
    try options.check(accumulation: settings.accumulation, of: settings.batch)
    try RankGroups.check(group: settings.cluster.group, strips: settings.cluster.strips)
    if let note = RankGroups.note(group: settings.cluster.group) { common.note(note) }
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
