public import TensorRuntime

/// Arithmetic of rectified flow on latents `[B, ...]`, in which each sample has its own level.
extension Workspace {
  /// x_t = σ ε + (1 - σ) z.
  public func noised(_ z: Tensor, _ noise: Tensor, sigmas: [Double]) -> Tensor {
    mixEach(sigmas, noise, sigmas.map { 1 - $0 }, z)
  }
  /// x + (σ_to - σ_from) v: a step along the flow, and every prediction of algorithm.md 7.3.
  public func flowStep(_ x: Tensor, velocity v: Tensor, from: [Double], to: [Double]) -> Tensor {
    mixEach(from.map { _ in 1 }, x, zip(to, from).map { $0 - $1 }, v)
  }
}
