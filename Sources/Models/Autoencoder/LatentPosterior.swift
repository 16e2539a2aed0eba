public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// An autoencoder's diagonal normal: moments `[B, 2C, ...]` are mean then log-variance, clamped to
/// [-30, 20].
public struct LatentPosterior: Sendable {
  public let mean, logVariance: Tensor
  static let limits = -30.0...20.0

  public init(_ moments: Tensor, in work: borrowing Workspace) {
    let c = moments.shape[1] / 2
    mean = work.narrowed(moments, axis: 1, 0..<c)
    logVariance = work.affineClamp(
      work.narrowed(moments, axis: 1, c..<2 * c), alpha: 1, beta: 0, to: Self.limits)
  }
  /// mean + exp(½ log-variance) noise.
  public func sample(_ noise: Tensor, in work: borrowing Workspace) -> Tensor {
    work.sampleNormal(mean: mean, logVariance: logVariance, noise: noise).z
  }
  /// exp(½ log-variance).
  public func deviation(in work: borrowing Workspace) -> Tensor {
    let half = work.scaled(logVariance, by: 0.5)
    return half.type == .f64
      ? Tensor(half.doubles.map { exp($0) }, half.shape)
      : Tensor(half.floats.map { exp($0) }, half.shape)
  }
  /// Gradient of the moments. The clamp of the log-variance passes the gradient where it is
  /// inactive.
  public func backward(
    _ dMean: Tensor, _ dLogVariance: Tensor, moments: Tensor, in work: borrowing Workspace
  ) -> Tensor {
    let c = mean.shape[1]
    let raw = work.narrowed(moments, axis: 1, c..<2 * c)
    let dLog = work.affineClampBackward(dLogVariance, x: raw, alpha: 1, beta: 0, to: Self.limits)
    return work.concatenated([dMean, dLog], axis: 1)
  }
}
