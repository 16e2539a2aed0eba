public import Diffusion
public import Models
public import TensorRuntime

/// GRPO on one noise level of data latents, with consistency (algorithm.md 9.3). A group has K
/// noises of one sample. Each takes one SDE step at the same level and is rewarded on its
/// prediction of the clean video.
public struct SingleStepGRPO: Sendable {
  public struct Options: Sendable, Equatable {
    public var phases = 1, huberC = 0.001, accumulation = 1
    public var consistencyWeight = 1.0, rewardWeight = 1.0
    public var eta = 0.25, clip = 1e-4, advantageClip = 5.0
    public var studentGuidance = 6016.0, teacherGuidance = 6016.0
    public var checkpointing = false
    public init() {}
  }
  public let schedule: NoiseSchedule
  public var options: Options
  public init(_ schedule: NoiseSchedule, _ options: Options = Options()) {
    (self.schedule, self.options) = (schedule, options)
  }

  /// K noises of one sample at one level.
  public struct Group: Sendable {
    /// `[1, ...]`, scaled.
    public var latents: Tensor
    /// `[K, ...]`: of the states, and of the SDE step.
    public var noise, stepNoise: Tensor
    /// Index of the noise level.
    public var index: Int
    /// One row.
    public var prompt: PromptEmbedding
    public init(
      latents: Tensor, noise: Tensor, stepNoise: Tensor, index: Int, prompt: PromptEmbedding
    ) {
      (self.latents, self.noise, self.stepNoise) = (latents, noise, stepNoise)
      (self.index, self.prompt) = (index, prompt)
    }
  }
  /// Losses of each member of the group. They are not divided by K or by the accumulation; `loss`
  /// is.
  public struct Output: Sendable {
    public var clean, next: Tensor
    public var old, new, ratios, consistencyLosses: [Double]
    /// `[reward][member]`.
    public var advantages, rewardLosses: [[Double]]
    public var loss: Double
  }

  /// `old` (θ_old) samples. `score` gives the rewards of clean predictions, `[reward][member]`.
  /// Adds to the student's gradients.
  public func run<Model: VideoDenoiser>(
    student: inout Model, old: Model, teacher: Model, target: Model? = nil, _ group: Group,
    score: (Tensor, borrowing Workspace) -> [[Double]], in work: borrowing Workspace
  ) -> Output {
    let members = Members(group, sigma: schedule.sigmas[group.index], in: work)
    let steps = StochasticSteps(
      repeating: StochasticStep(
        sigma: members.sigma, next: schedule.previous[group.index], eta: options.eta),
      count: members.count)
    let x = members.x
    let vOld = velocity(
      old, x, at: members.sigma, guidance: options.studentGuidance, members, in: work)
    let meanOld = steps.mean(x, velocity: vOld, in: work)
    let next = steps.sample(meanOld, noise: group.stepNoise, in: work)
    let oldLog = steps.logProbability(of: next, mean: meanOld, in: work)
    let clean = work.flowStep(
      x, velocity: vOld, from: members.all(members.sigma), to: members.all(schedule.cleanLevel))
    let advantages = score(clean, work).map { GRPO.advantages($0) }

    let (v, saved) = student.predict(
      x, times: members.times(members.sigma), members.prompt,
      guidance: DirectStep.guidance(student, options.studentGuidance, members.count),
      keeping: Keeping(checkpointing: options.checkpointing), in: work)
    let mean = steps.mean(x, velocity: v, in: work)
    var out = Output(
      clean: clean, next: next, old: oldLog,
      new: steps.logProbability(of: next, mean: mean, in: work), ratios: [], consistencyLosses: [],
      advantages: advantages, rewardLosses: advantages.map { _ in [] }, loss: 0)
    var dv = steps.logProbabilityBackward(policyLosses(&out), next: next, mean: mean, in: work)
    if options.consistencyWeight > 0 {
      consistency(
        members, group.index, v, teacher: teacher, target: { target ?? student }, &out, to: &dv,
        in: work)
    }
    student.predictBackward(dv, consume saved, in: work)
    return out
  }

  /// The members of a group: x = (1 - σ) z + σ ε `[K, ...]` and the prompt of each.
  private struct Members {
    let count: Int, sigma: Double, x: Tensor, prompt: PromptEmbedding

    init(_ group: Group, sigma: Double, in work: borrowing Workspace) {
      let k = group.noise.shape[0]
      (count, self.sigma) = (k, sigma)
      prompt = PromptEmbedding(
        states: work.repeated(group.prompt.states[row: 0], k),
        counts: Array(repeating: group.prompt.counts[0], count: k),
        pooled: group.prompt.pooled.map { work.repeated($0[row: 0], k) })
      x = work.noised(
        work.repeated(group.latents[row: 0], k), group.noise,
        sigmas: Array(repeating: sigma, count: k))
    }
    func all(_ value: Double) -> [Double] { Array(repeating: value, count: count) }
    /// The network's time input at level `sigma`.
    func times(_ sigma: Double) -> [Float] { all(sigma).map { Float(1000 * $0) } }
  }
  private func velocity(
    _ model: some VideoDenoiser, _ x: Tensor, at sigma: Double, guidance: Double,
    _ members: Members,
    in work: borrowing Workspace
  ) -> Tensor {
    model(
      x, times: members.times(sigma), members.prompt,
      guidance: DirectStep.guidance(model, guidance, members.count), in: work)
  }
  /// Factor on every loss: 1 / (K G).
  private func scale(_ count: Int) -> Double { 1 / Double(count * options.accumulation) }

  /// The clipped losses of all rewards. Returns the derivatives of their weighted sum with respect
  /// to the new log-probabilities.
  private func policyLosses(_ out: inout Output) -> [Double] {
    let o = options
    let scale = scale(out.new.count)
    var slopes = out.new.map { _ in 0.0 }
    for i in out.new.indices {
      for (r, a) in out.advantages.enumerated() {
        let t = GRPO.clipped(
          advantage: min(max(a[i], -o.advantageClip), o.advantageClip), new: out.new[i],
          old: out.old[i], clip: o.clip)
        slopes[i] += scale * o.rewardWeight * t.slope
        out.rewardLosses[r].append(t.loss)
        out.loss += scale * o.rewardWeight * t.loss
        if r == 0 { out.ratios.append(t.ratio) }
      }
    }
    return slopes
  }

  /// The consistency losses of the members, at the student's velocity `v`. Adds to `dv`.
  private func consistency<Model: VideoDenoiser>(
    _ members: Members, _ index: Int, _ v: Tensor, teacher: Model, target: () -> Model,
    _ out: inout Output, to dv: inout Tensor,
    in work: borrowing Workspace
  ) {
    let o = options
    let k = members.count
    let scale = scale(k)
    let end = schedule.endLevel(index, phases: o.phases)
    let distillation = ConsistencyDistillation(
      schedule, indices: Array(repeating: index, count: k), phases: o.phases, huberC: o.huberC)
    let prediction = distillation.prediction(members.x, output: v, in: work)
    func velocity(_ model: Model, _ x: Tensor, at sigma: Double) -> Tensor {
      self.velocity(model, x, at: sigma, guidance: o.teacherGuidance, members, in: work)
    }
    let goal = distillation.goal(
      members.x, teacher: velocity(teacher, members.x, at: members.sigma),
      output: { x, _ in velocity(target(), x, at: schedule.previous[index]) }, in: work
    ).goal
    for i in 0..<k {
      let (loss, d) = distillation.loss(
        prediction.slice(i..<i + 1), goal: goal.slice(i..<i + 1), in: work)
      out.consistencyLosses.append(loss)
      out.loss += scale * o.consistencyWeight * loss
      work.place(
        work.combine(
          scale * o.consistencyWeight * (end - members.sigma), d, 1, dv.slice(i..<i + 1)),
        into: &dv, axis: 0, at: i)
    }
  }
}
