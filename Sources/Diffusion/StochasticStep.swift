public import TensorRuntime
#if canImport(Glibc)
import Glibc
#endif

/// One step of the SDE with the flow's marginals, and its log-density (algorithm.md 9.1; DanceGRPO arXiv:2505.07818).
///
///   μ = z + Δ [(1 + η²(1-σ)/(2σ)) v + η²/(2σ) z],  s = η √(-Δ),  Δ = σ⁺ - σ < 0
///   log π = mean over elements of -(z⁺ - μ)²/(2 s²) - log s - ½ log 2π
public struct StochasticStep: Sendable {
  public let sigma, next, eta: Double
  public init(sigma: Double, next: Double, eta: Double) {
    precondition(next < sigma && sigma > 0 && eta > 0, "a stochastic step goes from \(sigma) down to \(next) with η \(eta)")
    (self.sigma, self.next, self.eta) = (sigma, next, eta)
  }
  var delta: Double { next - sigma }
  public var deviation: Double { eta * (-delta).squareRoot() }
  var velocityWeight: Double { delta * (1 + eta * eta * (1 - sigma) / (2 * sigma)) }
  var stateWeight: Double { 1 + delta * eta * eta / (2 * sigma) }

  public func mean(_ z: Tensor, velocity v: Tensor, in work: borrowing Workspace) -> Tensor { work.combine(stateWeight, z, velocityWeight, v) }
  /// z⁺ = μ + s ξ.
  public func sample(_ mean: Tensor, noise: Tensor, in work: borrowing Workspace) -> Tensor { work.combine(1, mean, deviation, noise) }
  /// x̂₀ = z - σ v.
  public func clean(_ z: Tensor, velocity v: Tensor, in work: borrowing Workspace) -> Tensor { work.combine(1, z, -sigma, v) }

  /// log π of each sample of a batch.
  public func logProbability(of next: Tensor, mean: Tensor, in work: borrowing Workspace) -> [Double] {
    let d = work.difference(next, mean), s = deviation, n = Double(d.count / d.shape[0])
    return (0..<d.shape[0]).map { -work.sumOfSquares(d.slice($0..<$0 + 1)) / n / (2 * s * s) - log(s) - 0.5 * log(2 * .pi) }
  }
  /// ∂(Σ_b weights[b] log π_b)/∂v = weights[b] (z⁺ - μ)/s² · Δ(1 + η²(1-σ)/(2σ)) / numel.
  public func logProbabilityBackward(_ weights: [Double], next: Tensor, mean: Tensor, in work: borrowing Workspace) -> Tensor {
    let n = Double(next.count / next.shape[0]), c = velocityWeight / (deviation * deviation * n)
    return work.mixEach(weights.map { $0 * c }, next, weights.map { -$0 * c }, mean)
  }
}
