import Diffusion
import Files
import Layers
public import Models
import Rewards
public import TensorRuntime
public import Training

/// `train post --objective direct`: G accumulation steps of algorithm.md 7.5, then clipping, AdamW
/// and the moving average.
public struct DirectTask<Model: VideoDenoiser>: PostTask {
  public let settings: PostSettings
  public private(set) var models: PostModels<Model>
  private var training: TrainableModel<Model>
  public private(set) var student: Model {
    get { training.model }
    _modify { yield &training.model }
  }
  let schedule: any DistillationSchedule, phases: PhaseSchedule
  /// The ranks that share a micro-step.
  private let groups: RankGroups
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
    _ settings: PostSettings, models: PostModels<Model>, pool data: LatentPool?, captions: [String],
    latentShape: [Int], components: @escaping @Sendable (String) throws -> Void,
    in work: borrowing Workspace
  ) throws {
    let models = models.atFrameRate(of: settings)
    (self.settings, self.models, self.components) = (settings, models, components)
    schedule = settings.schedule(models.process)
    phases = PhaseSchedule(settings.schedule.phases)!
    groups = RankGroups(
      group: settings.cluster.group, strips: settings.cluster.strips,
      sums: settings.cluster.sums)
    try groups.check(
      models.teacher,
      latentShape: data.map { Array($0.latents.shape.dims.dropFirst()) }
        ?? latentShape)
    poolCaptions = captions
    pool =
      try data
      ?? LatentPool.sampled(
        models.teacher, settings.sampler(models.process, for: models.teacher), captions: captions,
        shape: latentShape, prompts: models.prompts,
        noise: RandomStream(seed: UInt64(settings.seed), .latent),
        seed: UInt64(settings.seed), in: work)
    training = try settings.trainableStudent(
      of: models.teacher, averageDecay: settings.ema.enabled ? settings.ema.decay : nil, in: work)
    contexts = CaptionCache()
  }
  public var totalSteps: Int { settings.steps }
  private var leafCount: Int { settings.accumulation / settings.cluster.leaf }
  public var leaves: Int? { leafCount * groups.size }
  public var isFinished: Bool {
    settings.post.velocity_drift_limit > 0 && velocityDrift > settings.post.velocity_drift_limit
  }
  /// The student as it would be used: with averaged parameters if an average is kept.
  public var result: Model {
    settings.ema.export ? training.averaged : student
  }

  public mutating func step(_ step: Int, phases: StepPhases?, in work: borrowing Workspace) throws
    -> StepRecord
  {
    phases?.begin(in: work)
    let g = settings.accumulation
    try refreshPool(step, in: work)
    var direct = DirectStep(
      schedule, settings.directOptions(phases: self.phases.phases(step: step + 1)),
      sharing: groups.rows)
    var sums = TermSums()
    direct.options.accumulation = g
    direct.options.comparesRewards =
      settings.post.cosine_every > 0 && step % settings.post.cosine_every == 0
    let target = training.average?.applied(to: student)
    var sum = LeafSum(leaves: leafCount, groups)
    let size = settings.cluster.leaf
    for leaf in sum.mine(in: work) where !sum.hasFailed {
      sum.begin(&training, in: work)
      var numbers: [Double] = []
      for micro in leaf * size..<leaf * size + work.rounds(size) {
        let batch = batch(step, micro, in: work)
        let out = direct.run(
          student: &training.model, teacher: models.teacher, target: target,
          decoder: &models.decoder, reward: &models.reward, batch, phases: phases, in: work)
        if !out.loss.isFinite { sum.fail(NonFinite("the loss", step: step, sample: micro)) }
        numbers += TermSums.numbers(out)
      }
      sum.add(numbers, from: &training, leaf: leaf, in: work)
    }
    for row in try sum.finish(&training, in: work) { sums.add(row) }
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
  private mutating func refreshPool(_ step: Int, in work: borrowing Workspace) throws {
    guard settings.post.latents == .`self`, settings.post.refresh > 0, step > 0,
      step % settings.post.refresh == 0
    else { return }
    pool = try LatentPool.sampled(
      student, settings.sampler(models.process, for: student), captions: poolCaptions,
      shape: Array(pool.latents.shape.dims.dropFirst()), prompts: models.prompts,
      noise: RandomStream(seed: UInt64(settings.seed), .latent, step: step),
      seed: UInt64(settings.seed) &+ UInt64(step), in: work)
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
    let weights = settings.guidanceWeights(models.process, count: b, drawing: stream(.augmentation))
    return DirectStep.Batch(
      latents: z, noise: stream(.noise).normal(z.shape, in: work),
      indices: (0..<b).map { _ in range[0] + levels.below(range[1] - range[0] + 1) },
      prompt: models.prompts(captions, in: work),
      unconditional: weights != nil || settings.guidance.teacher_cfg > 0
        ? models.prompts(captions.map { _ in "" }, in: work) : nil,
      guidance: weights,
      captions: models.reward.map { contexts.batch(captions, $0, in: work) },
      crop: settings.reward.crop == .random
        ? .random(row: crops.uniform(), column: crops.uniform()) : .center,
      rewardFrames: models.rewardFrames(of: z.shape[2], settings, drawing: stream(.dropout)))
  }

  public func state() -> TrainingState {
    var s = training.state("student.", onlyTrainable: true)
    if settings.post.latents == .`self` { s.add("pool.latents", pool.latents) }
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
  private static let names = [
    ("consistency", false), ("quality_loss", false), ("semantic_loss", false), ("decay", false),
    ("anchor", false), ("flow", false), ("reward_quality", true), ("reward_semantic", true),
    ("velocity_drift", true), ("reward_cosine", true),
  ]

  /// The loss and the terms of one accumulation step, as many numbers for any; NaN for a term that
  /// is off.
  static func numbers(_ out: DirectStep.Output) -> [Double] {
    func mean(_ x: [Double]) -> Double? { x.isEmpty ? nil : x.reduce(0, +) / Double(x.count) }
    let terms = [
      out.consistencyLoss, out.qualityLoss, out.semanticLoss, out.decayLoss, out.anchorLoss,
      out.flowLoss, mean(out.scores.quality), mean(out.scores.semantic), out.velocityDrift,
      out.rewardCosine,
    ]
    return [out.loss] + terms.map { $0 ?? .nan }
  }
  /// Adds the numbers of one or several accumulation steps.
  mutating func add(_ numbers: [Double]) {
    let width = 1 + Self.names.count
    for start in stride(from: 0, to: numbers.count, by: width) {
      loss += numbers[start]
      for (i, (name, isMean)) in Self.names.enumerated() {
        let value = numbers[start + 1 + i]
        if value.isNaN { continue }
        if name == "velocity_drift" { velocityDrift = (velocityDrift ?? 0) + value }
        if let i = totals.firstIndex(where: { $0.name == name }) {
          totals[i].value += value
        } else {
          totals.append((name, value, isMean))
        }
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
