internal import CKernels

/// Geometry of a 3-D convolution of a padded input, after nearest upsampling: `pk_conv.h`.
public struct ConvolutionGeometry: Hashable, Sendable {
  /// What lies outside the input: copies of its edge, or zeros.
  public enum Padding: Hashable, Sendable { case edges, zeros }
  private var kernelExtents, strides, factors: Extents3
  public var kernel: SIMD3<Int> { kernelExtents.vector }
  public var stride: SIMD3<Int> { strides.vector }
  /// Nearest upsampling of the input, of the first frame in space only. Strides are then 1.
  public var upsampling: SIMD3<Int> { factors.vector }
  /// Padding: frames before the first and after the last; cells on each side of H and W.
  public var front: Int, back: Int, side: Int
  public var padding: Padding
  public init(
    kernel: SIMD3<Int>, stride: SIMD3<Int> = SIMD3(1, 1, 1), front: Int = 0, back: Int = 0,
    side: Int, upsampling: SIMD3<Int> = SIMD3(1, 1, 1), padding: Padding
  ) {
    (kernelExtents, strides, factors) = (
      Extents3(kernel), Extents3(stride), Extents3(upsampling)
    )
    (self.front, self.back, self.side, self.padding) = (front, back, side, padding)
  }
  /// HunyuanVideo's causal convolution: k-1 replicated frames in front, k/2 replicated cells
  /// around.
  public static func causal(
    kernel k: Int, stride: SIMD3<Int> = SIMD3(1, 1, 1), upsampling: SIMD3<Int> = SIMD3(1, 1, 1)
  ) -> Self {
    Self(
      kernel: SIMD3(k, k, k), stride: stride, front: k - 1, side: k / 2, upsampling: upsampling,
      padding: .edges)
  }
  /// Each frame by itself: an image network's convolution, with zeros around.
  public static func image(
    kernel k: Int, stride: Int = 1, side: Int? = nil, upsampling f: Int = 1
  ) -> Self {
    Self(
      kernel: SIMD3(1, k, k), stride: SIMD3(1, stride, stride), side: side ?? k / 2,
      upsampling: SIMD3(1, f, f), padding: .zeros)
  }
  /// Neighbouring frames of each pixel, with zeros before the first and after the last.
  public static func temporal(kernel k: Int) -> Self {
    Self(kernel: SIMD3(k, 1, 1), front: k / 2, back: k / 2, side: 0, padding: .zeros)
  }
}

extension Workspace {
  /// x `[B, in, T, H, W]`, weight `[out, in, kt, kh, kw]`. With `norm`, x is normalised as it is
  /// read. `side`, of the result's shape, is added as the result is written. A kernel of one cell
  /// without strides takes neither.
  public func convolution(
    _ x: Tensor, weight: Tensor, bias: Tensor?, _ g: ConvolutionGeometry,
    after norm: PendingNorm? = nil, adding side: Tensor? = nil
  ) -> Tensor {
    let w = widened(weight)
    let b = bias.map { widened($0) }
    var s = convShape(x.shape, w.shape, g)
    let y = tensor(Self.outputShape(x.shape, out: w.shape[0], g), x.type)
    let area = unsafe scratch(pk_conv3d_scratch(&s, 0), x.type)
    precondition(
      norm == nil
        || norm!.table.shape == Shape(x.shape[0], norm!.frames, 3, x.shape[1])
          && norm!.table.type == x.type,
      "convolution after a norm of \(norm!.table.shape): x \(x.shape)")
    precondition(
      side == nil || side!.shape == y.shape && side!.type == y.type,
      "convolution plus \(side!.shape): y \(y.shape)")
    countOperations(2 * y.count * (w.count / w.shape[0]), .convolution)
    if norm == nil && side == nil {
      unsafe check(
        pk_conv3d_forward(x.type.pk, &s, x.base, w.base, b?.base, nil, y.base, area.base),
        "convolution")
    } else {
      var fusion = unsafe pk_conv_fusion(
        norm: norm.map { unsafe UnsafeRawPointer($0.table.base) },
        norm_frames: norm?.frames ?? 1, silu: norm?.silu == true ? 1 : 0,
        add: unsafe side.map { unsafe UnsafeRawPointer($0.base) })
      unsafe check(
        pk_conv3d_forward(x.type.pk, &s, x.base, w.base, b?.base, &fusion, y.base, area.base),
        "convolution")
    }
    return y
  }
  public func convolutionBackwardInput(
    _ dy: Tensor, input shape: Shape, weight: Tensor, _ g: ConvolutionGeometry
  ) -> Tensor {
    let w = widened(weight)
    var s = convShape(shape, w.shape, g)
    precondition(
      dy.shape == Self.outputShape(shape, out: w.shape[0], g),
      "convolution backward: dy \(dy.shape)")
    let dx = tensor(shape, dy.type)
    let area = unsafe scratch(pk_conv3d_scratch(&s, 1), dy.type)
    countOperations(2 * dy.count * (w.count / w.shape[0]), .convolution)
    unsafe check(
      pk_conv3d_backward_data(dy.type.pk, &s, dy.base, w.base, dx.base, area.base), "convolution")
    return dx
  }
  public func convolutionBackwardWeight(
    _ dy: Tensor, x: Tensor, weight shape: Shape, _ g: ConvolutionGeometry,
    addingTo dWeight: inout Tensor?, _ dBias: inout Tensor?
  ) {
    if dWeight == nil && dBias == nil { return }
    let x = widened(x)
    var s = convShape(x.shape, shape, g)
    dWeight?.makeUnique(in: self)
    dBias?.makeUnique(in: self)
    let area = unsafe scratch(dWeight == nil ? 0 : pk_conv3d_scratch(&s, 2), dy.type)
    if dWeight != nil { countOperations(2 * dy.count * (shape.count / shape[0]), .convolution) }
    unsafe check(
      pk_conv3d_backward_weights(
        dy.type.pk, &s, dy.base, x.base, dWeight?.base, dBias?.base, area.base), "convolution")
  }
  public static func outputShape(_ x: Shape, out: Int, _ g: ConvolutionGeometry) -> Shape {
    func extent(_ n: Int, _ k: Int, _ s: Int) -> Int { (n - k) / s + 1 }
    let f = g.upsampling
    let (t, h, w) = (1 + (x[2] - 1) * f.x, x[3] * f.y, x[4] * f.z)
    return Shape(
      x[0], out, extent(t + g.front + g.back, g.kernel.x, g.stride.x),
      extent(h + 2 * g.side, g.kernel.y, g.stride.y), extent(w + 2 * g.side, g.kernel.z, g.stride.z)
    )
  }
  private func convShape(_ x: Shape, _ w: Shape, _ g: ConvolutionGeometry) -> pk_conv3d_shape {
    precondition(
      x.rank == 5 && w.rank == 5 && x[1] == w[1] && w[2] == g.kernel.x && w[3] == g.kernel.y
        && w[4] == g.kernel.z, "convolution: x \(x), weight \(w)")
    return pk_conv3d_shape(
      batch: x[0], in: x[1], out: w[0], t: x[2], h: x[3], w: x[4], kt: g.kernel.x, kh: g.kernel.y,
      kw: g.kernel.z, st: g.stride.x, sh: g.stride.y, sw: g.stride.z,
      front: g.front, back: g.back, side: g.side, ft: g.upsampling.x, fh: g.upsampling.y,
      fw: g.upsampling.z, zeros: g.padding == .zeros ? 1 : 0)
  }

  /// Nearest upsampling. The first frame is upsampled in space only.
  public func upsample(_ x: Tensor, _ f: SIMD3<Int>) -> Tensor {
    let s = x.shape
    let y = tensor(Shape(s[0], s[1], 1 + (s[2] - 1) * f.x, s[3] * f.y, s[4] * f.z), x.type)
    unsafe check(
      pk_upsample_forward(x.type.pk, s[0] * s[1], s[2], s[3], s[4], f.x, f.y, f.z, x.base, y.base))
    return y
  }
  public func upsampleBackward(_ dy: Tensor, input s: Shape, _ f: SIMD3<Int>) -> Tensor {
    let dx = tensor(s, dy.type)
    unsafe check(
      pk_upsample_backward(
        dy.type.pk, s[0] * s[1], s[2], s[3], s[4], f.x, f.y, f.z, dy.base, dx.base))
    return dx
  }
}
