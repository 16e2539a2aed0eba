public import TensorRuntime

/// Derivative of `f` at `x` along `direction`, by the five-point stencil; error O(h^4).
public func directionalDerivative(
  _ x: [Double], along direction: [Double], step h: Double = 1e-3, _ f: ([Double]) -> Double
) -> Double {
  func at(_ t: Double) -> Double { f(zip(x, direction).map { $0 + t * $1 }) }
  return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
}

/// A seeded normal tensor.
public func randomTensor(_ shape: Shape, seed: UInt64, scale: Double = 1, type: ElementType = .f64)
  -> Tensor
{
  var stream = RandomStream(seed: seed, .test)
  let values = (0..<shape.count).map { _ in scale * stream.normal() }
  return type == .f64 ? Tensor(values, shape) : Tensor(values.map { Float($0) }, shape)
}
