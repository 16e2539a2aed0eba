public import TensorRuntime

/// Three-dimensional convolution with HunyuanVideo's causal edge padding, after nearest upsampling
/// if `upsampling` asks for it (`pk_conv.h`). Shapes: x `[B, in, T, H, W]`, weight `[out, in, k, k,
/// k]`.
public struct CausalConv3d: Layer {
  public var weight: Parameter
  public var bias: Parameter
  public let geometry: ConvolutionGeometry

  /// x is kept only for the gradients of the parameters.
  public struct Saved: Sendable { let x: Tensor?, input: Shape }

  public init(
    _ name: String, _ input: Int, _ output: Int, kernel k: Int, stride: SIMD3<Int> = SIMD3(1, 1, 1),
    upsampling: SIMD3<Int> = SIMD3(1, 1, 1), from source: ParameterSource
  ) throws {
    let fan = input * k * k * k
    weight = try source("\(name).weight", Shape(output, input, k, k, k), .fanIn(fan))
    bias = try source("\(name).bias", Shape(output), .fanIn(fan))
    geometry = .causal(kernel: k, stride: stride, upsampling: upsampling)
  }
  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    forward(x, adding: nil, in: work)
  }
  /// The convolution plus `side`, which has the shape of the result.
  public func forward(_ x: Tensor, adding side: Tensor?, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    (
      work.convolution(x, weight: weight.value, bias: bias.value, geometry, adding: side),
      Saved(x: isTrainable ? x : nil, input: x.shape)
    )
  }
  /// The convolution of `norm`(x), plus `side`. A frozen convolution normalises its input as it
  /// reads it and never stores the result; a trainable one keeps it for its gradient.
  public func forward(
    _ x: Tensor, after norm: GroupNorm, adding side: Tensor? = nil, in work: borrowing Workspace
  ) -> (y: Tensor, norm: GroupNorm.Saved, saved: Saved) {
    if isTrainable {
      let (u, ns) = norm.forward(x, in: work)
      let (y, s) = forward(u, adding: side, in: work)
      return (y, ns, s)
    }
    let (pending, ns) = norm.pending(x, in: work)
    return (
      work.convolution(
        x, weight: weight.value, bias: bias.value, geometry, after: pending, adding: side), ns,
      Saved(x: nil, input: x.shape)
    )
  }
  private var isTrainable: Bool { weight.isTrainable || bias.isTrainable }
  public mutating func backward(_ dy: Tensor, _ saved: Saved, in work: borrowing Workspace)
    -> Tensor
  {
    backwardParameters(dy, saved, in: work)
    return work.convolutionBackwardInput(dy, input: saved.input, weight: weight.value, geometry)
  }
  public mutating func backwardParameters(
    _ dy: Tensor, _ saved: Saved, in work: borrowing Workspace
  ) {
    if !isTrainable { return }
    guard let x = saved.x else {
      preconditionFailure("\(weight.name) was frozen when it ran forward: its input was not kept")
    }
    work.convolutionBackwardWeight(
      dy, x: x, weight: weight.value.shape, geometry, addingTo: &weight.gradient, &bias.gradient)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&weight)
    try body(&bias)
  }
}
