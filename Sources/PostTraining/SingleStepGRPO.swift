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

  /// Losses of each member of the group. They are not divided by K or by the accumulation; `loss`
  /// is.
  public struct Output: Sendable {
    public var clean, next: Tensor
    public var old, new, ratios, consistencyLosses: [Double]
    /// `[reward][member]`.
    public var advantages, rewardLosses: [[Double]]
    public var loss: Double
  }

  /// `old` (θ_old) samples. Latents are `[1, ...]`, noises `[K, ...]`. `score` gives the rewards of
  /// clean predictions, `[reward][member]`. Adds to the student's gradients.
  public func run(
    student: inout VideoTransformer, old: VideoTransformer, teacher: VideoTransformer,
    target: VideoTransformer? = nil, latents: Tensor, noise: Tensor, stepNoise: Tensor,
    index: Int, prompt: PromptEmbedding, score: (Tensor, borrowing Workspace) -> [[Double]],
    in work: borrowing Workspace
  ) -> Output {
    let o = options
    let k = noise.shape[0]
    let sigma = schedule.sigmas[index]
    let previous = schedule.previous[index]
    let end = schedule.endLevel(index, phases: o.phases)
    let stochastic = StochasticSteps(
      repeating: StochasticStep(sigma: sigma, next: previous, eta: o.eta), count: k)
    let group = PromptEmbedding(
      states: work.repeated(prompt.states[row: 0], k),
      counts: Array(repeating: prompt.counts[0], count: k),
      pooled: work.repeated(prompt.pooled[row: 0], k))
    func all(_ x: Double) -> [Double] { Array(repeating: x, count: k) }
    func velocity(_ model: VideoTransformer, _ x: Tensor, _ level: Double, _ guidance: Double)
      -> Tensor
    {
      model(
        x, times: all(level).map { Float(1000 * $0) }, group,
        guidance: DirectStep.guidance(model, guidance, k), in: work)
    }
    let x = work.noised(work.repeated(latents[row: 0], k), noise, sigmas: all(sigma))
    let vOld = velocity(old, x, sigma, o.studentGuidance)
    let meanOld = stochastic.mean(x, velocity: vOld, in: work)
    let next = stochastic.sample(meanOld, noise: stepNoise, in: work)
    let oldLog = stochastic.logProbability(of: next, mean: meanOld, in: work)
    let clean = work.flowStep(x, velocity: vOld, from: all(sigma), to: all(schedule.cleanLevel))
    let advantages = score(clean, work).map { GRPO.advantages($0) }

    let (v, saved) = student.forward(
      x, times: all(sigma).map { Float(1000 * $0) }, group,
      guidance: DirectStep.guidance(student, o.studentGuidance, k), checkpointing: o.checkpointing,
      in: work
    )
    let scale = 1 / Double(k * o.accumulation)
    let mean = stochastic.mean(x, velocity: v, in: work)
    let newLog = stochastic.logProbability(of: next, mean: mean, in: work)
    var out = Output(
      clean: clean, next: next, old: oldLog, new: newLog, ratios: [], consistencyLosses: [],
      advantages: advantages,
      rewardLosses: advantages.map { _ in [] }, loss: 0)
    var slopes = all(0)
    for i in 0..<k {
      for (r, a) in advantages.enumerated() {
        let t = GRPO.clipped(
          advantage: min(max(a[i], -o.advantageClip), o.advantageClip), new: newLog[i],
          old: oldLog[i], clip: o.clip)
        slopes[i] += scale * o.rewardWeight * t.slope
        out.rewardLosses[r].append(t.loss)
        out.loss += scale * o.rewardWeight * t.loss
        if r == 0 { out.ratios.append(t.ratio) }
      }
    }
    var dv = stochastic.logProbabilityBackward(slopes, next: next, mean: mean, in: work)

    if o.consistencyWeight > 0 {
      let distillation = ConsistencyDistillation(
        schedule, indices: Array(repeating: index, count: k), phases: o.phases, huberC: o.huberC)
      let prediction = distillation.prediction(x, velocity: v, in: work)
      let goal = distillation.goal(
        x, teacher: velocity(teacher, x, sigma, o.teacherGuidance),
        velocity: { velocity(target ?? student, $0, $1[0], o.teacherGuidance) }, in: work
      ).goal
      for i in 0..<k {
        let (loss, d) = distillation.loss(
          prediction.slice(i..<i + 1), goal: goal.slice(i..<i + 1), in: work)
        out.consistencyLosses.append(loss)
        out.loss += scale * o.consistencyWeight * loss
        work.place(
          work.combine(scale * o.consistencyWeight * (end - sigma), d, 1, dv.slice(i..<i + 1)),
          into: &dv, axis: 0, at: i)
      }
    }
    student.backward(dv, saved, in: work)
    return out
  }
}
