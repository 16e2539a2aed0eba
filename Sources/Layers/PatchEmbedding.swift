public import TensorRuntime

/// A convolution whose kernel equals its stride: non-overlapping patches through one matrix.
/// x `[B, C, T, H, W]` to tokens `[B, T/pt · H/ph · W/pw, D]` ordered (t, row, column); a patch
/// vector is ordered (c, t, h, w).
public struct PatchEmbedding: Layer {
  public var weight: Parameter  // [D, C, pt, ph, pw]
  public var bias: Parameter?
  private let patchExtents: Extents3
  public var patch: SIMD3<Int> { patchExtents.vector }

  /// Patches are kept only for the gradient of the weight.
  public struct Saved: Sendable { let patches: Tensor?, input: Shape }

  public init(
    _ name: String, channels: Int, width: Int, patch: SIMD3<Int>,
    initial: ParameterSource.Initial? = nil, from source: ParameterSource
  ) throws {
    let fan = channels * patch.x * patch.y * patch.z
    weight = try source(
      "\(name).weight", Shape(width, channels, patch.x, patch.y, patch.z), initial ?? .fanIn(fan))
    bias = try source("\(name).bias", Shape(width), initial.map { _ in .zeros } ?? .fanIn(fan))
    patchExtents = Extents3(patch)
  }
  private var matrixShape: Shape {
    Shape(weight.value.shape[0], weight.value.count / weight.value.shape[0])
  }

  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    forward(patches: Self.patches(of: x, patch, in: work), of: x.shape, in: work)
  }
  /// Some of the patches, `[B, rows, C pt ph pw]`, of an image of shape `image`.
  public func forward(patches: Tensor, of image: Shape, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let y = work.linear(patches, weight: weight.value.reshaped(matrixShape), bias: bias?.value)
    return (y, Saved(patches: weight.isTrainable ? patches : nil, input: image))
  }
  public mutating func backward(_ dy: Tensor, _ saved: Saved, in work: borrowing Workspace)
    -> Tensor
  {
    Self.assemble(backwardPatches(dy, saved, in: work), saved.input, patch, in: work)
  }
  /// The gradient of the patches.
  public mutating func backwardPatches(
    _ dy: Tensor, _ saved: Saved, in work: borrowing Workspace
  ) -> Tensor {
    backwardParameters(dy, saved, in: work)
    return work.linearBackwardInput(dy, weight: weight.value.reshaped(matrixShape))
  }
  public mutating func backwardParameters(
    _ dy: Tensor, _ saved: Saved, in work: borrowing Workspace
  ) {
    if bias != nil { work.addColumnSums(dy, to: &bias!.gradient) }
    if !weight.isTrainable { return }
    guard let patches = saved.patches else {
      preconditionFailure(
        "\(weight.name) was frozen when it ran forward: its patches were not kept")
    }
    // The only reference moves through the call, so the sum is computed in place.
    var gradient = weight.gradient.take()?.reshaped(matrixShape)
    work.linearBackwardWeight(dy, x: patches, addingTo: &gradient)
    weight.gradient = gradient?.reshaped(weight.value.shape)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&weight)
    if bias != nil { try body(&bias!) }
  }

  /// x `[B, C, T, H, W]` to `[B, tokens, C pt ph pw]`.
  public static func patches(of x: Tensor, _ p: SIMD3<Int>, in work: borrowing Workspace) -> Tensor
  {
    let (shape, sizes, image, tokens) = layout(x.shape, p)
    var y = work.tensor(shape, x.type)
    work.copyStrided(sizes, from: x, strides: image, to: &y, toStrides: tokens)
    return y
  }
  /// The inverse: `[B, tokens, C pt ph pw]` to `[B, C, T, H, W]`.
  public static func assemble(
    _ patches: Tensor, _ image: Shape, _ p: SIMD3<Int>, in work: borrowing Workspace
  ) -> Tensor {
    let (_, sizes, imageStrides, tokens) = layout(image, p)
    var x = work.tensor(image, patches.type)
    work.copyStrided(sizes, from: patches, strides: tokens, to: &x, toStrides: imageStrides)
    return x
  }
  /// Axes (b, t, row, column, c, pt, ph, pw): sizes, strides in the image, strides in the tokens.
  private static func layout(_ s: Shape, _ p: SIMD3<Int>) -> (Shape, [Int], [Int], [Int]) {
    precondition(
      s.rank == 5 && s[2] % p.x == 0 && s[3] % p.y == 0 && s[4] % p.z == 0,
      "\(s) is not divisible into patches of \(p)")
    let (b, c, t, h, w) = (s[0], s[1], s[2] / p.x, s[3] / p.y, s[4] / p.z)
    let n = c * p.x * p.y * p.z
    let frame = s[3] * s[4]
    let plane = s[2] * frame
    let sizes = [b, t, h, w, c, p.x, p.y, p.z]
    let image = [c * plane, p.x * frame, p.y * s[4], p.z, plane, frame, s[4], 1]
    let tokens = [t * h * w * n, h * w * n, w * n, n, p.x * p.y * p.z, p.y * p.z, p.z, 1]
    return (Shape(b, t * h * w, n), sizes, image, tokens)
  }
}
