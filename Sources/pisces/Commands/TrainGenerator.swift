import ArgumentParser
import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import Training

struct TrainGenerator: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generator",
    abstract: "A generator's network: a flow, or a UNet that predicts noise.")
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
    let work = try options.workspace()
    let source = try await clips.source(seed: settings.seed, common, in: work)
    let autoencoder = AutoencoderFolder(vae)
    let geometry = try autoencoder.geometry()
    let prompts = try GeneratorFolder.promptEncoder(textEncoder)
    settings.fit(channels: geometry.latentChannels, textWidth: prompts.encoder.config.hiddenSize)
    if case .clips(let list, let captions) = source {
      settings.clips = list.count
      common.noteCut(captions) { prompts.truncation(of: $0) }
    }
    try options.check(settings.problem)
    try options.check(accumulation: settings.accumulation, of: settings.batch)
    try RankGroups.check(group: settings.cluster.group, strips: settings.cluster.strips)
    if let note = RankGroups.note(group: settings.cluster.group) { common.note(note) }
    try geometry.check(
      frames: source.canvas.frames, height: source.canvas.height, width: source.canvas.width,
      patch: settings.latentDivisors)
    try source.check(noise: settings.caption_noise)
    if settings.distil_guidance > 0 && initial == nil {
      throw ConfigurationError(
        "nothing to distil guidance from", "distil_guidance",
        "give --initial DIR, or set distil_guidance to 0")
    }
    let (path, _) = try options.folder()
    let components = PipelineComponents(
      vae: vae, textEncoder: textEncoder, process: settings.process)
    let frozen = FrozenModels(
      process: settings.process, encoder: try autoencoder.encoder(), prompts: prompts,
      preview: settings.sample_every > 0 ? try autoencoder.decoder() : nil)
    let chosen = settings
    func execute<Model: VideoDenoiser>(_ config: Model.Config, _: Model.Type) async throws {
      let parameters =
        try initial.map { try WeightHolder.opening("\($0)/\(Model.component.folder)").source }
        ?? .random(seed: UInt64(chosen.seed))
      let model = try Model(config, from: parameters)
      func make(_ work: borrowing Workspace, report: (String) -> Void) throws
        -> GeneratorTask<Model>
      {
        try GeneratorTask(
          chosen, source: source, frozen: frozen, model: model, early: "\(path)/early",
          components: { try components.write(to: $0) }, report: report, in: work)
      }
      try options.plan({ try make($0) { _ in } }, in: work)
      var task = try make(work) { common.note($0) }
      try await options.execute(
        &task, settings: chosen, inputs,
        .init(checkpointEvery: chosen.checkpoint_every, sampleEvery: chosen.sample_every), common,
        in: work)
    }
    switch settings.network {
    case .transformer: try await execute(settings.model, VideoTransformer.self)
    case .unet: try await execute(settings.unet, VideoUNet.self)
    }
  }
}
