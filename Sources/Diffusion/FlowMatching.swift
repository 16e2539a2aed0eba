public import TensorRuntime

/// Per-sample arithmetic of rectified flow on latents `[B, ...]`: levels differ between the samples of a batch.
extension Workspace {
  /// a[b] x[b] + c[b] y[b].
  public func mixEach(_ a: [Double], _ x: Tensor, _ c: [Double], _ y: Tensor) -> Tensor {
    precondition(x.shape == y.shape && a.count == x.shape[0] && c.count == a.count, "mix \(x.shape) and \(y.shape) with \(a.count) weights")
    if Set(a).count == 1, Set(c).count == 1 { return combine(a[0], x, c[0], y) }
    return concatenated(a.indices.map { combine(a[$0], x.slice($0..<$0 + 1), c[$0], y.slice($0..<$0 + 1)) }, axis: 0)
  }
  /// x_t = σ ε + (1 - σ) z.
  public func noised(_ z: Tensor, _ noise: Tensor, sigmas: [Double]) -> Tensor { mixEach(sigmas, noise, sigmas.map { 1 - $0 }, z) }
  /// x + (σ_to - σ_from) v: a step along the flow, and every prediction of algorithm.md 7.3.
  public func flowStep(_ x: Tensor, velocity v: Tensor, from: [Double], to: [Double]) -> Tensor {
    mixEach(from.map { _ in 1 }, x, zip(to, from).map { $0 - $1 }, v)
  }
}
