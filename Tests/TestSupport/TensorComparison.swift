public import TensorRuntime

extension Tensor {
  public func hasSameBits(as other: Tensor) -> Bool {
    type == other.type && withBytes { Array($0) } == other.withBytes { Array($0) }
  }
  /// max |x - y|, infinite where an element of x is not finite, and max |y|.
  public func differences(from other: Tensor) -> (worst: Double, scale: Double) {
    let (x, y) = (doubles, other.doubles)
    var (worst, scale) = (0.0, 0.0)
    for i in 0..<min(x.count, y.count) {
      worst = x[i].isFinite ? max(worst, abs(x[i] - y[i])) : .infinity
      scale = max(scale, abs(y[i]))
    }
    return (worst, scale)
  }
}
