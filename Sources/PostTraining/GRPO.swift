public import Diffusion
public import Models
public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// Group-relative policy optimisation on a flow or a few-step sampler (algorithm.md 9; DanceGRPO,
/// arXiv:2505.07818; PISCES eq. 6).
public enum GRPO {
  /// Advantages (R - mean) / (std + 1e-6) of the K rewards of one prompt; std has the divisor K -
  /// 1.
  public static func advantages(_ rewards: [Double], epsilon: Double = 1e-6) -> [Double] {
    let mean = rewards.reduce(0, +) / Double(rewards.count)
    let deviation = deviation(rewards)
    return rewards.map { ($0 - mean) / (deviation + epsilon) }
  }
  /// Standard deviation with divisor K - 1; 0 for one value.
  static func deviation(_ x: [Double]) -> Double {
    let k = Double(x.count)
    let mean = x.reduce(0, +) / k
    return x.count > 1 ? (x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (k - 1)).squareRoot() : 0
  }
  /// Indices of the `n`/2 highest scores, then of the `n`/2 lowest, each in ascending order; all
  /// indices if n covers the group.
  public static func bestAndWorst(_ scores: [Double], keep n: Int) -> [Int] {
    let order = scores.indices.sorted { (scores[$0], $0) < (scores[$1], $1) }
    if n >= scores.count { return Array(scores.indices) }
    return Array(order.suffix(n / 2)) + Array(order.prefix(n / 2))
  }

  /// One clipped term: max(-A ρ, -A clip(ρ, 1-ε, 1+ε)) with ρ = exp(new - old), and its derivative
  /// with respect to `new`.
  public static func clipped(advantage: Double, new: Double, old: Double, clip: Double) -> (
    loss: Double, slope: Double, ratio: Double
  ) {
    let ratio = exp(new - old)
    let inside = -advantage * ratio
    let limited = -advantage * min(max(ratio, 1 - clip), 1 + clip)
    // The derivative is zero where the clipped branch is strictly larger: ρ is then outside the
    // range, and that branch is constant.
    return (max(inside, limited), limited > inside ? 0 : inside, ratio)
  }

  /// A rollout: the states and log-probabilities of the SDE steps under the policy that sampled
  /// them, and the clean prediction of the last step.
  public struct Rollout: Sendable {
    /// The steps taken by the SDE. The others follow the ODE.
    public let window: Range<Int>
    /// `[R, ...]` each: the states before every step of the window, and the state after its last
    /// step.
    public var states: [Tensor]
    /// Log-probabilities, `[step of the window][sample]`.
    public var logProbabilities: [[Double]]
    public var clean: Tensor
    init(window: Range<Int>, states: [Tensor], clean: Tensor) {
      (self.window, self.states, self.clean) = (window, states, clean)
      logProbabilities = []
    }
    /// Memory for `rows` samples `[C, n, h, w]`, which are filled in parts.
    init(
      rows: Int, latent: [Int], window: Range<Int>, in work: borrowing Workspace
    ) {
      let shape = Shape([rows] + latent)
      self.init(
        window: window, states: (0...window.count).map { _ in work.tensor(shape) },
        clean: work.tensor(shape))
      logProbabilities = Array(repeating: Array(repeating: 0, count: rows), count: window.count)
    }
    /// Copies the rows of a part, which has the same steps, to the rows from `start` on.
    mutating func place(_ part: Rollout, at start: Int, in work: borrowing Workspace) {
      for i in states.indices { work.place(part.states[i], into: &states[i], axis: 0, at: start) }
      work.place(part.clean, into: &clean, axis: 0, at: start)
      let rows = start..<start + part.clean.shape[0]
      for i in logProbabilities.indices {
        logProbabilities[i].replaceSubrange(rows, with: part.logProbabilities[i])
      }
    }
  }
  public struct Policy: Sendable {
    public var steps = 16, shift = 5.0, eta = 0.25, guidance = 6016.0
    /// Euler steps after the window, over the remaining levels; 0: one for each level (MixGRPO's
    /// flash variant has fewer, too).
    public var tail = 0
    /// The few-step sampler of a distilled network instead of a flow (D-53): noise is what it adds
    /// between its predictions.
    public var consistency: ConsistencySampler?
    public init(steps: Int = 16, shift: Double = 5, eta: Double = 0.25, guidance: Double = 6016) {
      (self.steps, self.shift, self.eta, self.guidance) = (steps, shift, eta, guidance)
    }
    public var sigmas: [Double] {
      NoiseSchedule.samplerLevels(steps: steps, shift: shift).map { Double(Float($0)) }
    }
    /// The network's time input: floor(1000 σ_k), or the sampler's time.
    public func time(_ k: Int) -> Float {
      consistency.map { Float($0.times[k]) } ?? Float((1000 * sigmas[k]).rounded(.down))
    }
    /// The noisy step k. Behind the last prediction of the few-step sampler no noise is used.
    func step(_ k: Int) -> StochasticStep {
      guard let c = consistency else {
        return StochasticStep(sigma: sigmas[k], next: sigmas[k + 1], eta: eta)
      }
      let clean = c.schedule.boundary(c.times[k])
      let alpha = c.schedule.alphas[k + 1 < c.steps ? c.times[k + 1] : 0]
      let a = alpha.squareRoot()
      return StochasticStep(
        mean: StateMixture(state: a * clean.state, output: a * clean.output),
        deviation: (1 - alpha).squareRoot(), clean: clean)
    }
    /// The step without noise from k to `next`, which may be the end.
    func step(_ k: Int, to next: Int) -> StateMixture {
      guard let c = consistency else {
        return StateMixture(state: 1, output: sigmas[next] - sigmas[k])
      }
      return next < c.steps
        ? c.schedule.step(from: c.times[k], to: c.times[next])
        : c.schedule.boundary(c.times[k])
    }
  }
  /// A group whose members start from the same noise: `prompt` has one row for each group, which
  /// has `members` members. The ODE steps before the window are then taken once for each group.
  public struct SharedStart: Sendable {
    public let prompt: PromptEmbedding, members: Int
    public init(prompt: PromptEmbedding, members: Int) {
      (self.prompt, self.members) = (prompt, members)
    }
  }

  /// S steps from `initial`. Those of `window` (nil: all) follow the SDE, and the last step ends at
  /// σ = 0. `initial` is `[R, ...]`, or `[R / members, ...]` with `shared`, whose prompt has as
  /// many rows. `noise(k)` `[R, ...]` is ξ of step k. MixGRPO, arXiv:2507.21802.
  public static func rollout(
    _ model: some VideoDenoiser, _ policy: Policy, initial: Tensor, prompt: PromptEmbedding,
    window: Range<Int>? = nil, shared: SharedStart? = nil,
    noise: (Int, borrowing Workspace) -> Tensor, in work: borrowing Workspace
  ) -> Rollout {
    let window = window ?? 0..<policy.steps
    var out = Rollout(window: window, states: [], clean: initial)
    var z = initial
    func velocity(_ k: Int, _ prompt: PromptEmbedding) -> Tensor {
      let rows = z.shape[0]
      return model(
        z, times: Array(repeating: policy.time(k), count: rows), prompt,
        guidance: DirectStep.guidance(model, policy.guidance, rows), in: work)
    }
    for k in 0..<window.lowerBound {
      let m = policy.step(k, to: k + 1)
      z = work.combine(m.state, z, m.output, velocity(k, shared?.prompt ?? prompt))
    }
    if let shared {
      let each = (0..<z.shape[0] * shared.members).map { Int32($0 / shared.members) }
      z = work.gather(z.reshaped(Shape(z.shape[0], z.count / z.shape[0])), each).reshaped(
        Shape([each.count] + z.shape.dims.dropFirst()))
    }
    for k in window {
      let v = velocity(k, prompt)
      let step = StochasticSteps(repeating: policy.step(k), count: z.shape[0])
      let mean = step.mean(z, velocity: v, in: work)
      if k == policy.steps - 1 { out.clean = step.clean(z, velocity: v, in: work) }
      out.states.append(z)
      z = step.sample(mean, noise: noise(k, work), in: work)
      out.logProbabilities.append(step.logProbability(of: z, mean: mean, in: work))
    }
    out.states.append(z)
    let left = policy.steps - window.upperBound
    let count = policy.tail > 0 ? min(policy.tail, left) : left
    let levels = (0...count).map { window.upperBound + ($0 * left + count / 2) / max(count, 1) }
    for (k, next) in zip(levels, levels.dropFirst()) {
      let m = policy.step(k, to: next)
      z = work.combine(m.state, z, m.output, velocity(k, prompt))
    }
    if count > 0 { out.clean = z }
    return out
  }

  /// A step of a rollout that is trained on, with the advantages of its sample for each reward.
  public struct Transition: Sendable {
    public let sample, step: Int, advantages: [Double]
    public init(sample: Int, step: Int, advantages: [Double]) {
      (self.sample, self.step, self.advantages) = (sample, step, advantages)
    }
  }
  public struct Options: Sendable {
    /// Coefficients of the rewards' terms.
    public var coefficients: [Double]
    public var clip = 1e-4, advantageClip = 5.0
    /// Factor on every term: 1 / number of transitions in an optimiser step.
    public var scale = 1.0
    /// Weight of KL(student || teacher).
    public var divergence = 0.0
    public var checkpointing = false
    public init(coefficients: [Double]) { self.coefficients = coefficients }
  }
  public struct Term: Sendable {
    public let loss, newLogProbability, ratio, divergence: Double
  }
  /// Trains on transitions in one pass: adds the gradient of `scale` Σ (Σ_r c_r L_r + w KL) to the
  /// student's gradients. `prompt` has one row for each transition. The log-probabilities of the
  /// sampling policy are those of the rollout.
  public static func train<Model: VideoDenoiser>(
    _ student: inout Model, _ policy: Policy, _ rollout: Rollout,
    _ transitions: [Transition], prompt: PromptEmbedding, teacher: Model? = nil,
    _ o: Options,
    in work: borrowing Workspace
  ) -> [Term] {
    let first = rollout.window.lowerBound
    let n = transitions.count
    func rows(_ behind: Int) -> Tensor {
      work.stacked(transitions.map { rollout.states[$0.step - first + behind][row: $0.sample] })
    }
    let z = rows(0)
    let next = rows(1)
    let times = transitions.map { policy.time($0.step) }
    let steps = StochasticSteps(transitions.map { policy.step($0.step) })
    let guidance = DirectStep.guidance(student, policy.guidance, n)
    let reference =
      o.divergence > 0
      ? teacher.map { $0(z, times: times, prompt, guidance: guidance, in: work) } : nil
    let (v, saved) = student.predict(
      z, times: times, prompt, guidance: guidance, keeping: Keeping(checkpointing: o.checkpointing),
      in: work)
    let mean = steps.mean(z, velocity: v, in: work)
    let new = steps.logProbability(of: next, mean: mean, in: work)
    let other = reference.map { steps.mean(z, velocity: $0, in: work) }
    let divergences =
      other.map { steps.divergence(mean, from: $0, in: work) } ?? Array(repeating: 0, count: n)

    var slopes = Array(repeating: 0.0, count: n)
    let terms = transitions.indices.map { i in
      let old = rollout.logProbabilities[transitions[i].step - first][transitions[i].sample]
      var loss = o.scale * o.divergence * divergences[i]
      var ratio = 1.0
      for (a, c) in zip(transitions[i].advantages, o.coefficients) {
        let t = clipped(
          advantage: min(max(a, -o.advantageClip), o.advantageClip), new: new[i], old: old,
          clip: o.clip)
        loss += o.scale * c * t.loss
        slopes[i] += o.scale * c * t.slope
        ratio = t.ratio
      }
      return Term(loss: loss, newLogProbability: new[i], ratio: ratio, divergence: divergences[i])
    }
    var dv = steps.logProbabilityBackward(slopes, next: next, mean: mean, in: work)
    if let other {
      work.add(
        steps.divergenceBackward(
          slopes.map { _ in o.scale * o.divergence }, mean, from: other, in: work), to: &dv)
    }
    student.predictBackward(dv, consume saved, in: work)
    return terms
  }
}
