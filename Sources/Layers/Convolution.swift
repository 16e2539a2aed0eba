public import TensorRuntime

/// Three-dimensional convolution of any geometry, after nearest upsampling if the geometry asks for
/// it (`pk_conv.h`). Shapes: x `[B, in, T, H, W]`; the weight is kept in its checkpoint's shape,
/// `[out, in, ...]`: with three kernel axes, or with two for an image network's convolution.
public struct Convolution: Layer {
  public var weight: Parameter
  public var bias: Parameter
  public var adapter: LowRankAdapter?
  public let geometry: ConvolutionGeometry

  /// x is kept only for the gradients of the parameters.
  public struct Saved: SavedTensors {
    var x: Tensor?
    let input: Shape
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) { x.forEachTensor(body) }
  }

  /// The weight is `name.weight` of `[output, input]` and the last `kernelAxes` extents of the
  /// kernel.
  public init(
    _ name: String, _ input: Int, _ output: Int, _ geometry: ConvolutionGeometry,
    kernelAxes: Int = 3, initial: ParameterSource.Initial? = nil, from source: ParameterSource
  ) throws {
    let k = geometry.kernel
    let fan = input * k.x * k.y * k.z
    let shape = Shape([output, input] + [k.x, k.y, k.z].suffix(kernelAxes))
    weight = try source("\(name).weight", shape, initial ?? .fanIn(fan))
    bias = try source("\(name).bias", Shape(output), initial ?? .fanIn(fan))
    self.geometry = geometry
  }
  /// HunyuanVideo's, with k³ taps and causal edge padding.
  public static func causal(
    _ name: String, _ input: Int, _ output: Int, kernel k: Int, stride: SIMD3<Int> = SIMD3(1, 1, 1),
    upsampling: SIMD3<Int> = SIMD3(1, 1, 1), from source: ParameterSource
  ) throws -> Convolution {
    try Convolution(
      name, input, output, .causal(kernel: k, stride: stride, upsampling: upsampling), from: source)
  }
  /// An image network's, of each frame: weight `[out, in, k, k]`.
  public static func image(
    _ name: String, _ input: Int, _ output: Int, kernel k: Int, stride: Int = 1, side: Int? = nil,
    upsampling: Int = 1, initial: ParameterSource.Initial? = nil, from source: ParameterSource
  ) throws -> Convolution {
    try Convolution(
      name, input, output,
      .image(kernel: k, stride: stride, side: side, upsampling: upsampling), kernelAxes: 2,
      initial: initial, from: source)
  }

  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    forward(x, adding: nil, in: work)
  }
  /// The convolution plus `side`, which has the shape of the result.
  public func forward(_ x: Tensor, adding side: Tensor?, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    (
      work.convolution(x, weight: kernel(in: work), bias: bias.value, geometry, adding: side),
      Saved(x: readsInput ? x : nil, input: x.shape)
    )
  }
  /// The convolution of `norm`(x), plus `side`. A frozen convolution normalises its input as it
  /// reads it. `norm`(x) is not kept: backward of a trainable one makes it again.
  public func forward(
    _ x: Tensor, after norm: GroupNorm, adding side: Tensor? = nil, in work: borrowing Workspace
  ) -> (y: Tensor, saved: GroupNorm.Saved) {
    if readsInput {
      let (u, saved) = norm.forward(x, in: work)
      return (forward(u, adding: side, in: work).y, saved)
    }
    let (pending, saved) = norm.pending(x, in: work)
    return (
      work.convolution(
        x, weight: kernel(in: work), bias: bias.value, geometry, after: pending, adding: side),
      saved
    )
  }
  /// Whether gradients of parameters are wanted that need the input.
  var readsInput: Bool {
    weight.isTrainable || bias.isTrainable || adapter?.isTrainable == true
  }
  /// `[out, in, kt, kh, kw]`: W, or W + s B A.
  func kernel(in work: borrowing Workspace) -> Tensor {
    let w = adapter.map { $0.adding(to: weight.value, in: work) } ?? weight.value
    return w.reshaped(kernelShape)
  }
  private var kernelShape: Shape {
    let k = geometry.kernel
    return Shape(weight.value.shape[0], weight.value.shape[1], k.x, k.y, k.z)
  }

  public mutating func backward(_ dy: Tensor, _ saved: Saved, in work: borrowing Workspace)
    -> Tensor
  {
    backwardParameters(dy, saved, in: work)
    return work.convolutionBackwardInput(
      dy, input: saved.input, weight: kernel(in: work), geometry)
  }
  /// dx through `norm`, plus `side`, the gradient of the path around both.
  public mutating func backward(
    _ dy: consuming Tensor, _ saved: GroupNorm.Saved, after norm: inout GroupNorm,
    adding side: Tensor? = nil, in work: borrowing Workspace
  ) -> Tensor {
    let (saved, input) = (work.widened(saved), saved.x.shape)
    if readsInput {
      backwardParameters(dy, Saved(x: norm.again(saved, in: work), input: input), in: work)
    }
    return norm.backward(
      work.convolutionBackwardInput(dy, input: input, weight: kernel(in: work), geometry), saved,
      adding: side, in: work)
  }
  /// Gradients of W and b; of an adapter's factors through that of the merged weight.
  public mutating func backwardParameters(
    _ dy: Tensor, _ saved: Saved, in work: borrowing Workspace
  ) {
    if !readsInput { return }
    guard let x = saved.x else {
      preconditionFailure("\(weight.name) was frozen when it ran forward: its input was not kept")
    }
    guard adapter?.isTrainable == true else {
      work.convolutionBackwardWeight(
        dy, x: x, weight: kernelShape, geometry, addingTo: &weight.gradient, &bias.gradient)
      return
    }
    var merged: Tensor? = work.zeros(weight.value.shape, dy.type)
    work.convolutionBackwardWeight(
      dy, x: x, weight: kernelShape, geometry, addingTo: &merged, &bias.gradient)
    adapter!.backward(merged!, in: work)
    if weight.isTrainable { work.add(merged!, to: &weight.gradient) }
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&weight)
    try body(&bias)
    try adapter?.forEachParameter(body)
  }
}
