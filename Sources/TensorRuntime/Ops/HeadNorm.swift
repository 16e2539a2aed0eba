internal import CKernels

/// RMS norm and rotary positions of every head of queries or keys, in one pass that reads the
/// output of a projection and writes the input of attention: `pk_norm.h`.
extension Workspace {
  /// Angles of the first tokens of each sample, `[tokens, dim / 2]`.
  public typealias Rotation = (cosines: Tensor, sines: Tensor)

  /// Reads the heads in columns `column..<column + heads * dim` of x `[B, N, ...]`, dim =
  /// scale.count, and writes rows `row..<row + N` of y `[B, M, heads * dim]`. Returns 1 / rms `[B,
  /// N, heads]`.
  public func headNorm(
    _ x: Tensor, column: Int = 0, heads: Int, scale: Tensor, epsilon: Double, rotation: Rotation?,
    into y: inout Tensor, row: Int = 0
  ) -> Tensor {
    var s = headShape(x, y, column, row, heads, scale, epsilon, rotation)
    let gamma = widened(scale)
    let rstd = tensor(Shape(s.batch, s.tokens, heads), x.type)
    y.makeUnique(in: self)
    unsafe check(
      pk_head_norm_forward(
        x.type.pk, &s, x.base + column * x.type.byteCount, gamma.base, rotation?.cosines.base,
        rotation?.sines.base, y.base + row * s.ldy * x.type.byteCount, rstd.base))
    return rstd
  }
  /// Reads rows `row..<row + N` of dy and writes the gradient of x to the same columns of dx.
  public func headNormBackward(
    _ dy: Tensor, row: Int = 0, x: Tensor, column: Int = 0, heads: Int, scale: Tensor, rstd: Tensor,
    rotation: Rotation?, into dx: inout Tensor, addingTo dScale: inout Tensor?
  ) {
    let x = widened(x)
    var s = headShape(x, dy, column, row, heads, scale, 0, rotation)
    precondition(
      dx.shape == x.shape && dx.type == x.type, "head norm backward: dx \(dx.shape), x \(x.shape)")
    let gamma = widened(scale)
    let partial = scratch(
      dScale == nil ? 0 : pk_norm_backward_scratch(1, s.batch * s.tokens, s.dim), x.type)
    let offset = column * x.type.byteCount
    dScale?.makeUnique(in: self)
    dx.makeUnique(in: self)
    unsafe check(
      pk_head_norm_backward(
        x.type.pk, &s, dy.base + row * s.ldy * x.type.byteCount, x.base + offset, gamma.base,
        rotation?.cosines.base, rotation?.sines.base, rstd.base, dx.base + offset, dScale?.base,
        partial.base))
  }
  private func headShape(
    _ x: Tensor, _ y: Tensor, _ column: Int, _ row: Int, _ heads: Int, _ scale: Tensor,
    _ epsilon: Double, _ rotation: Rotation?
  ) -> pk_head_norm_shape {
    let (b, n, ldx) = tokens(x)
    let (samples, m, ldy) = tokens(y)
    let rotated = rotation?.cosines.shape[0] ?? 0
    precondition(
      samples == b && row + n <= m && ldy == heads * scale.count && column + ldy <= ldx
        && x.type == y.type && rotated <= n
        && rotation.map {
          $0.cosines.shape == $0.sines.shape && $0.cosines.shape.last * 2 == scale.count
            && $0.cosines.type == x.type
        } ?? true,
      """
      norm of \(heads) heads of \(scale.count) from column \(column) of \(x.shape) to row \(row) \
      of \(y.shape)
      """
    )
    return pk_head_norm_shape(
      batch: b, tokens: n, heads: heads, dim: scale.count, rotated: rotated, ldx: ldx, bsx: n * ldx,
      ldy: ldy, bsy: m * ldy, eps: epsilon)
  }
}
