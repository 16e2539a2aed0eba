import Diffusion
import Layers
import Models
import Rewards
import TensorRuntime
import Training

/// A step of the single-step mode (algorithm.md 9.3): groups of one data latent each.
extension GRPOTask {
  mutating func singleStep(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    let pool = pool!
    let k = settings.grpo.generations
    guard let flow = schedule as? NoiseSchedule else {
      preconditionFailure("groups of one step are of a flow (PostSettings.check(for:))")
    }
    let grpo = SingleStepGRPO(flow, singleStepOptions(step))
    let old = student
    var sum = LeafSum(
      leaves: settings.accumulation, RankGroups(sums: settings.cluster.sums))
    for micro in sum.mine(in: work) where !sum.hasFailed {
      sum.begin(&training, in: work)
      let row = (step * settings.accumulation + micro) % pool.count
      let caption = pool.captions[row]
      let group = group(pool.rows([row], in: work), caption, step, micro, in: work)
      var scored: [[Double]] = []
      let (frozen, frames) = (models, rewardFrames(step))
      let captioned = contexts.batch(
        Array(repeating: caption, count: k), models.reward!, in: work)
      let out = grpo.run(
        student: &training.model, old: old, teacher: models.teacher, group,
        score: { clean, work in
          scored = Self.score(clean, frozen, captioned, frames: frames, in: work)
          return scored
        }, in: work)
      if !out.loss.isFinite { sum.fail(NonFinite("the loss", step: step, sample: micro)) }
      let consistency = out.consistencyLosses.reduce(0, +) / Double(k * settings.accumulation)
      sum.add(
        [out.loss, consistency] + scored.flatMap { $0 }, from: &training, leaf: micro, in: work)
    }
    let rows = try sum.finish(&training, in: work)
    let loss = rows.reduce(0) { $0 + $1[0] }
    let consistency = rows.reduce(0) { $0 + $1[1] }
    let rewards = coefficients.indices.map { r in
      (0..<k).map { i in
        rows.reduce(0) { $0 + $1[2 + r * k + i] } / Double(settings.accumulation)
      }
    }
    let norm = try training.update(
      loss: loss, rate: settings.rate(step: step), maximumNorm: settings.max_grad_norm,
      step: step, in: work)
    return StepRecord(
      loss: loss, terms: means(rewards) + [("consistency", consistency)], gradientNorm: norm,
      learningRate: settings.rate(step: step), samples: k * settings.accumulation)
  }

  /// A group on `latents` `[1, ...]`: its noises and its level are drawn.
  private func group(
    _ latents: Tensor, _ caption: String, _ step: Int, _ micro: Int, in work: borrowing Workspace
  ) -> SingleStepGRPO.Group {
    let shape = Shape([settings.grpo.generations] + latents.shape.dims.dropFirst())
    let range = settings.post.index_range
    func stream(_ purpose: RandomStream.Purpose) -> RandomStream {
      RandomStream(seed: UInt64(settings.seed), purpose, step: step, sample: micro)
    }
    var levels = stream(.timestep)
    return SingleStepGRPO.Group(
      latents: latents, noise: stream(.noise).normal(shape, in: work),
      stepNoise: stream(.rollout).normal(shape, in: work),
      index: range[0] + levels.below(range[1] - range[0] + 1),
      prompt: models.prompts([caption], in: work))
  }
  private func singleStepOptions(_ step: Int) -> SingleStepGRPO.Options {
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
    return o
  }
}
