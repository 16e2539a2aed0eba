public import Files
public import Layers
public import Models
import Pipelines
public import TensorRuntime

/// The settings of `train vae`.
public struct AutoencoderSettings: TrainingSettings {
  public enum Network: String, Codable, Sendable, CaseIterable { case clips, frames }
  @Setting(
    .choice(Network.self),
    "HunyuanVideo's autoencoder of clips (model.*), or Stable Diffusion's of frames (image.*).")
  public var network = Network.clips
  @Setting(keys: ModelKeys.autoencoder) public var model = AutoencoderConfig()
  @Setting(keys: ModelKeys.imageAutoencoder) public var image = ImageAutoencoderConfig()
  @Setting(.computeType) public var compute_dtype = Machine.ComputeType.f32
  @Setting(.moments) public var moments = AdamW.Moments.f32
  @Setting(.parameters) public var parameters = ParameterStorage.f32
  @Setting(.seed, "Seed.") public var seed = 1
  @Setting(.steps, "Optimiser steps.") public var steps = 10000
  @Setting(.share, "Share of the steps, from the first on, that see single frames.") public
    var single_frame_share = 0.3
  @Setting(.batch, "Single frames of a step.") public var frames_per_step = 20
  @Setting(.batch, "Clips of a step.") public var clips_per_step = 3
  @Setting(
    .batch,
    """
    Parts of a step that are computed one after the other, or by several ranks; at most its clips.
    """) public var accumulation = 1
  @Setting(.learningRate, "Learning rate.") public var learning_rate = 1e-3
  @Setting(.warmup, "Steps of linear rise.") public var warmup = 50
  @Setting(.share, "Learning rate at the end, as a share.") public var final_rate = 0.02
  @Setting(.weightDecay, "Weight decay of AdamW.") public var weight_decay = 0.0
  @Setting(.gradientNorm, "Largest norm of the gradient.") public var max_grad_norm = 1.0
  @Setting(.weight, "Weight of pixels on or next to an object.") public var foreground_weight = 5.0
  @Setting(.weight, "Weight of the KL term, of each latent element.") public var kl_weight = 1e-3
  @Setting(.real(0..<1, zero: "no average"), "Decay of the moving average that is exported.") public
    var ema_decay = 0.0
  @Setting(.every, "Steps between checkpoints.") public var checkpoint_every = 500
  @Setting(.every, "Steps between pictures of progress.") public var sample_every = 0
  public init() {}
}

extension AutoencoderSettings {
  /// The fault in the sizes of the network; nil if there is none.
  public var problem: String? { network == .frames ? image.problem : model.problem }
  public var geometry: any ClipGeometry { network == .frames ? image : model }
  /// The task of the network that is asked for.
  public func task(
    source: ClipSource, parameters: ParameterSource, in work: borrowing Workspace
  ) throws -> any TrainingTask {
    switch network {
    case .clips:
      try AutoencoderTask(
        self, try ClipAutoencoder(model, from: parameters), source: source, in: work)
    case .frames:
      try AutoencoderTask(
        self, try FrameAutoencoder(image, from: parameters), source: source, in: work)
    }
  }
}

/// Trains an autoencoder. The loss is a weighted |e| + e²/2 on pixels plus the KL divergence
/// (Kingma, Welling 2014).
struct AutoencoderTask<Model: TrainedAutoencoder>: TrainingTask {
  let settings: AutoencoderSettings
  let source: ClipSource
  var training: TrainableModel<Model>
  private var model: Model {
    get { training.model }
    _modify { yield &training.model }
  }

  init(
    _ settings: AutoencoderSettings, _ fresh: Model, source: ClipSource,
    in work: borrowing Workspace
  ) throws {
    (self.settings, self.source) = (settings, source)
    var model = fresh
    model.makeTrainable(in: work)
    training = TrainableModel(
      model, .init(weightDecay: settings.weight_decay, moments: settings.moments),
      parameters: settings.parameters,
      averageDecay: settings.ema_decay > 0 ? settings.ema_decay : nil, in: work)
  }
  var totalSteps: Int { settings.steps }
  private func isSingle(_ step: Int) -> Bool {
    Double(step) < settings.single_frame_share * Double(settings.steps)
  }
  func kindsOfStep(from step: Int) -> [Int] {
    let last = settings.steps - 1
    return isSingle(step) && !isSingle(last) ? [step, last] : [step]
  }

  /// Single frames or clips of a step.
  private func count(_ step: Int) -> Int {
    isSingle(step) ? settings.frames_per_step : settings.clips_per_step
  }
  /// Rows of a step: pixels in [-1, 1], `[B, 3, T, H, W]`, and their weights, of the same shape.
  private func batch(_ step: Int, _ rows: Range<Int>, in work: borrowing Workspace) -> (
    pixels: Tensor, weights: Tensor
  ) {
    let count = count(step)
    var order = RandomStream(seed: UInt64(settings.seed), .order, step: step)
    // The stream of the world is endless. A fixed set is drawn with replacement.
    let indices = (0..<count).map { _ in order.below(1 << 30) }
    var clips = source.clips(Array(indices[rows]), in: work)
    var weights = ForegroundWeights.compute(
      clips, weight: Float(settings.foreground_weight), in: work)
    if isSingle(step) {
      let frames = indices.map { _ in order.below(clips.shape[1]) }[rows]
      func pick(_ t: Tensor) -> Tensor {
        work.stacked(frames.enumerated().map { i, f in t[row: i].slice(f..<f + 1) })
      }
      (clips, weights) = (pick(clips), pick(weights))
    }
    return (PixelRange.centered(clips, in: work), work.permuted(weights, [0, 2, 1, 3, 4]))
  }

  var leaves: Int? { settings.accumulation }

  mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    let count = count(step)
    var sum = LeafSum(leaves: settings.accumulation)
    for leaf in sum.mine(in: work) where !sum.hasFailed {
      sum.begin(&training, in: work)
      let rows = LeafSum.rows(leaf, of: settings.accumulation, count: count)
      sum.add(reconstruct(step, rows, of: count, in: work), from: &training, leaf: leaf, in: work)
    }
    let terms = try sum.finish(&training, in: work)
    let (reconstruction, kl) = terms.reduce((0, 0)) { ($0.0 + $1[0], $0.1 + $1[1]) }
    let loss = reconstruction + settings.kl_weight * kl
    let rate = LearningRateSchedule.cosine(floor: settings.final_rate).rate(
      settings.learning_rate, step: step, of: settings.steps, warmup: settings.warmup)
    let decay = min(settings.ema_decay, Double(1 + step) / Double(10 + step))
    let norm = try training.update(
      loss: loss, rate: rate, maximumNorm: settings.max_grad_norm, averageDecay: decay, step: step,
      in: work)
    return StepRecord(
      loss: loss, terms: [("reconstruction", reconstruction), ("kl", kl)],
      gradientNorm: norm, learningRate: rate, samples: count)
  }
  /// Adds the gradients of rows of a step; returns their parts of the reconstruction loss and of
  /// the KL divergence of a latent element.
  private mutating func reconstruct(
    _ step: Int, _ rows: Range<Int>, of count: Int, in work: borrowing Workspace
  ) -> [Double] {
    let share = Double(rows.count) / Double(count)
    let (x, weights) = batch(step, rows, in: work)
    let (moments, es) = model.encode(x, in: work)
    let posterior = LatentPosterior(moments, in: work)
    let all = RandomStream(seed: UInt64(settings.seed), .latent, step: step).normal(
      Shape([count] + posterior.mean.shape.dims.dropFirst()), in: work)
    let noise = rows.count == count ? all : work.copy(all.slice(rows))
    let (z, kl) = work.sampleNormal(
      mean: posterior.mean, logVariance: posterior.logVariance, noise: noise)
    let (y, ds) = model.decode(z, in: work)
    var (reconstruction, dy) = work.weightedL1L2(y, target: x, weight: weights)
    if share < 1 { work.scale(&dy, by: share) }
    let klWeight = share * settings.kl_weight / Double(z.count)
    let dz = model.decodeBackward(dy, ds, in: work)
    let (dMean, dLog) = work.sampleNormalBackward(
      dz, klWeight: klWeight, mean: posterior.mean, logVariance: posterior.logVariance, noise: noise
    )
    model.encodeBackward(
      posterior.backward(dMean, dLog, moments: moments, in: work), es, in: work)
    return [share * reconstruction, share * kl / Double(z.count)]
  }

  func state() -> TrainingState {
    training.state("model.")
  }
  func collected(in work: borrowing Workspace) throws -> Self {
    var copy = self
    copy.training = try training.collected(in: work)
    return copy
  }
  mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws {
    try training.restore("model.", from: &state, in: work)
  }

  /// The first four clips, each beside its reconstruction.
  func samples(step: Int, in work: borrowing Workspace) throws -> [[Tensor]] {
    let shown = training.averaged
    let clips = source.clips((0..<4).map { $0 }, in: work)
    let moments = shown.encode(PixelRange.centered(clips, in: work), in: work).moments
    let back = PixelRange.unit(
      shown.decode(LatentPosterior(moments, in: work).mean, in: work).pixels, in: work)
    return (0..<4).map { [work.copy(clips[row: $0]), work.copy(back[row: $0])] }
  }
  /// A `vae/` folder. The scaling factor becomes 1/std of the latents of 64 clips.
  func export(to folder: String) throws {
    let work = Workspace()
    let final = training.averaged
    let latents = try source.latents(
      64, of: final.latentEncoder, times: 1, atOnce: settings.clips_per_step, in: work)
    let n = Double(latents.count)
    let sum = work.total(latents)
    let squares = work.sumOfSquares(latents)
    try final.write(
      scalingFactor: 1 / (squares / n - sum / n * (sum / n)).squareRoot(), to: folder)
  }
}
