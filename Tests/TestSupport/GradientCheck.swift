public import Layers
public import TensorRuntime
import Testing

/// Holds a pair `forward`, `backward` to finite differences in double, through the very code that
/// trains: every parameter and input is f64, the cotangent is random (a sum of outputs is blind to
/// softmax and normalisation), and the derivative along random directions is taken with the
/// five-point stencil.
public struct GradientCheck<Model: Layer> {
  public var model: Model
  public var inputs: [Tensor]
  /// Outputs, and a backward that takes their cotangents, adds to the model's gradients and returns
  /// the inputs' gradients (nil where an input has none).
  public typealias Pair = (inout Model, [Tensor], borrowing Workspace) -> (
    outputs: [Tensor], backward: (inout Model, [Tensor], borrowing Workspace) -> [Tensor?]
  )
  public let pair: Pair
  public var step = 1e-4, tolerance = 2e-7

  public init(
    _ model: Model, inputs: [Tensor], step: Double = 1e-4, tolerance: Double = 2e-7,
    pair: @escaping Pair
  ) {
    (self.model, self.inputs, self.pair, self.step, self.tolerance) = (
      model, inputs, pair, step, tolerance
    )
  }

  public func run(seed: UInt64, sourceLocation: Int = 0) {
    let work = Workspace()
    var m = model
    m.makeTrainable(in: work)
    let (y, backward) = pair(&m, inputs, work)
    let w = y.enumerated().map { randomTensor($1.shape, seed: seed &+ UInt64($0) &* 7919 &+ 1) }
    let dInputs = backward(&m, w, work)
    func value(_ model: Model, _ x: [Tensor]) -> Double {
      var copy = model
      return zip(pair(&copy, x, work).outputs, w).reduce(0) { $0 + work.dot($1.0, $1.1) }
    }
    func check(_ name: String, _ analytic: Double, scale: Double, _ f: (Double) -> Double) {
      let h = step
      let numeric = (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)
      #expect(
        abs(analytic - numeric) <= tolerance * (1e-3 + scale + abs(numeric)),
        "\(name): analytic \(analytic), numeric \(numeric)")
    }
    for (i, d) in dInputs.enumerated() {
      guard let d else { continue }
      let u = randomTensor(inputs[i].shape, seed: seed &+ 101 &+ UInt64(i))
      check("input \(i)", work.dot(d, u), scale: (work.sumOfSquares(d) * 1).squareRoot()) { t in
        var x = inputs
        x[i] = work.combine(1, x[i], t, u)
        return value(model, x)
      }
    }
    for (k, p) in m.trainableParameters().enumerated() {
      let u = randomTensor(p.value.shape, seed: seed &+ 1009 &+ UInt64(k))
      let d = p.gradient!
      check(p.name, work.dot(d, u), scale: work.sumOfSquares(d).squareRoot()) { t in
        var moved = model
        var index = 0
        moved.forEachParameter { q in
          if q.name == p.name { q.value = work.combine(1, q.value, t, u) }
          index += 1
        }
        return value(moved, inputs)
      }
    }
  }
}

/// Fresh f64 parameters away from special points: weights as initialised plus a little noise, so
/// that zeros and ones move.
public func noisySource(seed: UInt64) -> ParameterSource {
  let base = ParameterSource.random(seed: seed, type: .f64)
  return ParameterSource { name, shape, initial, need in
    let work = Workspace()
    let hash = name.utf8.reduce(UInt64(5381)) { $0 &* 33 &+ UInt64($1) }
    let value =
      try need == .optional
      ? base.optional(name, shape, initial)?.value : base(name, shape, initial).value
    return value.map { work.combine(1, $0, 0.3, randomTensor(shape, seed: seed &+ hash)) }
  }
}
