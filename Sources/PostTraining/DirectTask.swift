import Diffusion
import Files
import Layers
public import Models
import Rewards
public import TensorRuntime
public import Training

/// `train post --objective direct`: G accumulation steps of algorithm.md 7.5, then clipping, AdamW
/// and the moving average.
public struct DirectTask: PostTask {
  public let settings: PostSettings
  public private(set) var models: PostModels
  private var training: TrainableModel<VideoTransformer>
  public private(set) var student: VideoTransformer {
    get { training.model }
    _modify { yield &training.model }
  }
  let schedule: NoiseSchedule, phases: PhaseSchedule
  let poolCaptions: [String]
  var pool: LatentPool
  /// Running mean of the velocity drift, over about ten steps.
  private var velocityDrift = 0.0
  /// What the rewards need of each caption, computed when it is first used.
  private var contexts: CaptionCache
  /// Copies the other parts of the generator directory: text encoder, autoencoder, scheduler.
  let components: @Sendable (String) throws -> Void

  /// `pool` holds data latents. With nil, the generator's own samples for `captions` are used
  /// instead.
  public init(
    _ settings: PostSettings, models: PostModels, pool data: LatentPool?, captions: [String],
    latentShape: [Int], components: @escaping @Sendable (String) throws -> Void,
    in work: borrowing Workspace
  ) throws {
    (self.settings, self.models, self.components) = (settings, models, components)
    schedule = NoiseSchedule(
      shift: settings.schedule.shift, steps: settings.schedule.levels,
      end: settings.schedule.end)
    phases = PhaseSchedule(settings.schedule.phases)!
    poolCaptions = captions
    pool =
      data
      ?? LatentPool.sampled(
        models.teacher, settings.sampler, captions: captions, shape: latentShape,
        prompts: models.prompts, noise: RandomStream(seed: UInt64(settings.seed), .latent), in: work
      )
    training = try settings.trainableStudent(
      of: models.teacher, averageDecay: settings.ema.enabled ? settings.ema.decay : nil, in: work)
    contexts = CaptionCache()
  }
  public var totalSteps: Int { settings.steps }
  public var isFinished: Bool {
    settings.post.velocity_drift_limit > 0 && velocityDrift > settings.post.velocity_drift_limit
  }
  /// The student as it would be used: with averaged parameters if an average is kept.
  public var result: VideoTransformer {
    settings.ema.export ? training.averaged : student
  }

  public mutating func step(_ step: Int, phases: StepPhases?, in work: borrowing Workspace) throws
    -> StepRecord
  {
    phases?.begin(in: work)
    let g = settings.accumulation
    refreshPool(step, in: work)
    var direct = DirectStep(schedule, Self.options(settings, self.phases.phases(step: step + 1)))
    var sums = TermSums()
    direct.options.accumulation = g
    direct.options.comparesRewards =
      settings.post.cosine_every > 0 && step % settings.post.cosine_every == 0
    student.zeroGradients(in: work)
    let target = training.average?.applied(to: student)
    for micro in 0..<work.rounds(g) {
      let batch = batch(step, micro, in: work)
      let out = direct.run(
        student: &training.model, teacher: models.teacher, target: target, decoder: &models.decoder,
        reward: &models.reward, batch, phases: phases, in: work)
      if !out.loss.isFinite { throw NonFinite("the loss", step: step, sample: micro) }
      sums.add(out)
    }
    training.updateAverage(in: work)
    velocityDrift = 0.9 * velocityDrift + 0.1 * (sums.velocityDrift(microSteps: g) ?? 0)
    let rate = settings.rate(step: step)
    let norm = try training.update(
      loss: sums.loss, rate: rate, maximumNorm: settings.max_grad_norm, step: step, in: work)
    phases?.end("update", in: work)
    return StepRecord(
      loss: sums.loss, terms: sums.terms(microSteps: g), gradientNorm: norm, learningRate: rate,
      samples: settings.batch * g)
  }

  /// Own samples are drawn anew, from the student as it is, every `post.refresh` steps.
  private mutating func refreshPool(_ step: Int, in work: borrowing Workspace) {
    guard settings.post.latents == .`self`, settings.post.refresh > 0, step > 0,
      step % settings.post.refresh == 0
    else { return }
    pool = LatentPool.sampled(
      student, settings.sampler, captions: poolCaptions,
      shape: Array(pool.latents.shape.dims.dropFirst()), prompts: models.prompts,
      noise: RandomStream(seed: UInt64(settings.seed), .latent, step: step), in: work)
  }

  /// What accumulation step `micro` trains on.
  private mutating func batch(_ step: Int, _ micro: Int, in work: borrowing Workspace)
    -> DirectStep.Batch
  {
    let b = settings.batch
    let sample = step * settings.accumulation + micro
    func stream(_ purpose: RandomStream.Purpose) -> RandomStream {
      RandomStream(seed: UInt64(settings.seed), purpose, step: step, sample: micro)
    }
    var order = stream(.order)
    var levels = stream(.timestep)
    var crops = stream(.crop)
    // As published, data is read front to back without shuffling. Own samples are drawn at random.
    let rows = (0..<b).map {
      settings.post.latents == .data ? (sample * b + $0) % pool.count : order.below(pool.count)
    }
    let range = settings.post.index_range
    let captions = rows.map { pool.captions[$0] }
    let z = pool.rows(rows, in: work)
    return DirectStep.Batch(
      latents: z, noise: stream(.noise).normal(z.shape, in: work),
      indices: (0..<b).map { _ in range[0] + levels.below(range[1] - range[0] + 1) },
      prompt: models.prompts(captions, in: work),
      unconditional: settings.guidance.teacher_cfg > 0
        ? models.prompts(captions.map { _ in "" }, in: work) : nil,
      captions: models.reward.map { contexts.batch(captions, $0, in: work) },
      crop: settings.reward.crop == .random
        ? .random(row: crops.uniform(), column: crops.uniform()) : .center)
  }

  static func options(_ settings: PostSettings, _ phases: Int) -> DirectStep.Options {
    var o = DirectStep.Options()
    o.phases = phases
    (o.flowWeight, o.normalisesRewards) = (
      settings.weights.flow, settings.reward.normalise == .group
    )
    (o.consistencyWeight, o.qualityWeight, o.semanticWeight, o.decayWeight) = (
      settings.weights.consistency, settings.weights.quality, settings.weights.semantic,
      settings.weights.decay
    )
    (o.huberC, o.anchorWeight, o.rewardGradientScale, o.checkpointing) = (
      settings.huber_c, settings.post.anchor_weight, settings.reward.grad_scale,
      settings.activation_checkpointing
    )
    (o.studentGuidance, o.teacherGuidance) = (settings.guidance.student, settings.guidance.teacher)
    o.teacherGuidanceWeight =
      settings.guidance.teacher_cfg > 0 ? settings.guidance.teacher_cfg : nil
    return o
  }
  public func state() -> TrainingState {
    var s = training.state("student.", onlyTrainable: true)
    if settings.post.latents == .`self` { s.tensors.append(("pool.latents", pool.latents)) }
    s.numbers["velocity_drift"] = .number(velocityDrift)
    return s
  }
  public mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws {
    try training.restore("student.", onlyTrainable: true, from: &state, in: work)
    // Checkpoints of the version before call it `departure`.
    let drift = state.numbers["velocity_drift"] ?? state.numbers["departure"]
    velocityDrift = drift?.number ?? 0
    if settings.post.latents == .`self` {
      pool.latents = try state.tensor("pool.latents", like: pool.latents.shape, in: work)
    }
  }

  public func samples(step: Int, in work: borrowing Workspace) throws -> [[Tensor]] {
    models.preview(
      result, settings, captions: pool.captions,
      latentShape: Array(pool.latents.shape.dims.dropFirst()), in: work)
  }
  public func export(to folder: String) throws {
    try GeneratorExport.write(result, settings, to: folder, components)
  }
}

/// Sums of loss terms and mean rewards over the accumulation steps of one training step.
struct TermSums {
  private(set) var loss = 0.0
  private var velocityDrift: Double?
  private var totals: [(name: String, value: Double, isMean: Bool)] = []

  mutating func add(_ out: DirectStep.Output) {
    loss += out.loss
    if let drift = out.velocityDrift { velocityDrift = (velocityDrift ?? 0) + drift }
    func mean(_ x: [Double]) -> Double? { x.isEmpty ? nil : x.reduce(0, +) / Double(x.count) }
    for (name, value, isMean) in [
      ("consistency", out.consistencyLoss, false), ("quality_loss", out.qualityLoss, false),
      ("semantic_loss", out.semanticLoss, false), ("decay", out.decayLoss, false),
      ("anchor", out.anchorLoss, false), ("flow", out.flowLoss, false),
      ("reward_quality", mean(out.scores.quality), true),
      ("reward_semantic", mean(out.scores.semantic), true),
      ("velocity_drift", out.velocityDrift, true),
      ("reward_cosine", out.rewardCosine, true),
    ] {
      guard let value else { continue }
      if let i = totals.firstIndex(where: { $0.name == name }) {
        totals[i].value += value
      } else {
        totals.append((name, value, isMean))
      }
    }
  }
  func velocityDrift(microSteps: Int) -> Double? {
    velocityDrift.map { $0 / Double(microSteps) }
  }
  func terms(microSteps: Int) -> [(name: String, value: Double)] {
    totals.map { ($0.name, $0.isMean ? $0.value / Double(microSteps) : $0.value) }
  }
}
