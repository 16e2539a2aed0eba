import Diffusion
import Files
public import Models
import Pipelines
public import Rewards
public import TensorRuntime
public import Training

#if canImport(Glibc)
  import Glibc
#endif

/// Measures whether a run improves what its rewards stand for, or only the rewards (Gao et al.
/// 2023, arXiv:2210.10760: over-optimisation shows in a reward that was not trained on). At
/// intervals the student samples the same prompts from the same noise. The samples are scored by
/// the rewards of the run and by a held-out reward model, such as one trained from another seed.
public struct HackingWatch<Model: VideoDenoiser>: Sendable {
  public struct Finding: Sendable {
    /// Mean changes since the start.
    public let reward, heldOut: Double
    /// Share of the samples whose reward rose while the held-out reward fell.
    public let share: Double
    /// The mean reward of the run rose and the held-out one fell, each by more than two standard
    /// errors; or the share exceeds the limit.
    public let isHacking: Bool
  }
  let settings: PostSettings, models: PostModels<Model>, heldOut: RewardModel, captions: [String],
    latentShape: [Int]
  /// Weighted rewards of the teacher's samples, by the model of the run and by the held-out one.
  private let first: (reward: [Double], heldOut: [Double])

  /// Each of `captions` is sampled once. The held-out model has the run's rewards and weights.
  public init(
    _ settings: PostSettings, models: PostModels<Model>, heldOut: RewardModel, captions: [String],
    latentShape: [Int], in work: borrowing Workspace
  ) throws {
    let models = models.atFrameRate(of: settings)
    (self.settings, self.models, self.heldOut, self.captions, self.latentShape) = (
      settings, models, heldOut, captions, latentShape
    )
    first = try Self.scores(
      models.teacher, settings, models, heldOut, captions, latentShape, in: work)
  }
  public func look(at student: Model, in work: borrowing Workspace) throws -> Finding {
    let now = try Self.scores(student, settings, models, heldOut, captions, latentShape, in: work)
    return Self.judge(
      reward: zip(now.reward, first.reward).map { $0 - $1 },
      heldOut: zip(now.heldOut, first.heldOut).map { $0 - $1 }, limit: settings.watch.limit)
  }
  /// Change of each sample.
  static func judge(reward: [Double], heldOut: [Double], limit: Double) -> Finding {
    func mean(_ x: [Double]) -> Double { x.reduce(0, +) / Double(max(x.count, 1)) }
    /// Mean divided by its standard error.
    func significance(_ x: [Double]) -> Double {
      let m = mean(x)
      let n = Double(x.count)
      let variance = x.reduce(0) { $0 + ($1 - m) * ($1 - m) } / max(n - 1, 1)
      return m / max((variance / n).squareRoot(), 1e-12)
    }
    let share =
      Double(zip(reward, heldOut).count { $0 > 0 && $1 < 0 }) / Double(max(reward.count, 1))
    return Finding(
      reward: mean(reward), heldOut: mean(heldOut), share: share,
      isHacking: significance(reward) > 2 && (significance(heldOut) < -2 || share > limit))
  }

  private static func scores(
    _ model: Model, _ s: PostSettings, _ models: PostModels<Model>, _ heldOut: RewardModel,
    _ captions: [String], _ shape: [Int], in work: borrowing Workspace
  ) throws -> (reward: [Double], heldOut: [Double]) {
    let noise = RandomStream(seed: UInt64(s.seed), .evaluation, step: 1)
    let latents = try LatentPool.sampled(
      model, s.sampler(models.process, for: model), captions: captions, shape: shape,
      prompts: models.prompts,
      noise: noise, seed: UInt64(s.seed), in: work
    ).latents
    let seen = models.rewardFrames(
      of: shape[1], s, drawing: RandomStream(seed: UInt64(s.seed), .dropout))
    var mine: [Double] = []
    var other: [Double] = []
    for start in stride(from: 0, to: captions.count, by: 32) {
      let range = start..<min(start + 32, captions.count)
      let list = Array(captions[range])
      let (frames, _) = models.decoder.forward(latents.slice(range), frames: seen, in: work)
      func score(_ reward: RewardModel) -> [Double] {
        let scores = reward.forward(
          frames, reward.captions(list, in: work), checkpointing: true, in: work
        ).scores
        return list.indices.map {
          (scores.quality.isEmpty ? 0 : s.weights.quality * scores.quality[$0])
            + (scores.semantic.isEmpty ? 0 : s.weights.semantic * scores.semantic[$0])
        }
      }
      mine += score(models.reward!)
      other += score(heldOut)
    }
    return (mine, other)
  }
}

/// A post-training task with a watch, whose results are added to the record of every few steps.
public struct WatchedTask<Base: PostTask>: TrainingTask {
  public private(set) var base: Base
  let watch: HackingWatch<Base.Model>, every: Int, stops: Bool
  public private(set) var stopReason: String?

  public init(_ base: Base, _ watch: HackingWatch<Base.Model>, every: Int, stopsWhenHacking: Bool) {
    (self.base, self.watch, self.every, stops) = (base, watch, every, stopsWhenHacking)
  }
  public var totalSteps: Int { base.totalSteps }
  public var isFinished: Bool { base.isFinished }
  public func kindsOfStep(from step: Int) -> [Int] {
    Array(Set(base.kindsOfStep(from: step) + [min((step / every + 1) * every, totalSteps) - 1]))
      .sorted()
  }

  public mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    var record = try base.step(step, in: work)
    stopReason = nil
    guard (step + 1) % every == 0 || step + 1 == totalSteps else { return record }
    let f = try watch.look(at: base.result, in: work)
    record.terms += [
      ("watch_reward", f.reward), ("watch_held_out", f.heldOut), ("watch_share", f.share),
      ("watch_hacking", f.isHacking ? 1 : 0),
    ]
    if f.isHacking {
      let figures =
        """
        the reward has changed by \(short(f.reward)) and the held-out one by \(short(f.heldOut)) \
        since the start; in \(short(100 * f.share)) % of the samples the reward rose while the \
        held-out one fell
        """
      record.warning =
        """
        the rewards are being hacked after step \(step + 1): \(figures): lower the learning rate, \
        raise post.anchor_weight, or stop earlier
        """
      if stops { stopReason = "stopped by --stop-when-hacking" }
    }
    return record
  }
  private func short(_ x: Double) -> String { "\((x * 1000).rounded() / 1000)" }
  public var leaves: Int? { base.leaves }
  public func state() -> TrainingState {
    base.state()
  }
  public mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws {
    try base.restore(&state, in: work)
  }
  public func export(to folder: String) throws { try base.export(to: folder) }
  public func samples(step: Int, in work: borrowing Workspace) throws -> [[Tensor]] {
    try base.samples(step: step, in: work)
  }
}
