internal import CKernels

/// Element-wise losses: `pk_loss.h`. Each returns the mean over all elements, and its gradient
/// times `weight`.
extension Workspace {
  /// mean of w (|e| + e²/2), e = x - target.
  public func weightedL1L2(_ x: Tensor, target: Tensor, weight w: Tensor? = nil) -> (
    loss: Double, dx: Tensor
  ) {
    precondition(
      x.count == target.count && x.type == target.type && (w == nil || w!.count == x.count),
      "loss of \(x.shape) against \(target.shape)")
    var dx = tensor(x.shape, x.type)
    let sum = unsafe measured(
      pk_loss_weighted_l1l2(x.type.pk, x.count, x.base, target.base, w?.base, dx.base))
    scale(&dx, by: 1 / Double(x.count))
    return (sum / Double(x.count), dx)
  }
  /// mean of √(e² + c²) - c.
  public func pseudoHuber(_ x: Tensor, target: Tensor, c: Double) -> (loss: Double, dx: Tensor) {
    precondition(
      x.count == target.count && x.type == target.type, "loss of \(x.shape) against \(target.shape)"
    )
    var dx = tensor(x.shape, x.type)
    let sum = unsafe measured(pk_loss_huber(x.type.pk, x.count, c, x.base, target.base, dx.base))
    scale(&dx, by: 1 / Double(x.count))
    return (sum / Double(x.count), dx)
  }
  /// mean of e².
  public func meanSquaredError(_ x: Tensor, target: Tensor) -> (loss: Double, dx: Tensor) {
    precondition(
      x.count == target.count && x.type == target.type, "loss of \(x.shape) against \(target.shape)"
    )
    var dx = tensor(x.shape, x.type)
    let sum = unsafe measured(pk_loss_squared(x.type.pk, x.count, x.base, target.base, dx.base))
    scale(&dx, by: 1 / Double(x.count))
    return (sum / Double(x.count), dx)
  }

  /// z = mean + exp(½ logVariance) noise, and Σ KL(N(mean, variance) ‖ N(0, 1)).
  public func sampleNormal(mean: Tensor, logVariance: Tensor, noise: Tensor) -> (
    z: Tensor, kl: Double
  ) {
    let z = tensor(mean.shape, mean.type)
    let kl = unsafe measured(
      pk_normal_sample(mean.type.pk, mean.count, mean.base, logVariance.base, noise.base, z.base))
    return (z, kl)
  }
  /// Gradients of mean and log-variance for the upstream dz and a weight on Σ KL.
  public func sampleNormalBackward(
    _ dz: Tensor, klWeight: Double, mean: Tensor, logVariance: Tensor, noise: Tensor
  ) -> (dMean: Tensor, dLogVariance: Tensor) {
    let dm = tensor(mean.shape, mean.type)
    let dl = tensor(mean.shape, mean.type)
    unsafe check(
      pk_normal_backward(
        mean.type.pk, mean.count, klWeight, dz.base, mean.base, logVariance.base, noise.base,
        dm.base, dl.base))
    return (dm, dl)
  }
}
