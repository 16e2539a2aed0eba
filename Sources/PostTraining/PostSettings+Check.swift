import Diffusion
import Files
import Training

/// Combinations of settings that cannot work, found before any work starts (algorithm.md 7.5, 5.2).
extension PostSettings {
  private typealias Fault = ConfigurationError

  public func check(hasRewardModel: Bool) throws {
    try checkTerms(hasRewardModel: hasRewardModel)
    try checkLevels()
    if objective == .grpo { try checkGRPO() }
    if accumulation % cluster.leaf != 0 {
      throw Fault(
        "leaves of \(cluster.leaf) micro-steps do not divide \(accumulation)", "cluster.leaf",
        "give a divisor of accumulation")
    }
    try checkGroups()
  }
  private func checkGroups() throws {
    try RankGroups.check(group: cluster.group, strips: cluster.strips)
    if cluster.strips > 1 && objective == .grpo {
      throw Fault(
        "only the direct step is cut into strips", "cluster.strips",
        "set cluster.strips and cluster.group to 1, or use the direct objective")
    }
    if cluster.strips > 1 && cluster.leaf > 1 {
      throw Fault(
        "leaves of \(cluster.leaf) micro-steps are not cut into strips", "cluster.leaf",
        "set it to 1, or cluster.strips")
    }
  }
  private var isRewarded: Bool { weights.quality > 0 || weights.semantic > 0 }

  /// Terms of the loss, and what each of them needs.
  private func checkTerms(hasRewardModel: Bool) throws {
    let others = [weights.consistency, weights.decay, weights.flow, post.anchor_weight]
    if !isRewarded && others.allSatisfy({ $0 == 0 }) {
      throw Fault(
        "nothing to train on: every weight is 0", "weights", "give at least one term a weight")
    }
    if reward.normalise == .group && objective == .direct && batch < 2 {
      throw Fault(
        "a micro-step of one clip has no deviation", "reward.normalise",
        "raise batch, or set it to none")
    }
    if isRewarded && !hasRewardModel {
      throw Fault(
        "rewards need a reward model", "weights",
        "give --reward DIR, or set weights.quality and weights.semantic to 0")
    }
    if post.velocity_drift_limit > 0 && post.anchor_weight == 0 {
      throw Fault(
        "a limit of the velocity's drift needs the anchor, which measures it",
        "post.velocity_drift_limit", "give post.anchor_weight a value")
    }
    if (vae.tiling || vae.activation_checkpointing) && !isRewarded {
      throw Fault(
        "tiling and recomputation of the decoder act on rewards only", "vae",
        "switch them off, or a reward on")
    }
    if post.latents == .`self` && (post.pool < batch) {
      throw Fault(
        "a pool of \(post.pool) own samples is smaller than a batch", "post.pool", "raise it")
    }
  }
  /// Noise levels and phases.
  private func checkLevels() throws {
    if post.index_range[1] < post.index_range[0] || post.index_range[1] >= schedule.levels {
      throw Fault(
        "post.index_range needs [first, last] within 0...\(schedule.levels - 1)",
        "post.index_range", "for example [4, 29]")
    }
    if 1000 % schedule.levels != 0 {
      throw Fault("\(schedule.levels) levels do not divide 1000", "schedule.levels", "use 50")
    }
    guard let phases = PhaseSchedule(schedule.phases) else {
      throw Fault(
        "schedule.phases is \(schedule.phases.isEmpty ? "empty" : schedule.phases)",
        "schedule.phases", "write it as 4000-1")
    }
    if let entry = phases.entries.first(where: { $0.phases > schedule.levels }) {
      throw Fault(
        "\(entry.phases) phases of \(schedule.levels) levels", "schedule.phases",
        "give at most one phase a level")
    }
  }
  private func checkGRPO() throws {
    if !isRewarded {
      throw Fault(
        "grpo needs a reward", "weights", "give weights.quality or weights.semantic a weight")
    }
    if grpo.window >= grpo.sampling_steps {
      throw Fault(
        "a window of \(grpo.window) in \(grpo.sampling_steps) steps", "grpo.window",
        "give at most \(grpo.sampling_steps - 1): the last step is not trained on")
    }
    if weights.flow > 0 {
      throw Fault(
        "grpo has no flow matching", "weights.flow", "set it to 0, or use the direct objective")
    }
  }
}
