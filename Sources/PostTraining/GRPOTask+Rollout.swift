import Diffusion
import Layers
import Models
import Rewards
import TensorRuntime
import Training

/// A step of the rollout mode (algorithm.md 9.2): sample groups and score them, keep the best and
/// the worst of each, and train on their transitions.
extension GRPOTask {
  /// The groups of a step: K rollouts of each caption. Row = caption * K + member.
  private struct Groups {
    let captions: [String], policy: GRPO.Policy
    let rollout: GRPO.Rollout
    /// `[reward][row]`.
    let rewards: [[Double]]
    var rows: Int { rollout.clean.shape[0] }
  }
  /// What the optimiser steps of one rollout step add up to.
  private struct Sums {
    var loss = 0.0, gradientNorm = 0.0, consistency = 0.0
    var updates = 0
    /// Of the transitions: how many, and sums over them.
    var count = 0.0, ratio = 0.0, clipped = 0.0, divergence = 0.0
  }

  mutating func rolloutStep(_ step: Int, _ parts: StepPhases?, in work: borrowing Workspace)
    throws -> StepRecord
  {
    let o = settings.grpo
    let groups = try sampled(step, parts, in: work)
    let (advantages, kept) = selected(groups.rewards)
    var order = RandomStream(seed: UInt64(settings.seed), .order, step: step)
    let shuffled = order.permutation(kept.count).map { kept[$0] }
    let g = min(settings.accumulation, kept.count)
    let options = trainingOptions(accumulation: g)
    var sums = Sums()
    let batches = stride(from: 0, to: shuffled.count, by: g).map {
      $0..<min($0 + g, shuffled.count)
    }
    for batch in batches.prefix(work.rounds(batches.count)) {
      let transitions = shuffled[batch].flatMap { row in
        trainedSteps(groups.rollout, drawing: &order).map {
          GRPO.Transition(sample: row, step: $0, advantages: advantages.map { $0[row] })
        }
      }
      let loss = try train(
        transitions, of: groups, options, batch, kept.count, accumulation: g, step, &sums, in: work)
      parts?.end("train", in: work)
      sums.gradientNorm += try training.update(
        loss: loss, rate: settings.rate(step: step), maximumNorm: settings.max_grad_norm,
        step: step, in: work)
      parts?.end("update", in: work)
      sums.updates += 1
      sums.loss += loss
    }
    let more =
      (pool != nil && o.use_cd ? [("consistency", sums.consistency)] : [])
      + (o.kl > 0 ? [("kl", sums.divergence / sums.count)] : [])
    return StepRecord(
      loss: sums.loss / Double(sums.updates),
      terms: means(groups.rewards) + more + [
        ("ratio", sums.ratio / sums.count), ("clip_fraction", sums.clipped / sums.count),
      ],
      gradientNorm: sums.gradientNorm / Double(sums.updates),
      learningRate: settings.rate(step: step), samples: groups.rows)
  }

  /// The groups of step `step`, for the next captions in turn.
  private mutating func sampled(_ step: Int, _ parts: StepPhases?, in work: borrowing Workspace)
    throws -> Groups
  {
    let o = settings.grpo
    let list = (0..<o.prompts).map { captions[(step * o.prompts + $0) % captions.count] }
    var policy = GRPO.Policy(
      steps: o.sampling_steps, shift: o.shift, eta: o.eta, guidance: settings.guidance.student)
    policy.tail = o.tail
    if case .diffusion(let parameters) = models.process {
      policy.consistency = ConsistencySampler(
        DiffusionSchedule(parameters), steps: o.sampling_steps,
        originSteps: settings.schedule.levels)
      policy.guidance = settings.post.sampler_guidance
    }
    let (rollout, rewards) = try rollouts(list, policy, step, parts, in: work)
    return Groups(captions: list, policy: policy, rollout: rollout, rewards: rewards)
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
  ) throws -> (GRPO.Rollout, rewards: [[Double]]) {
    let o = settings.grpo
    let seed = UInt64(settings.seed)
    let k = o.generations
    let most = o.chunk
    let latent = latentShape
    let total = list.count * k
    let window = window(step: step) ?? 0..<o.sampling_steps
    var all = GRPO.Rollout(rows: total, latent: latent, window: window, in: work)
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
    func rows(_ piece: Int) -> Range<Int> {
      let (prompts, members) = pieces[piece]
      let first = prompts.lowerBound * k + members.lowerBound
      return first..<(prompts.upperBound - 1) * k + members.upperBound
    }
    try BlockShare.run(pieces.count, in: work) { piece in
      let n = rows(piece).count
      return Array(repeating: (Shape([n] + latent), ElementType.f32), count: window.count + 2) + [
        (Shape(window.count + coefficients.count, n), .f64)
      ]
    } body: { piece, work in
      let (prompts, members) = pieces[piece]
      let captions = prompts.flatMap { Array(repeating: list[$0], count: members.count) }
      let rows = rows(piece)
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
      parts?.end("rollout", in: work)
      let context = contexts.batch(captions, models.reward!, in: work)
      let scores = Self.score(run.clean, models, context, frames: rewardFrames(step), in: work)
      parts?.end("decode and rewards", in: work)
      let numbers = run.logProbabilities + scores
      return run.states + [run.clean] + [
        Tensor(numbers.flatMap { $0 }, Shape(numbers.count, rows.count))
      ]
    } take: { piece, results, work in
      var part = GRPO.Rollout(
        window: window, states: Array(results[0...window.count]),
        clean: results[window.count + 1])
      let numbers = (0..<window.count + coefficients.count).map {
        results[window.count + 2][row: $0].doubles
      }
      part.logProbabilities = Array(numbers.prefix(window.count))
      all.place(part, at: rows(piece).lowerBound, in: work)
      for (r, scored) in numbers.dropFirst(window.count).enumerated() {
        rewards[r].replaceSubrange(rows(piece), with: scored)
      }
    }
    return (all, rewards)
  }

  /// Advantages within each group, `[reward][row]`, and the rows that are trained on: the best and
  /// the worst of each group by the weighted sum of the advantages.
  private func selected(_ rewards: [[Double]]) -> (advantages: [[Double]], kept: [Int]) {
    let k = settings.grpo.generations
    let c = coefficients
    var advantages = rewards.map { _ in [Double]() }
    var kept: [Int] = []
    for first in stride(from: 0, to: settings.grpo.prompts * k, by: k) {
      let members = first..<first + k
      let own = rewards.map { GRPO.advantages(Array($0[members])) }
      for r in own.indices { advantages[r] += own[r] }
      kept += GRPO.bestAndWorst(
        members.indices.map { i in zip(c, own).reduce(0) { $0 + $1.0 * $1.1[i - first] } },
        keep: settings.grpo.best_of
      ).map { first + $0 }
    }
    return (advantages, kept)
  }

  /// Number of steps of a rollout that are trained on.
  private var trainedCount: Int {
    let o = settings.grpo
    return o.window > 0
      ? o.window : max(1, Int(Double(o.sampling_steps - 1) * o.timestep_fraction))
  }
  /// Those steps: the window, or without one some that are drawn, but never the last.
  private func trainedSteps(_ rollout: GRPO.Rollout, drawing order: inout RandomStream) -> [Int] {
    settings.grpo.window > 0
      ? Array(rollout.window)
      : Array(order.permutation(settings.grpo.sampling_steps - 1).prefix(trainedCount))
  }
  private func trainingOptions(accumulation: Int) -> GRPO.Options {
    let o = settings.grpo
    var options = GRPO.Options(coefficients: coefficients)
    (options.clip, options.advantageClip, options.divergence) = (o.clip, o.advantage_clip, o.kl)
    options.scale = 1 / Double(accumulation * trainedCount)
    options.checkpointing = settings.activation_checkpointing
    return options
  }

  /// The gradients of one optimiser step, and its loss: those of the consistency term, if it is on,
  /// and of `transitions`. A leaf is one pass of at most `chunk` data latents or transitions.
  private mutating func train(
    _ transitions: [GRPO.Transition], of groups: Groups, _ options: GRPO.Options,
    _ batch: Range<Int>, _ kept: Int, accumulation: Int, _ step: Int, _ sums: inout Sums,
    in work: borrowing Workspace
  ) throws -> Double {
    let o = settings.grpo
    let distils = pool != nil && o.use_cd && settings.weights.consistency > 0
    let draws =
      distils
      ? stride(from: batch.lowerBound, to: batch.upperBound, by: o.chunk).map {
        $0..<min($0 + o.chunk, batch.upperBound)
      } : []
    let passes = stride(from: 0, to: transitions.count, by: o.chunk).map {
      Array(transitions[$0..<min($0 + o.chunk, transitions.count)])
    }
    var sum = LeafSum(
      leaves: draws.count + passes.count, RankGroups(sums: settings.cluster.sums),
      canBeGivenUp: batch.lowerBound == 0)
    for leaf in sum.mine(in: work) where !sum.hasFailed {
      sum.begin(&training, in: work)
      if leaf < draws.count {
        let out = distil(
          pool!, draws[leaf], of: kept, step,
          share: Double(draws[leaf].count) / Double(accumulation), in: work)
        let consistency =
          (out.consistencyLoss ?? 0) * Double(draws[leaf].count) / Double(kept)
        sum.add([out.loss, consistency, 0, 0, 0, 0], from: &training, leaf: leaf, in: work)
        continue
      }
      let pass = passes[leaf - draws.count]
      let prompt = models.prompts(
        pass.map { groups.captions[$0.sample / o.generations] }, in: work)
      let terms = GRPO.train(
        &training.model, groups.policy, groups.rollout, pass, prompt: prompt,
        teacher: models.teacher, options, in: work)
      for (transition, term) in zip(pass, terms) where !term.loss.isFinite {
        sum.fail(NonFinite("the loss", step: step, sample: transition.sample))
      }
      func total(_ value: (GRPO.Term) -> Double) -> Double { terms.reduce(0) { $0 + value($1) } }
      let numbers = [
        total(\.loss), 0, Double(terms.count), total(\.ratio),
        total { abs($0.ratio - 1) > o.clip ? 1 : 0 }, total(\.divergence),
      ]
      sum.add(numbers, from: &training, leaf: leaf, in: work)
    }
    var loss = 0.0
    for row in try sum.finish(&training, in: work) {
      loss += row[0]
      sums.consistency += row[1]
      sums.count += row[2]
      sums.ratio += row[3]
      sums.clipped += row[4]
      sums.divergence += row[5]
    }
    return loss
  }

  /// The consistency term alone, on data latents, one for each of the kept samples `draws`. Adds
  /// `share` times its gradient to the student's gradients.
  private mutating func distil(
    _ pool: LatentPool, _ draws: Range<Int>, of kept: Int, _ step: Int, share: Double,
    in work: borrowing Workspace
  ) -> DirectStep.Output {
    var direct = DirectStep(
      schedule, settings.directOptions(phases: phases.phases(step: step + 1)))
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
    let weights = settings.guidanceWeights(
      models.process, count: draws.count,
      drawing: RandomStream(
        seed: seed, .augmentation, step: step, sample: draws.lowerBound))
    var none: RewardModel?
    let batch = DirectStep.Batch(
      latents: z,
      noise: RandomStream(seed: seed, .latent, step: step, sample: draws.lowerBound).normal(
        z.shape, in: work),
      indices: draws.map { _ in range[0] + levels.below(range[1] - range[0] + 1) },
      prompt: models.prompts(captions, in: work),
      unconditional: weights != nil || settings.guidance.teacher_cfg > 0
        ? models.prompts(captions.map { _ in "" }, in: work) : nil,
      guidance: weights)
    return direct.run(
      student: &training.model, teacher: models.teacher, decoder: &models.decoder, reward: &none,
      batch, in: work)
  }
}
