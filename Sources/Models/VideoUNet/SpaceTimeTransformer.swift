import Layers
import TensorRuntime

/// x + projOut(blocks(projIn(GN(x)))), x `[B, C, T, H, W]` (videocrafter.md 2.7, 2.8). In space,
/// the sequences are the frames, which are normalised one by one, and the second attention sees the
/// text; in time, the sequences are the pixels.
struct SpaceTimeTransformer: Layer {
  enum Axis: Sendable { case space, time }
  var norm: GroupNorm
  var projIn: Linear
  var blocks: [UNetTransformerBlock]
  var projOut: Linear
  let axis: Axis

  struct Saved: SavedTensors {
    var norm: GroupNorm.Saved, projIn: Linear.Saved
    var blocks: [UNetTransformerBlock.Saved]
    var projOut: Linear.Saved
    let input: Shape
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      norm.forEachTensor(body)
      projIn.forEachTensor(body)
      blocks.forEachTensor(body)
      projOut.forEachTensor(body)
    }
  }

  /// `cellAxes`: the projections are stored as convolutions of one cell.
  init(
    _ name: String, _ axis: Axis, width: Int, inner: Int? = nil, heads: Int, cellAxes: Int = 0,
    _ c: VideoUNetConfig, from source: ParameterSource
  ) throws {
    let inner = inner ?? width
    self.axis = axis
    norm = try GroupNorm(
      "\(name).norm", width, groups: c.normNumGroups, epsilon: 1e-6, silu: false,
      eachFrame: axis == .space, from: source)
    projIn = try Linear("\(name).proj_in", width, inner, cellAxes: cellAxes, from: source)
    blocks = try (0..<c.transformerDepth).map {
      try UNetTransformerBlock(
        "\(name).transformer_blocks.\($0)", width: inner,
        context: axis == .space ? c.contextDim : nil, heads: heads, from: source)
    }
    projOut = try Linear(
      "\(name).proj_out", inner, width, initial: .zeros, cellAxes: cellAxes, from: source)
  }
  private func sequences(_ s: Shape) -> Int { axis == .space ? s[2] : s[3] * s[4] }
  /// `[B, C, T, H, W]` to rows `[B, T H W, C]`, sequence by sequence.
  private func rows(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    let s = x.shape
    let (t, cells) = (s[2], s[3] * s[4])
    let planes = x.reshaped(Shape(s[0], s[1], t, cells))
    return work.permuted(planes, axis == .space ? [0, 2, 3, 1] : [0, 3, 2, 1]).reshaped(
      Shape(s[0], t * cells, s[1]))
  }
  /// The inverse of `rows`.
  private func planes(_ y: Tensor, _ s: Shape, in work: borrowing Workspace) -> Tensor {
    let (t, cells) = (s[2], s[3] * s[4])
    if axis == .space {
      return work.permuted(y.reshaped(Shape(s[0], t, cells, s[1])), [0, 3, 1, 2]).reshaped(s)
    }
    return work.permuted(y.reshaped(Shape(s[0], cells, t, s[1])), [0, 3, 2, 1]).reshaped(s)
  }

  /// The rows that the blocks read.
  private func enter(_ x: Tensor, in work: borrowing Workspace) -> (
    y: Tensor, norm: GroupNorm.Saved, projIn: Linear.Saved
  ) {
    let (n, ns) = norm.forward(x, in: work)
    let (y, ps) = projIn.forward(rows(n, in: work), in: work)
    return (y, ns, ps.withoutInput)
  }
  func forward(_ x: Tensor, context: Tensor?, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let count = sequences(x.shape)
    var (h, ns, ps) = enter(x, in: work)
    var saved: [UNetTransformerBlock.Saved] = []
    for block in blocks {
      let (y, s) = block.forward(h, sequences: count, context: context, in: work)
      saved.append(s)
      h = y
    }
    let (r, os) = projOut.forward(h, in: work)
    var y = planes(r, x.shape, in: work)
    work.add(x, to: &y)
    return (y, Saved(norm: ns, projIn: ps, blocks: saved, projOut: os, input: x.shape))
  }
  /// The result alone.
  func callAsFunction(_ x: Tensor, context: Tensor?, in work: borrowing Workspace) -> Tensor {
    var h = enter(x, in: work).y
    for block in blocks { h = block(h, sequences: sequences(x.shape), context: context, in: work) }
    h = planes(projOut(h, in: work), x.shape, in: work)
    work.add(x, to: &h)
    return h
  }
  func run(_ x: Tensor, context: Tensor?, keeping: Keeping, in work: borrowing Workspace) -> (
    Tensor, Kept<Saved, Tensor>
  ) {
    keeping.run(x, in: work) {
      forward($0, context: context, in: work)
    } plain: {
      self($0, context: context, in: work)
    }
  }
  mutating func backward(
    _ dy: Tensor, _ s: consuming Saved, addingTo dContext: inout Tensor?,
    in work: borrowing Workspace
  ) -> Tensor {
    let count = sequences(s.input)
    var dh = projOut.backward(rows(dy, in: work), s.projOut, in: work)
    for i in blocks.indices.reversed() {
      dh = blocks[i].backward(
        dh, s.blocks.removeLast(), sequences: count, addingTo: &dContext, in: work)
    }
    let n = rows(norm.again(s.norm, in: work), in: work)
    let dn = planes(
      projIn.backward(dh, projIn.saved(s.projIn) { n }, in: work), s.input, in: work)
    return norm.backward(dn, s.norm, adding: dy, in: work)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try norm.forEachParameter(body)
    try projIn.forEachParameter(body)
    try blocks.forEachParameter(body)
    try projOut.forEachParameter(body)
  }
  mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows {
    if projIn.weight.value.shape.rank == 2 { try projIn.asAdaptable(body) }
    for i in blocks.indices { try blocks[i].forEachAdaptable(body) }
    if projOut.weight.value.shape.rank == 2 { try projOut.asAdaptable(body) }
  }
}
