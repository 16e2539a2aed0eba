public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// One step of the SDE with the flow's marginals (algorithm.md 9.1; DanceGRPO arXiv:2505.07818).
///
///   μ = z + Δ [(1 + η²(1-σ)/(2σ)) v + η²/(2σ) z],  s = η √(-Δ),  Δ = σ⁺ - σ < 0
public struct StochasticStep: Sendable {
  /// μ and s: the next state is normal.
  public let mean: StateMixture, deviation: Double
  /// What the network's output says of the data.
  public let clean: StateMixture

  public init(sigma: Double, next: Double, eta: Double) {
    precondition(
      next < sigma && sigma > 0 && eta > 0,
      "a stochastic step goes from \(sigma) down to \(next) with η \(eta)")
    let delta = next - sigma
    self.init(
      mean: StateMixture(
        state: 1 + delta * eta * eta / (2 * sigma),
        output: delta * (1 + eta * eta * (1 - sigma) / (2 * sigma))),
      deviation: eta * (-delta).squareRoot(), clean: StateMixture(state: 1, output: -sigma))
  }
  /// A step of any process with a normal next state.
  public init(mean: StateMixture, deviation: Double, clean: StateMixture) {
    (self.mean, self.deviation, self.clean) = (mean, deviation, clean)
  }
}

/// A step with its own level for each sample of a batch `[B, ...]`: means, log-densities and their
/// gradients.
public struct StochasticSteps: Sendable {
  public let steps: [StochasticStep]
  public init(_ steps: [StochasticStep]) { self.steps = steps }
  public init(repeating step: StochasticStep, count: Int) {
    steps = Array(repeating: step, count: count)
  }

  /// μ
  public func mean(_ z: Tensor, velocity v: Tensor, in work: borrowing Workspace) -> Tensor {
    work.mixed(steps.map(\.mean), z, v)
  }
  /// z⁺ = μ + s ξ.
  public func sample(_ mean: Tensor, noise: Tensor, in work: borrowing Workspace) -> Tensor {
    work.mixEach(steps.map { _ in 1 }, mean, steps.map(\.deviation), noise)
  }
  /// x̂₀ = z - σ v.
  public func clean(_ z: Tensor, velocity v: Tensor, in work: borrowing Workspace) -> Tensor {
    work.mixed(steps.map(\.clean), z, v)
  }

  /// log π of each sample: mean over elements of -(z⁺ - μ)²/(2 s²) - log s - ½ log 2π.
  public func logProbability(of next: Tensor, mean: Tensor, in work: borrowing Workspace)
    -> [Double]
  {
    zip(steps, distances(next, mean, in: work)).map {
      -$1 / (2 * $0.deviation * $0.deviation) - log($0.deviation) - 0.5 * log(2 * .pi)
    }
  }
  /// ∂(Σ_b weights[b] log π_b)/∂v = weights[b] (z⁺ - μ)/s² · Δ(1 + η²(1-σ)/(2σ)) / numel.
  public func logProbabilityBackward(
    _ weights: [Double], next: Tensor, mean: Tensor, in work: borrowing Workspace
  ) -> Tensor {
    let c = coefficients(weights, next)
    return work.mixEach(c, next, c.map { -$0 }, mean)
  }
  /// KL(π || π') of each sample, for the mean μ' of another policy with the same s: the mean over
  /// elements of (μ - μ')²/(2 s²).
  public func divergence(_ mean: Tensor, from other: Tensor, in work: borrowing Workspace)
    -> [Double]
  {
    zip(steps, distances(mean, other, in: work)).map { $1 / (2 * $0.deviation * $0.deviation) }
  }
  /// ∂(Σ_b weights[b] KL_b)/∂v = weights[b] (μ - μ')/s² · Δ(1 + η²(1-σ)/(2σ)) / numel.
  public func divergenceBackward(
    _ weights: [Double], _ mean: Tensor, from other: Tensor, in work: borrowing Workspace
  ) -> Tensor {
    let c = coefficients(weights, mean)
    return work.mixEach(c, mean, c.map { -$0 }, other)
  }

  /// Mean squared difference of each sample.
  private func distances(_ a: Tensor, _ b: Tensor, in work: borrowing Workspace) -> [Double] {
    let d = work.difference(a, b)
    let n = Double(d.count / d.shape[0])
    return (0..<d.shape[0]).map { work.sumOfSquares(d.slice($0..<$0 + 1)) / n }
  }
  private func coefficients(_ weights: [Double], _ like: Tensor) -> [Double] {
    let n = Double(like.count / like.shape[0])
    return zip(steps, weights).map { $1 * $0.mean.output / ($0.deviation * $0.deviation * n) }
  }
}
