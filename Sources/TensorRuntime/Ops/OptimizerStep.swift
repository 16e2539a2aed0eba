internal import CKernels

/// One AdamW update of one parameter: `pk_optimizer.h`.
public struct AdamUpdate: Sendable {
  public var learningRate, beta1, beta2, epsilon: Double
  /// Decoupled decay (AdamW), and decay added to the gradient (Adam's L2 form).
  public var weightDecay, l2: Double
  /// 1 - beta^k for the k-th update.
  public var correction1, correction2: Double
  /// Factor that multiplies the gradient first (clipping).
  public var gradientScale: Double
  /// Seed of the stochastic rounding of bf16 moments, another for every step and parameter.
  public var salt: UInt32 = 0
  /// Index of the first element in its parameter, if this is a part of one.
  public var firstElement = 0
  public init(
    learningRate: Double, beta1: Double, beta2: Double, epsilon: Double, weightDecay: Double,
    l2: Double, correction1: Double, correction2: Double, gradientScale: Double
  ) {
    (self.learningRate, self.beta1, self.beta2, self.epsilon) = (
      learningRate, beta1, beta2, epsilon
    )
    (self.weightDecay, self.l2, self.correction1, self.correction2) = (
      weightDecay, l2, correction1, correction2
    )
    self.gradientScale = gradientScale
  }
}
extension Workspace {
  public func adam(
    _ u: AdamUpdate, gradient: Tensor, value: inout Tensor, first: inout Tensor,
    second: inout Tensor
  ) {
    unsafe adam(u, gradient, &value, &first, &second, nil, 0)
  }
  /// The same, and in the same pass average ← d average + (1 - d) value with d = `decay`.
  public func adam(
    _ u: AdamUpdate, gradient: Tensor, value: inout Tensor, first: inout Tensor,
    second: inout Tensor, average: inout Tensor, decay: Double
  ) {
    precondition(
      average.count == value.count && average.type == value.type, "average of \(value.shape)")
    average.makeUnique(in: self)
    unsafe adam(u, gradient, &value, &first, &second, average.base, decay)
  }
  private func adam(
    _ u: AdamUpdate, _ gradient: Tensor, _ value: inout Tensor, _ first: inout Tensor,
    _ second: inout Tensor, _ average: UnsafeMutableRawPointer?, _ decay: Double
  ) {
    precondition(
      gradient.count == value.count && first.count == value.count && second.count == value.count,
      "update of \(value.shape)")
    precondition(
      first.type == second.type
        && (first.type == value.type || first.type == .bf16 && value.type == .f32),
      "moments of \(first.type) and \(second.type) for \(value.type)")
    value.makeUnique(in: self)
    first.makeUnique(in: self)
    second.makeUnique(in: self)
    var o = pk_adamw(
      lr: u.learningRate, beta1: u.beta1, beta2: u.beta2, eps: u.epsilon,
      weight_decay: u.weightDecay, l2: u.l2, c1: u.correction1, c2: u.correction2,
      grad_scale: u.gradientScale, ema: decay, bf16_moments: first.type == .bf16 ? 1 : 0,
      salt: u.salt, first: UInt32(truncatingIfNeeded: u.firstElement))
    unsafe check(
      pk_adamw_step(
        value.type.pk, value.count, &o, gradient.base, value.base, first.base, second.base, average)
    )
  }
}
