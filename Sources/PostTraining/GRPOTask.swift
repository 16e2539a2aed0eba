import Diffusion
import Files
import Layers
public import Models
import Pipelines
import Rewards
public import TensorRuntime
public import Training

/// `train post --objective grpo`: rewards are scores within a group. No gradient goes through the
/// decoder or the encoders (algorithm.md 9).
public struct GRPOTask: PostTask {
  public let settings: PostSettings
  var models: PostModels
  private var training: TrainableModel<VideoTransformer>
  public private(set) var student: VideoTransformer {
    get { training.model }
    _modify { yield &training.model }
  }
  let captions: [String], latentShape: [Int]
  /// Data latents, for the single-step mode and the consistency term.
  let pool: LatentPool?
  let schedule: NoiseSchedule, phases: PhaseSchedule
  private var contexts = CaptionCache()
  let components: @Sendable (String) throws -> Void

  public init(
    _ settings: PostSettings, models: PostModels, pool: LatentPool?, captions: [String],
    latentShape: [Int], components: @escaping @Sendable (String) throws -> Void,
    in work: borrowing Workspace
  ) throws {
    (self.settings, self.models, self.pool, self.captions, self.latentShape, self.components) = (
      settings, models, pool, captions, latentShape, components
    )
    schedule = NoiseSchedule(
      shift: settings.schedule.shift, steps: settings.schedule.levels,
      end: settings.schedule.end)
    phases = PhaseSchedule(settings.schedule.phases)!
    training = try settings.trainableStudent(of: models.teacher, averageDecay: nil, in: work)
  }
  public var totalSteps: Int { settings.steps }
  public var result: VideoTransformer { student }

  /// In rollout mode a step takes the groups of a few prompts, with an optimiser step after every G
  /// kept samples. In single-step mode it takes G groups of one sample each.
  public mutating func step(_ step: Int, phases: StepPhases?, in work: borrowing Workspace) throws
    -> StepRecord
  {
    phases?.begin(in: work)
    return settings.grpo.mode == .rollout
      ? try rolloutStep(step, phases, in: work) : try singleStep(step, in: work)
  }
  /// Rewards of clean predictions: quality, then semantic, if enabled.
  private static func score(
    _ clean: Tensor, _ models: PostModels, _ context: CaptionBatch, in work: borrowing Workspace
  ) -> [[Double]] {
    let s = models.reward!.forward(
      models.decoder(clean, in: work), context, checkpointing: true, in: work
    ).scores
    return [s.quality, s.semantic].filter { !$0.isEmpty }
  }
  private mutating func context(_ caption: String, _ count: Int, in work: borrowing Workspace)
    -> CaptionBatch
  {
    contexts.batch(Array(repeating: caption, count: count), models.reward!, in: work)
  }
  private var coefficients: [Double] {
    (settings.weights.quality > 0 ? [settings.grpo.quality] : [])
      + (settings.weights.semantic > 0 ? [settings.grpo.semantic] : [])
  }
  /// The steps of a rollout that follow the SDE at training step `step` and are trained on. nil:
  /// all; some of them, but not the last, are then drawn for training. The window slides from noise
  /// to data and starts again (MixGRPO, arXiv:2507.21802, algorithm 1).
  func window(step: Int) -> Range<Int>? {
    let o = settings.grpo
    if o.window == 0 { return nil }
    let places = o.sampling_steps - o.window
    let start = step / max(o.window_every, 1) * o.window_stride % places
    return start..<start + o.window
  }
  /// Rollouts of all prompts of a step with their rewards `[reward][row]`, at most `chunk` rows in
  /// one pass; row = prompt * K + member. The noise of a row does not depend on the pass it is in.
  private mutating func rollouts(
    _ list: [String], _ policy: GRPO.Policy, _ step: Int, _ parts: StepPhases?,
    in work: borrowing Workspace
  ) -> (GRPO.Rollout, rewards: [[Double]]) {
    let o = settings.grpo
    let seed = UInt64(settings.seed)
    let k = o.generations
    let most = o.chunk
    let latent = latentShape
    let total = list.count * k
    let window = window(step: step) ?? 0..<o.sampling_steps
    var all = GRPO.Rollout(rows: total, latent: latent, policy, window: window, in: work)
    var rewards = coefficients.map { _ in Array(repeating: 0.0, count: total) }
    let starts = RandomStream(seed: seed, .noise, step: step).normal(
      Shape([list.count] + latent), in: work)
    // A part is several whole groups, or a part of one group.
    let pieces: [(prompts: Range<Int>, members: Range<Int>)] =
      k <= most
      ? stride(from: 0, to: list.count, by: most / k).map {
        ($0..<min($0 + most / k, list.count), 0..<k)
      }
      : list.indices.flatMap { p in
        stride(from: 0, to: k, by: most).map { (p..<p + 1, $0..<min($0 + most, k)) }
      }
    for (prompts, members) in pieces.prefix(work.rounds(pieces.count)) {
      let captions = prompts.flatMap { Array(repeating: list[$0], count: members.count) }
      let first = prompts.lowerBound * k + members.lowerBound
      let rows = first..<(prompts.upperBound - 1) * k + members.upperBound
      func own(_ purpose: RandomStream.Purpose, _ set: Int, in work: borrowing Workspace) -> Tensor
      {
        work.stacked(
          rows.map { row in
            RandomStream(seed: seed, purpose, step: step, sample: set * total + row).normal(
              Shape(latent), in: work)
          })
      }
      let shared =
        o.same_noise
        ? GRPO.SharedStart(
          prompt: models.prompts(Array(list[prompts]), in: work), members: members.count)
        : nil
      let run = GRPO.rollout(
        student, policy,
        initial: o.same_noise ? work.copy(starts.slice(prompts)) : own(.noise, 1, in: work),
        prompt: models.prompts(captions, in: work), window: window, shared: shared,
        noise: { own(.rollout, $0, in: $1) }, in: work)
      all.place(run, at: first, in: work)
      parts?.end("rollout", in: work)
      let context = contexts.batch(captions, models.reward!, in: work)
      for (r, scored) in Self.score(run.clean, models, context, in: work).enumerated() {
        rewards[r].replaceSubrange(rows, with: scored)
      }
      parts?.end("decode and rewards", in: work)
    }
    return (all, rewards)
  }
  private mutating func rolloutStep(_ step: Int, _ parts: StepPhases?, in work: borrowing Workspace)
    throws -> StepRecord
  {
    let o = settings.grpo
    let k = o.generations
    let c = coefficients
    let list = (0..<o.prompts).map { captions[(step * o.prompts + $0) % captions.count] }
    var policy = GRPO.Policy(
      steps: o.sampling_steps, shift: o.shift, eta: o.eta, guidance: settings.guidance.student)
    policy.tail = o.tail
    let (run, rewards) = rollouts(list, policy, step, parts, in: work)
    let rows = run.clean.shape[0]
    var advantages = rewards.map { _ in [Double]() }
    var kept: [Int] = []
    for first in stride(from: 0, to: rows, by: k) {
      let members = first..<first + k
      let own = rewards.map { GRPO.advantages(Array($0[members])) }
      for r in own.indices { advantages[r] += own[r] }
      kept += GRPO.bestAndWorst(
        members.indices.map { i in zip(c, own).reduce(0) { $0 + $1.0 * $1.1[i - first] } },
        keep: o.best_of
      ).map { first + $0 }
    }
    var order = RandomStream(seed: UInt64(settings.seed), .order, step: step)
    let shuffled = order.permutation(kept.count).map { kept[$0] }
    let g = min(settings.accumulation, kept.count)
    let trained =
      o.window > 0 ? o.window : max(1, Int(Double(o.sampling_steps - 1) * o.timestep_fraction))
    var options = GRPO.Options(coefficients: c)
    (
      options.clip, options.advantageClip, options.scale, options.divergence, options.checkpointing
    ) = (
      o.clip, o.advantage_clip, 1 / Double(g * trained), o.kl, settings.activation_checkpointing
    )
    var loss = 0.0
    var norm = 0.0
    var updates = 0
    var consistency = 0.0
    var terms: [GRPO.Term] = []
    let groups = stride(from: 0, to: shuffled.count, by: g).map { $0..<min($0 + g, shuffled.count) }
    for range in groups.prefix(work.rounds(groups.count)) {
      student.zeroGradients(in: work)
      var total = 0.0
      if let pool, o.use_cd, settings.weights.consistency > 0 {
        for start in stride(from: range.lowerBound, to: range.upperBound, by: o.chunk) {
          let draws = start..<min(start + o.chunk, range.upperBound)
          let out = distil(
            pool, draws, of: kept.count, step, share: Double(draws.count) / Double(g), in: work)
          total += out.loss
          consistency += (out.consistencyLoss ?? 0) * Double(draws.count) / Double(shuffled.count)
        }
      }
      let transitions = shuffled[range].flatMap { row in
        (o.window > 0
          ? Array(run.window) : Array(order.permutation(o.sampling_steps - 1).prefix(trained))).map
        {
          GRPO.Transition(sample: row, step: $0, advantages: advantages.map { $0[row] })
        }
      }
      let passes = stride(from: 0, to: transitions.count, by: o.chunk).map {
        Array(transitions[$0..<min($0 + o.chunk, transitions.count)])
      }
      for pass in passes.prefix(work.rounds(passes.count)) {
        let prompt = models.prompts(pass.map { list[$0.sample / k] }, in: work)
        let some = GRPO.train(
          &training.model, policy, run, pass, prompt: prompt, teacher: models.teacher, options,
          in: work)
        for (t, term) in zip(pass, some) where !term.loss.isFinite {
          throw NonFinite("the loss", step: step, sample: t.sample)
        }
        total += some.reduce(0) { $0 + $1.loss }
        terms += some
      }
      parts?.end("train", in: work)
      norm += try training.update(
        loss: total, rate: settings.rate(step: step),
        maximumNorm: settings.max_grad_norm, step: step, in: work)
      parts?.end("update", in: work)
      updates += 1
      loss += total
    }
    func mean(_ x: (GRPO.Term) -> Double) -> Double {
      terms.reduce(0) { $0 + x($1) } / Double(terms.count)
    }
    let more =
      (pool != nil && o.use_cd ? [("consistency", consistency)] : [])
      + (o.kl > 0 ? [("kl", mean(\.divergence))] : [])
    return StepRecord(
      loss: loss / Double(updates),
      terms: means(rewards) + more + [
        ("ratio", mean(\.ratio)), ("clip_fraction", mean { abs($0.ratio - 1) > o.clip ? 1 : 0 }),
      ],
      gradientNorm: norm / Double(updates), learningRate: settings.rate(step: step), samples: rows)
  }

  /// The consistency term alone, on data latents, one for each of the kept samples `draws`. Adds
  /// `share` times its gradient to the student's gradients.
  private mutating func distil(
    _ pool: LatentPool, _ draws: Range<Int>, of kept: Int, _ step: Int, share: Double,
    in work: borrowing Workspace
  ) -> DirectStep.Output {
    var direct = DirectStep(schedule, DirectTask.options(settings, phases.phases(step: step + 1)))
    (direct.options.qualityWeight, direct.options.semanticWeight, direct.options.anchorWeight) = (
      0, 0, 0
    )
    direct.options.consistencyWeight *= share
    direct.options.decayWeight *= share
    let seed = UInt64(settings.seed)
    let range = settings.post.index_range
    let rows = draws.map { (step * kept + $0) % pool.count }
    let z = pool.rows(rows, in: work)
    let captions = rows.map { pool.captions[$0] }
    var levels = RandomStream(seed: seed, .timestep, step: step, sample: draws.lowerBound)
    var none: RewardModel?
    let batch = DirectStep.Batch(
      latents: z,
      noise: RandomStream(seed: seed, .latent, step: step, sample: draws.lowerBound).normal(
        z.shape, in: work),
      indices: draws.map { _ in range[0] + levels.below(range[1] - range[0] + 1) },
      prompt: models.prompts(captions, in: work),
      unconditional: settings.guidance.teacher_cfg > 0
        ? models.prompts(captions.map { _ in "" }, in: work) : nil)
    return direct.run(
      student: &training.model, teacher: models.teacher, decoder: &models.decoder, reward: &none,
      batch,
      in: work)
  }
  private mutating func singleStep(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    let pool = pool!
    let seed = UInt64(settings.seed)
    let k = settings.grpo.generations
    let range = settings.post.index_range
    var o = SingleStepGRPO.Options()
    (o.phases, o.huberC, o.accumulation, o.eta, o.clip, o.advantageClip) = (
      phases.phases(step: step + 1), settings.huber_c, settings.accumulation, settings.grpo.eta,
      settings.grpo.clip, settings.grpo.advantage_clip
    )
    (o.consistencyWeight, o.rewardWeight, o.checkpointing) = (
      settings.weights.consistency, max(settings.weights.quality, settings.weights.semantic),
      settings.activation_checkpointing
    )
    (o.studentGuidance, o.teacherGuidance) = (settings.guidance.student, settings.guidance.teacher)
    let group = SingleStepGRPO(schedule, o)
    let old = student
    var loss = 0.0
    var rewards: [[Double]] = []
    var consistency = 0.0
    student.zeroGradients(in: work)
    for micro in 0..<work.rounds(settings.accumulation) {
      var levels = RandomStream(seed: seed, .timestep, step: step, sample: micro)
      let row = (step * settings.accumulation + micro) % pool.count
      let caption = pool.captions[row]
      let z = pool.rows([row], in: work)
      let shape = Shape([k] + z.shape.dims.dropFirst())
      var scored: [[Double]] = []
      let frozen = models
      let captioned = context(caption, k, in: work)
      let out = group.run(
        student: &training.model, old: old, teacher: models.teacher, latents: z,
        noise: RandomStream(seed: seed, .noise, step: step, sample: micro).normal(shape, in: work),
        stepNoise: RandomStream(seed: seed, .rollout, step: step, sample: micro).normal(
          shape, in: work), index: range[0] + levels.below(range[1] - range[0] + 1),
        prompt: models.prompts([caption], in: work),
        score: { clean, work in
          scored = Self.score(clean, frozen, captioned, in: work)
          return scored
        }, in: work)
      if !out.loss.isFinite { throw NonFinite("the loss", step: step, sample: micro) }
      loss += out.loss
      consistency += out.consistencyLosses.reduce(0, +) / Double(k * settings.accumulation)
      rewards = rewards.isEmpty ? scored : zip(rewards, scored).map { $0 + $1 }
    }
    let norm = try training.update(
      loss: loss, rate: settings.rate(step: step), maximumNorm: settings.max_grad_norm,
      step: step, in: work)
    return StepRecord(
      loss: loss, terms: means(rewards) + [("consistency", consistency)], gradientNorm: norm,
      learningRate: settings.rate(step: step), samples: k * settings.accumulation)
  }
  private func means(_ rewards: [[Double]]) -> [(name: String, value: Double)] {
    let names =
      (settings.weights.quality > 0 ? ["reward_quality"] : [])
      + (settings.weights.semantic > 0 ? ["reward_semantic"] : [])
    return zip(names, rewards).map { (name: $0, value: $1.reduce(0, +) / Double(max($1.count, 1))) }
  }

  public func state() -> TrainingState { training.state("student.", onlyTrainable: true) }
  public mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws {
    try training.restore("student.", onlyTrainable: true, from: &state, in: work)
  }
  public func samples(step: Int, in work: borrowing Workspace) throws -> [[Tensor]] {
    models.preview(
      student, settings, captions: pool?.captions ?? captions, latentShape: latentShape, in: work)
  }
  public func export(to folder: String) throws {
    try GeneratorExport.write(student, settings, to: folder, components)
  }
}

/// What both objectives export: adapters in PEFT's layout under `lora/`, and a whole generator
/// directory with the adapters merged.
enum GeneratorExport {
  static func write(
    _ student: VideoTransformer, _ settings: PostSettings, to folder: String,
    _ components: (String) throws -> Void
  ) throws {
    let work = Workspace()
    var merged = student
    if settings.lora.enabled {
      try LoraFolder.write(
        student, rank: settings.lora.rank, alpha: settings.lora.alpha,
        targets: settings.lora.targets, step: settings.steps, to: "\(folder)/lora")
      merged.mergeAdapters(in: work)
    }
    try ModelFolder.write(
      merged, config: merged.config, kind: "HunyuanVideoTransformer3DModel",
      weights: "diffusion_pytorch_model.safetensors", to: "\(folder)/transformer")
    try components(folder)
  }
}
