import Configuration
import Diffusion
import Files
import Layers
import Models
import Optimizers
import Pipelines
import Rewards
public import TensorRuntime
public import Training

/// `train post --objective grpo`: rewards as scores of a group, no gradient through decoder or encoders (algorithm.md 9).
public struct GroupTask: TrainingTask {
  public let settings: PostSettings
  var models: PostModels
  var student: VideoTransformer
  let captions: [String], latentShape: [Int]
  /// Data latents, for the single-step mode and the consistency term.
  let pool: LatentPool?
  let schedule: NoiseSchedule, phases: PhaseSchedule
  var optimizer: AdamW
  private var contexts = CaptionCache()
  let companions: @Sendable (String) throws -> Void

  public init(
    _ settings: PostSettings, models: PostModels, pool: LatentPool?, captions: [String], latentShape: [Int], companions: @escaping @Sendable (String) throws -> Void, in work: borrowing Workspace
  ) throws {
    (self.settings, self.models, self.pool, self.captions, self.latentShape, self.companions) = (settings, models, pool, captions, latentShape, companions)
    student = models.teacher
    if settings.lora.enabled {
      let source = ParameterSource.random(seed: UInt64(settings.seed))
      let count = try student.attachAdapters(targets: settings.lora.targets, rank: settings.lora.rank, alpha: settings.lora.alpha, from: source, in: work)
      if count == 0 { throw PostSettings.noLayer }
    } else {
      student.makeTrainable(in: work)
    }
    schedule = NoiseSchedule(shift: settings.schedule.shift, steps: settings.schedule.levels, end: NoiseSchedule.End(rawValue: settings.schedule.end)!)
    phases = PhaseSchedule(settings.schedule.phases)!
    optimizer = AdamW(.init(beta2: settings.beta2, weightDecay: settings.weight_decay, narrowMoments: settings.moments == "bf16"), for: student, in: work)
  }
  public var totalSteps: Int { settings.steps }

  /// A step is one prompt's group in rollout mode (with an optimiser step after every G kept samples), or G groups of one
  /// sample each in single-step mode.
  public mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    settings.grpo.mode == "rollout" ? try rolloutStep(step, in: work) : try singleStep(step, in: work)
  }
  /// Rewards of clean predictions: quality then semantic, as far as they are enabled.
  private static func score(_ clean: Tensor, _ models: PostModels, _ context: CaptionBatch, in work: borrowing Workspace) -> [[Double]] {
    let s = models.reward!.forward(models.decoder(clean, in: work), context, recompute: true, in: work).scores
    return [s.quality, s.semantic].filter { !$0.isEmpty }
  }
  private mutating func context(_ caption: String, _ count: Int, in work: borrowing Workspace) -> CaptionBatch {
    contexts.batch(Array(repeating: caption, count: count), models.reward!, in: work)
  }
  private var coefficients: [Double] {
    (settings.weights.quality > 0 ? [settings.grpo.quality] : []) + (settings.weights.semantic > 0 ? [settings.grpo.semantic] : [])
  }
  private mutating func rolloutStep(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    let o = settings.grpo, seed = UInt64(settings.seed), k = o.generations, caption = captions[step % captions.count]
    let single = models.prompts([caption], in: work), group = models.prompts(Array(repeating: caption, count: k), in: work)
    let policy = GroupRelative.Policy(steps: o.sampling_steps, shift: o.shift, eta: o.eta, guidance: settings.guidance.student)
    let first = RandomStream(seed: seed, .noise, step: step).normal(Shape([1] + latentShape), in: work)
    let initial = o.same_noise ? work.repeated(first[row: 0], k) : RandomStream(seed: seed, .noise, step: step, sample: 1).normal(Shape([k] + latentShape), in: work)
    let shape = initial.shape
    let run = GroupRelative.rollout(
      student, policy, initial: initial, prompt: group, noise: { RandomStream(seed: seed, .rollout, step: step, sample: $0).normal(shape, in: Workspace()) }, in: work)
    let rewards = Self.score(run.clean, models, context(caption, k, in: work), in: work), advantages = rewards.map { GroupRelative.advantages($0) }, c = coefficients
    let kept = GroupRelative.bestAndWorst((0..<k).map { i in zip(c, advantages).reduce(0) { $0 + $1.0 * $1.1[i] } }, keep: o.best_of)
    var order = RandomStream(seed: seed, .order, step: step)
    let shuffled = order.permutation(kept.count).map { kept[$0] }, trained = max(1, Int(Double(o.sampling_steps - 1) * o.timestep_fraction)), g = min(settings.accumulation, kept.count)
    var loss = 0.0, norm = 0.0, updates = 0, ratios = 0.0, clipped = 0, terms = 0
    student.zeroGradients(in: work)
    var consistency = 0.0
    for (n, sample) in shuffled.prefix(work.rounds(shuffled.count)).enumerated() {
      if let pool, o.use_cd, settings.weights.consistency > 0 {
        let out = distil(pool, row: (step * kept.count + n) % pool.count, step, draw: n, accumulation: g, in: work)
        loss += out.loss
        consistency += (out.consistencyLoss ?? 0) * Double(g) / Double(shuffled.count)
      }
      for transition in order.permutation(o.sampling_steps - 1).prefix(trained) {
        let t = GroupRelative.train(
          &student, policy, run, sample: sample, step: transition, prompt: single, advantages: advantages.map { $0[sample] }, coefficients: c, clip: o.clip,
          advantageClip: o.advantage_clip, scale: 1 / Double(g * trained), recompute: settings.recompute, in: work)
        if !t.loss.isFinite { throw NonFinite("the loss", step: step, sample: sample) }
        loss += t.loss
        ratios += t.ratio
        terms += 1
        if abs(t.ratio - 1) > o.clip { clipped += 1 }
      }
      if (n + 1) % g == 0 || n + 1 == shuffled.count {
        norm += try student.update(&optimizer, loss: loss, rate: settings.rate(step: step), maximumNorm: settings.max_grad_norm, step: step, in: work)
        updates += 1
        student.zeroGradients(in: work)
      }
    }
    return StepRecord(
      loss: loss / Double(updates), terms: means(rewards) + (pool != nil && o.use_cd ? [("consistency", consistency)] : []) + [("ratio", ratios / Double(terms)), ("clip_fraction", Double(clipped) / Double(terms))],
      gradientNorm: norm / Double(updates), learningRate: settings.rate(step: step), samples: k)
  }

  /// The consistency term alone, on one data latent: adds its gradient to the student.
  private mutating func distil(_ pool: LatentPool, row: Int, _ step: Int, draw: Int, accumulation: Int, in work: borrowing Workspace) -> DirectStep.Output {
    var direct = DirectStep(schedule, DirectTask.options(settings, phases.phases(step: step + 1)))
    (direct.options.qualityWeight, direct.options.semanticWeight, direct.options.anchorWeight, direct.options.accumulation) = (0, 0, 0, accumulation)
    let seed = UInt64(settings.seed), range = settings.post.index_range, z = pool.rows([row], in: work), captions = [pool.captions[row]]
    var levels = RandomStream(seed: seed, .timestep, step: step, sample: draw), none: RewardModel?
    let batch = DirectStep.Batch(
      latents: z, noise: RandomStream(seed: seed, .latent, step: step, sample: draw).normal(z.shape, in: work), indices: [range[0] + levels.below(range[1] - range[0] + 1)],
      prompt: models.prompts(captions, in: work), unconditional: settings.guidance.teacher_cfg > 0 ? models.prompts([""], in: work) : nil)
    return direct.run(student: &student, teacher: models.teacher, decoder: &models.decoder, reward: &none, batch, in: work)
  }
  private mutating func singleStep(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    let pool = pool!, seed = UInt64(settings.seed), k = settings.grpo.generations, range = settings.post.index_range
    var o = SingleStepGroup.Options()
    (o.phases, o.huberC, o.accumulation, o.eta, o.clip, o.advantageClip) = (phases.phases(step: step + 1), settings.huber_c, settings.accumulation, settings.grpo.eta, settings.grpo.clip, settings.grpo.advantage_clip)
    (o.consistencyWeight, o.rewardWeight, o.recompute) = (settings.weights.consistency, max(settings.weights.quality, settings.weights.semantic), settings.recompute)
    (o.studentGuidance, o.teacherGuidance) = (settings.guidance.student, settings.guidance.teacher)
    let group = SingleStepGroup(schedule, o), old = student
    var loss = 0.0, rewards: [[Double]] = [], consistency = 0.0
    student.zeroGradients(in: work)
    for micro in 0..<work.rounds(settings.accumulation) {
      var levels = RandomStream(seed: seed, .timestep, step: step, sample: micro)
      let row = (step * settings.accumulation + micro) % pool.count, caption = pool.captions[row], z = pool.rows([row], in: work), shape = Shape([k] + z.shape.dims.dropFirst())
      var scored: [[Double]] = []
      let frozen = models, captioned = context(caption, k, in: work)
      let out = group.run(
        student: &student, old: old, teacher: models.teacher, latents: z, noise: RandomStream(seed: seed, .noise, step: step, sample: micro).normal(shape, in: work),
        stepNoise: RandomStream(seed: seed, .rollout, step: step, sample: micro).normal(shape, in: work), index: range[0] + levels.below(range[1] - range[0] + 1),
        prompt: models.prompts([caption], in: work), score: { clean, work in
          scored = Self.score(clean, frozen, captioned, in: work)
          return scored
        }, in: work)
      if !out.loss.isFinite { throw NonFinite("the loss", step: step, sample: micro) }
      loss += out.loss
      consistency += out.consistencyLosses.reduce(0, +) / Double(k * settings.accumulation)
      rewards = rewards.isEmpty ? scored : zip(rewards, scored).map { $0 + $1 }
    }
    let norm = try student.update(&optimizer, loss: loss, rate: settings.rate(step: step), maximumNorm: settings.max_grad_norm, step: step, in: work)
    return StepRecord(loss: loss, terms: means(rewards) + [("consistency", consistency)], gradientNorm: norm, learningRate: settings.rate(step: step), samples: k * settings.accumulation)
  }
  private func means(_ rewards: [[Double]]) -> [(name: String, value: Double)] {
    let names = (settings.weights.quality > 0 ? ["reward_quality"] : []) + (settings.weights.semantic > 0 ? ["reward_semantic"] : [])
    return zip(names, rewards).map { (name: $0, value: $1.reduce(0, +) / Double(max($1.count, 1))) }
  }

  public func state() -> TrainingState {
    var s = TrainingState()
    for p in student.trainableParameters() { s.tensors.append(("student.\(p.name)", p.value)) }
    s.add("optimizer.", optimizer)
    return s
  }
  public mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws {
    try student.forEachParameter { p in
      if p.isTrainable { p.value = try state.tensor("student.\(p.name)", like: p.value.shape, in: work) }
    }
    optimizer = try state.optimizer("optimizer.", like: optimizer, in: work)
  }
  public func samples(step: Int, in work: borrowing Workspace) throws -> [[Tensor]] {
    models.preview(student, settings, captions: pool?.captions ?? captions, latentShape: latentShape, in: work)
  }
  public func export(to folder: String) throws { try GeneratorExport.write(student, settings, to: folder, companions) }
}

/// What both objectives leave: adapters in PEFT's layout under `lora/`, and a whole generator directory, adapters merged.
enum GeneratorExport {
  static func write(_ student: VideoTransformer, _ settings: PostSettings, to folder: String, _ companions: (String) throws -> Void) throws {
    let work = Workspace()
    var merged = student
    if settings.lora.enabled {
      try LoraFolder.write(student, rank: settings.lora.rank, alpha: settings.lora.alpha, targets: settings.lora.targets, step: settings.steps, to: "\(folder)/lora")
      merged.mergeAdapters(in: work)
    }
    try ModelFolder.write(merged, config: merged.config, kind: "HunyuanVideoTransformer3DModel", weights: "diffusion_pytorch_model.safetensors", to: "\(folder)/transformer")
    try companions(folder)
  }
}
