public import Layers
public import TensorRuntime

/// The network of the transport map T and of its potential f:
/// Linear → ReLU → LN → Linear → ReLU → LN → Linear, LN with ε 1e-5 (algorithm.md 3.1).
///
/// Shapes: x `[B, input]`, y `[B, output]`; f has output 1. Checkpoint names `net.0`, `net.2`,
/// `net.3`, `net.5`, `net.6`.
public struct NeuralMap: Layer {
  public struct Config: Sendable, Equatable {
    public var input, hidden, output: Int
    public init(input: Int = 512, hidden: Int = 1024, output: Int = 512) {
      (self.input, self.hidden, self.output) = (input, hidden, output)
    }
  }
  public let config: Config
  public var first, second, third: Linear
  public var firstNorm, secondNorm: LayerNorm

  public struct Saved: Sendable {
    let first, second, third: Linear.Saved
    let firstNorm, secondNorm: LayerNorm.Saved
  }

  /// Fresh linear parameters are uniform in ±1/√fan-in.
  public init(_ config: Config, from source: ParameterSource) throws {
    self.config = config
    first = try Linear("net.0", config.input, config.hidden, from: source)
    firstNorm = try LayerNorm("net.2", config.hidden, epsilon: 1e-5, from: source)
    second = try Linear("net.3", config.hidden, config.hidden, from: source)
    secondNorm = try LayerNorm("net.5", config.hidden, epsilon: 1e-5, from: source)
    third = try Linear("net.6", config.hidden, config.output, from: source)
  }

  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    var a1 = work.tensor(x.shape.replacingLast(with: config.hidden), x.type)
    var a2 = work.tensor(a1.shape, x.type)
    let s0 = first.forward(x, then: .relu, into: &a1, in: work).saved
    let (n1, s2) = firstNorm.forward(a1, in: work)
    let s3 = second.forward(n1, then: .relu, into: &a2, in: work).saved
    let (n2, s5) = secondNorm.forward(a2, in: work)
    let (y, s6) = third.forward(n2, in: work)
    return (y, Saved(first: s0, second: s3, third: s6, firstNorm: s2, secondNorm: s5))
  }
  public func callAsFunction(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    forward(x, in: work).y
  }

  /// dx; adds to the gradients of trainable parameters.
  public mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    let dh1 = backwardHidden(dy, s, in: work)
    return first.backward(dh1, s.first, in: work)
  }
  /// The parameters' gradients alone.
  public mutating func backwardParameters(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) {
    let dh1 = backwardHidden(dy, s, in: work)
    first.backwardParameters(dh1, s.first, in: work)
  }
  /// The gradient of the first layer's output; adds to those of what lies above.
  private mutating func backwardHidden(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace)
    -> Tensor
  {
    let dn2 = third.backward(dy, s.third, in: work)
    let dh2 = secondNorm.backward(dn2, s.secondNorm, rectified: true, in: work)
    let dn1 = second.backward(dh2, s.second, in: work)
    return firstNorm.backward(dn1, s.firstNorm, rectified: true, in: work)
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try first.forEachParameter(body)
    try firstNorm.forEachParameter(body)
    try second.forEachParameter(body)
    try secondNorm.forEachParameter(body)
    try third.forEachParameter(body)
  }
}
