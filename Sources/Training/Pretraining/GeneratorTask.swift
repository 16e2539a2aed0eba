import Cluster
public import Diffusion
public import Files
public import Layers
public import Models
public import Pipelines
public import TensorRuntime

/// The settings of `train generator`.
public struct GeneratorSettings: TrainingSettings {
  public enum Network: String, Codable, Sendable, CaseIterable { case transformer, unet }
  @Setting(
    .choice(Network.self),
    "HunyuanVideo's transformer (model.*), a flow, or VideoCrafter2's UNet (unet.*), diffusion.")
  public var network = Network.transformer
  @Setting(keys: ModelKeys.transformer) public var model = TransformerConfig()
  @Setting(keys: ModelKeys.unet) public var unet = VideoUNetConfig()
  @Setting(.computeType) public var compute_dtype = Machine.ComputeType.f32
  @Setting(.moments) public var moments = AdamW.Moments.f32
  @Setting(.parameters) public var parameters = ParameterStorage.f32
  @Setting(.seed, "Seed.") public var seed = 1
  @Setting(.steps, "Optimiser steps.") public var steps = 8000
  @Setting(.batch, "Clips of a step.") public var batch = 96
  @Setting(
    .batch,
    "Parts of a step that are computed one after the other, or by several ranks; at most batch.")
  public var accumulation = 1
  public struct Processes: Codable, Sendable, Equatable {
    @Setting(.group) public var group = 1
    @Setting(.strips) public var strips = 1
    @Setting(.sums) public var sums = GradientSums.late
    public init() {}
  }
  public var cluster = Processes()
  @Setting(
    .whole(1...100_000_000),
    "Clips of the world, encoded once before training; a dataset is used whole.") public var clips =
    16384
  @Setting(.learningRate, "Learning rate.") public var learning_rate = 8e-4
  @Setting(.warmup, "Steps of linear rise.") public var warmup = 80
  @Setting(.share, "Learning rate at the end, as a share.") public var final_rate = 0.05
  @Setting(.share, "Share of the steps at the full rate, before it falls in a straight line.")
  public var hold = 0.5
  @Setting(.beta, "Decay of AdamW's second moment.") public var beta2 = 0.99
  @Setting(.weightDecay, "Weight decay of AdamW.") public var weight_decay = 0.0
  @Setting(.gradientNorm, "Largest norm of the gradient.") public var max_grad_norm = 1.0
  @Setting(
    .real(0..<1, zero: "the last step alone"), "Decay of the moving average that is exported.")
  public var ema_decay = 0.998
  @Setting(.share, "Share of the prompts replaced by the empty one, for guidance.") public
    var drop_prompt = 0.1
  @Setting(
    .share,
    """
    Share of the captions wrong in one attribute, as on the web; drawn anew at every step, of the \
    world only.
    """
  )
  public var caption_noise = 0.0
  @Setting(
    .shift, "Flow: shift s of the levels s u / (1 + (s - 1) u), u the logistic of a normal.")
  public var shift = 3.0
  @Setting(.embeddedGuidance, "Embedded guidance, 1000 times the scale.") public
    var embedded_guidance = 6016.0
  @Setting(
    .real(0...1000, zero: "off"),
    "Guidance to distil: v∅ + w (v - v∅) of the first model is then the target.")
  public var distil_guidance = 0.0
  @Setting(.real(0.1...1000), "Frames a second that the network is told, if it embeds them.")
  public var fps = 8.0
  @Setting(.every, "Steps between checkpoints.") public var checkpoint_every = 250
  @Setting(.every, "Steps between pictures of progress.") public var sample_every = 0
  @Setting(
    .list(of: .whole(1...), count: 0...1000),
    "Steps at which the averaged model is also kept, under early/step-N.")
  public var keep_at: [Int] = []
  public init() {}
}

extension GeneratorSettings {
  /// What the parts around the network say of it.
  public mutating func fit(channels: Int, textWidth: Int) {
    (model.inChannels, model.outChannels, unet.inChannels, unet.outChannels) = (
      channels, channels, channels, channels
    )
    (model.textEmbedDim, model.pooledProjectionDim, unet.contextDim) = (
      textWidth, textWidth, textWidth
    )
  }
  /// How the network's family makes data.
  public var process: GenerativeProcess {
    guard network == .unet else { return .flow(shift: shift) }
    var parameters = DiffusionSchedule.Parameters()
    parameters.useScale = false
    return .diffusion(parameters)
  }
  /// The fault in the sizes of the network; nil if there is none.
  public var problem: String? { network == .unet ? unet.problem : model.problem }
  /// By what latent frames, rows and columns must be divisible.
  public var latentDivisors: SIMD3<Int> {
    network == .unet ? SIMD3(1, unet.spatialDivisor, unet.spatialDivisor) : model.patch
  }
}

/// Trains a generator's network by flow matching, mean (v - (ε - z))² (Lipman et al. 2023,
/// arXiv:2210.02747), or to predict noise, mean (ε̂ - ε)² (Ho et al. 2020, arXiv:2006.11239, eq.
/// 14); or distils classifier-free guidance into it (Meng et al. 2023, arXiv:2210.03142, stage one,
/// at one fixed weight).
public struct GeneratorTask<Model: VideoDenoiser>: TrainingTask {
  let settings: GeneratorSettings
  let source: ClipSource
  let frozen: FrozenModels
  /// Latents of the clips, scaled, `[N, C, n, h, w]`.
  let latents: Tensor
  let early: String
  /// Copies text encoder, autoencoder and scheduler into an exported generator directory.
  let components: @Sendable (String) throws -> Void
  /// The network at the start, which is the teacher when guidance is distilled.
  let teacher: Model?
  /// The ranks that share a leaf.
  let groups: RankGroups
  var training: TrainableModel<Model>
  private var model: Model {
    get { training.model }
    _modify { yield &training.model }
  }

  /// `early` is the folder of the models kept before the end.
  public init(
    _ settings: GeneratorSettings, source: ClipSource, frozen: FrozenModels,
    model: Model, early: String,
    components: @escaping @Sendable (String) throws -> Void, report: (String) -> Void,
    in work: borrowing Workspace
  ) throws {
    var frozen = frozen
    frozen.prompts = frozen.prompts.at(framesPerSecond: Float(settings.fps))
    (self.settings, self.source, self.frozen, self.early, self.components) = (
      settings, source, frozen, early, components
    )
    groups = RankGroups(
      group: settings.cluster.group, strips: settings.cluster.strips,
      sums: settings.cluster.sums)
    latents = try source.latents(
      settings.clips, of: frozen.encoder, times: frozen.encoder.geometry.scalingFactor, atOnce: 64,
      isShared: true,
      in: work
    ) { report("encoded \($0) of \(settings.clips) clips") }
    try groups.check(model, latentShape: Array(latents.shape.dims.dropFirst()))
    var model = model
    teacher = settings.distil_guidance > 0 ? model : nil
    model.makeTrainable(in: work)
    training = TrainableModel(
      model,
      .init(
        beta2: settings.beta2, weightDecay: settings.weight_decay, moments: settings.moments),
      parameters: settings.parameters, averageDecay: settings.ema_decay, in: work)
  }
  public var totalSteps: Int { settings.steps }
  public var leaves: Int? { settings.accumulation * groups.size }

  public mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    let b = settings.batch
    let seed = UInt64(settings.seed)
    var order = RandomStream(seed: seed, .order, step: step)
    var words = RandomStream(seed: seed, .caption, step: step)
    var levels = RandomStream(seed: seed, .timestep, step: step)
    let indices = (0..<b).map { _ in order.below(latents.shape[0]) }
    var captions = source.captions(indices, noise: settings.caption_noise, drawing: &words)
    for i in 0..<b where order.uniform() < settings.drop_prompt { captions[i] = "" }
    let at = (0..<b).map { _ in
      frozen.process.drawnLevel(shift: settings.shift, drawing: &levels)
    }
    let noise = RandomStream(seed: seed, .noise, step: step).normal(
      Shape([b] + latents.shape.dims.dropFirst()), in: work)
    var sum = LeafSum(leaves: settings.accumulation, groups)
    for leaf in sum.mine(in: work) where !sum.hasFailed {
      sum.begin(&training, in: work)
      let rows = LeafSum.rows(leaf, of: settings.accumulation, count: b)
      let loss = denoise(
        Array(indices[rows]), Array(captions[rows]), at: Array(at[rows]),
        noise: rows.count == b ? noise : work.copy(noise.slice(rows)),
        share: Double(rows.count) / Double(b), in: work)
      sum.add([loss], from: &training, leaf: leaf, in: work)
    }
    let loss = try sum.finish(&training, in: work).reduce(0) { $0 + $1[0] }

    let schedule = LearningRateSchedule.holdThenLinear(
      hold: settings.hold, floor: settings.final_rate)
    let rate = schedule.rate(
      settings.learning_rate, step: step, of: settings.steps, warmup: settings.warmup)
    let decay = min(settings.ema_decay, Double(1 + step) / Double(10 + step))
    let norm = try training.update(
      loss: loss, rate: rate, maximumNorm: settings.max_grad_norm, averageDecay: decay, step: step,
      in: work)
    if settings.keep_at.contains(step + 1) && !work.isPlanned {
      let kept = try collected(in: work)
      if Cluster.current.isFirst { try kept.export(to: "\(early)/step-\(step + 1)") }
    }
    return StepRecord(loss: loss, gradientNorm: norm, learningRate: rate, samples: b)
  }

  /// Adds the gradients of some clips of a step, `share` of them; returns their part of the loss.
  private mutating func denoise(
    _ indices: [Int], _ captions: [String], at levels: [TrainingLevel], noise: Tensor,
    share: Double,
    in work: borrowing Workspace
  ) -> Double {
    let z = work.gather(
      latents.reshaped(Shape(latents.shape[0], latents.count / latents.shape[0])),
      indices.map { Int32($0) }
    ).reshaped(Shape([indices.count] + latents.shape.dims.dropFirst()))
    let x = work.noised(z, noise, at: levels)
    let guidance =
      model.embedsGuidance
      ? Array(repeating: Float(settings.embedded_guidance), count: indices.count) : nil
    let times = levels.map(\.time)
    let prompt = frozen.prompts(captions, in: work)
    let rows = groups.rows
    let (v, saved) = model.predict(
      x, times: times, prompt, guidance: guidance, keeping: .all, sharing: rows, in: work)
    let target: Tensor
    if let teacher {
      let with = teacher(
        x, times: times, prompt, guidance: guidance, sharing: rows, in: work)
      let without = teacher(
        x, times: times, frozen.prompts(captions.map { _ in "" }, in: work), guidance: guidance,
        sharing: rows, in: work)
      target = work.combine(settings.distil_guidance, with, 1 - settings.distil_guidance, without)
    } else {
      let ideal = frozen.process.ideal
      target = work.combine(ideal.noise, noise, ideal.data, z)
    }
    var (loss, dv) = work.meanSquaredError(v, target: target)
    if share < 1 { work.scale(&dv, by: share) }
    model.predictBackward(dv, consume saved, in: work)
    return share * loss
  }

  public func state() -> TrainingState {
    training.state("model.")
  }
  public func collected(in work: borrowing Workspace) throws -> Self {
    var copy = self
    copy.training = try training.collected(in: work)
    return copy
  }
  public mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws {
    try training.restore("model.", from: &state, in: work)
  }
  /// Samples of the averaged model for the first captions.
  public func samples(step: Int, in work: borrowing Workspace) throws -> [[Tensor]] {
    guard let preview = frozen.preview else { return [] }
    let sampler: any LatentSampler =
      switch frozen.process {
      case .flow:
        FlowSampler(
          steps: 16, shift: settings.shift, guidanceScale: 1,
          embeddedGuidance: settings.embedded_guidance)
      case .diffusion(let parameters):
        DDIMSampler(DiffusionSchedule(parameters), steps: 20, eta: 0, guidanceScale: 1)!
      }
    let seed = UInt64(settings.seed)
    var words = RandomStream(seed: seed, .caption)
    let count = min(4, latents.shape[0])
    let captions = source.captions(Array(0..<count), drawing: &words)
    let noise = RandomStream(seed: seed, .evaluation).normal(
      Shape([count] + latents.shape.dims.dropFirst()), in: work)
    let clips = preview(
      sampler.sample(training.averaged, noise: noise, captions: captions, frozen.prompts, in: work),
      in: work)
    return (0..<count).map { [work.copy(clips[row: $0])] }
  }
  /// A generator directory: the averaged network and its components.
  public func export(to folder: String) throws {
    try GeneratorFolder.write(training.averaged, to: folder)
    try components(folder)
  }
}

/// The models around a generator's network, which are not trained, and what is made of them.
public struct FrozenModels: Sendable {
  let process: GenerativeProcess
  let encoder: LatentEncoder
  var prompts: any PromptEmbedder
  /// Draws samples for the report; nil if none are asked for.
  let preview: LatentDecoder?
  public init(
    process: GenerativeProcess, encoder: LatentEncoder, prompts: any PromptEmbedder,
    preview: LatentDecoder?
  ) {
    (self.process, self.encoder, self.prompts, self.preview) = (
      process, encoder, prompts, preview
    )
  }
}
