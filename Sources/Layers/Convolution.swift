public import TensorRuntime

/// Three-dimensional convolution with HunyuanVideo's causal edge padding, after nearest upsampling if asked for (`pk_conv.h`).
/// Shapes: x `[B, in, T, H, W]`, weight `[out, in, k, k, k]`.
public struct CausalConv3d: Layer {
  public var weight: Parameter
  public var bias: Parameter
  public let geometry: ConvolutionGeometry

  /// x is kept for the parameters' gradients alone.
  public struct Saved: Sendable { let x: Tensor?, input: Shape }

  public init(_ name: String, _ input: Int, _ output: Int, kernel k: Int, stride: SIMD3<Int> = SIMD3(1, 1, 1), upsampling: SIMD3<Int> = SIMD3(1, 1, 1), from source: ParameterSource) throws {
    let fan = input * k * k * k
    weight = try source("\(name).weight", Shape(output, input, k, k, k), .fanIn(fan))
    bias = try source("\(name).bias", Shape(output), .fanIn(fan))
    geometry = .causal(kernel: k, stride: stride, upsampling: upsampling)
  }
  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    (work.convolution(x, weight: weight.value, bias: bias.value, geometry), Saved(x: weight.isTrainable || bias.isTrainable ? x : nil, input: x.shape))
  }
  public mutating func backward(_ dy: Tensor, _ saved: Saved, in work: borrowing Workspace) -> Tensor {
    backwardParameters(dy, saved, in: work)
    return work.convolutionBackwardInput(dy, input: saved.input, weight: weight.value, geometry)
  }
  public mutating func backwardParameters(_ dy: Tensor, _ saved: Saved, in work: borrowing Workspace) {
    if !weight.isTrainable && !bias.isTrainable { return }
    guard let x = saved.x else { preconditionFailure("\(weight.name) was frozen when it ran forward: its input was not kept") }
    work.convolutionBackwardWeight(dy, x: x, weight: weight.value.shape, geometry, addingTo: &weight.gradient, &bias.gradient)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&weight)
    try body(&bias)
  }
}
