import Diffusion
public import Models
public import TensorRuntime
#if canImport(Glibc)
import Glibc
#endif

/// Group-relative policy optimisation on a flow (algorithm.md 9; DanceGRPO, arXiv:2505.07818; PISCES eq. 6).
public enum GroupRelative {
  /// (R - mean) / (std + 1e-6), std with divisor K - 1; K rewards of one prompt.
  public static func advantages(_ rewards: [Double], epsilon: Double = 1e-6) -> [Double] {
    let k = Double(rewards.count), mean = rewards.reduce(0, +) / k
    let deviation = rewards.count > 1 ? (rewards.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (k - 1)).squareRoot() : 0
    return rewards.map { ($0 - mean) / (deviation + epsilon) }
  }
  /// The `n`/2 highest scores, then the `n`/2 lowest, each in ascending order; everybody when n covers the group.
  public static func bestAndWorst(_ scores: [Double], keep n: Int) -> [Int] {
    let order = scores.indices.sorted { (scores[$0], $0) < (scores[$1], $1) }
    if n >= scores.count { return Array(scores.indices) }
    return Array(order.suffix(n / 2)) + Array(order.prefix(n / 2))
  }

  /// One clipped term: max(-A ρ, -A clip(ρ, 1-ε, 1+ε)) with ρ = exp(new - old), and its derivative with respect to `new`.
  public static func clipped(advantage: Double, new: Double, old: Double, clip: Double) -> (loss: Double, slope: Double, ratio: Double) {
    let ratio = exp(new - old), inside = -advantage * ratio, limited = -advantage * min(max(ratio, 1 - clip), 1 + clip)
    // Zero where the clipped branch is strictly larger (then ρ is outside the range and that branch is constant).
    return (max(inside, limited), limited > inside ? 0 : inside, ratio)
  }

  /// A rollout of one prompt: states `z_0 ... z_S` `[K, ...]` each, log-probabilities under the policy that sampled them,
  /// and the clean prediction of the last step.
  public struct Rollout: Sendable {
    public var states: [Tensor]
    /// `[step][sample]`
    public var logProbabilities: [[Double]]
    public var clean: Tensor
    public let sigmas: [Double]
    public var steps: Int { sigmas.count - 1 }
    /// Network time floor(1000 σ_k).
    public func time(_ k: Int) -> Float { Float((1000 * sigmas[k]).rounded(.down)) }
  }
  public struct Policy: Sendable {
    public var steps = 16, shift = 5.0, eta = 0.25, guidance = 6016.0
    public init(steps: Int = 16, shift: Double = 5, eta: Double = 0.25, guidance: Double = 6016) { (self.steps, self.shift, self.eta, self.guidance) = (steps, shift, eta, guidance) }
    public var sigmas: [Double] { NoiseSchedule.samplerLevels(steps: steps, shift: shift).map { Double(Float($0)) } }
  }

  /// S SDE steps from `initial` `[K, ...]`; `noise(k)` is ξ of step k. The last step ends at σ = 0.
  public static func rollout(
    _ model: VideoTransformer, _ policy: Policy, initial: Tensor, prompt: PromptEmbedding, noise: (Int) -> Tensor, in work: borrowing Workspace
  ) -> Rollout {
    let sigmas = policy.sigmas, guidance = DirectStep.guidance(model, policy.guidance, initial.shape[0])
    var out = Rollout(states: [initial], logProbabilities: [], clean: initial, sigmas: sigmas), z = initial
    for k in 0..<policy.steps {
      let v = model(z, times: Array(repeating: out.time(k), count: z.shape[0]), prompt, guidance: guidance, in: work)
      let step = StochasticStep(sigma: sigmas[k], next: sigmas[k + 1], eta: policy.eta), mean = step.mean(z, velocity: v, in: work)
      if k == policy.steps - 1 { out.clean = step.clean(z, velocity: v, in: work) }
      z = step.sample(mean, noise: noise(k), in: work)
      out.states.append(z)
      out.logProbabilities.append(step.logProbability(of: z, mean: mean, in: work))
    }
    return out
  }

  public struct Term: Sendable {
    public let loss, newLogProbability, ratio: Double
  }
  /// Trains on one transition of one sample: adds the gradient of `scale` Σ_r c_r L_r to the student. `advantages` and
  /// `coefficients` by reward.
  public static func train(
    _ student: inout VideoTransformer, _ policy: Policy, _ rollout: Rollout, sample: Int, step k: Int, prompt: PromptEmbedding, advantages: [Double], coefficients: [Double],
    clip: Double, advantageClip: Double, scale: Double, recompute: Bool = false, in work: borrowing Workspace
  ) -> Term {
    let z = rollout.states[k].slice(sample..<sample + 1), next = rollout.states[k + 1].slice(sample..<sample + 1)
    let (v, saved) = student.forward(z, times: [rollout.time(k)], prompt, guidance: DirectStep.guidance(student, policy.guidance, 1), recompute: recompute, in: work)
    let step = StochasticStep(sigma: rollout.sigmas[k], next: rollout.sigmas[k + 1], eta: policy.eta), mean = step.mean(z, velocity: v, in: work)
    let new = step.logProbability(of: next, mean: mean, in: work)[0], old = rollout.logProbabilities[k][sample]
    var loss = 0.0, slope = 0.0, ratio = 1.0
    for (a, c) in zip(advantages, coefficients) {
      let t = clipped(advantage: min(max(a, -advantageClip), advantageClip), new: new, old: old, clip: clip)
      loss += scale * c * t.loss
      slope += scale * c * t.slope
      ratio = t.ratio
    }
    if slope != 0 { student.backward(step.logProbabilityBackward([slope], next: next, mean: mean, in: work), saved, in: work) }
    return Term(loss: loss, newLogProbability: new, ratio: ratio)
  }
}
