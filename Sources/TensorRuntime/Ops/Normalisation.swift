internal import CKernels

/// Normalisation: `pk_norm.h`. γ and β may be absent (1 and 0).
extension Workspace {
  /// Statistics of the rows, which backward reads.
  public struct RowStatistics: Sendable {
    let mean, rstd: Tensor
    /// Both in one tensor `[2, ...]`, to be sent, and back.
    public func joined(in work: borrowing Workspace) -> Tensor { work.stacked([mean, rstd]) }
    init(mean: Tensor, rstd: Tensor) { (self.mean, self.rstd) = (mean, rstd) }
    /// Those of a group norm of a whole, from the joined statistics of its pieces, which have
    /// `cells` values of a channel each (Chan, Golub, LeVeque 1983, eq. 1.5).
    public init(
      merging pieces: [Tensor], cells: [Int], epsilon: Double, in work: borrowing Workspace
    ) {
      let lists = pieces.map(\.doubles)
      let n = lists[0].count / 2
      let all = Double(cells.reduce(0, +))
      let shares = cells.map { Double($0) / all }
      let mean = (0..<n).map { g in zip(lists, shares).reduce(0) { $0 + $1.0[g] * $1.1 } }
      let rstd = (0..<n).map { g in
        let variance = zip(lists, shares).reduce(0) { sum, piece in
          let (list, share) = piece
          let (rstd, away) = (list[n + g], list[g] - mean[g])
          return sum + share * (1 / (rstd * rstd) - epsilon + away * away)
        }
        return 1 / (max(variance, 0) + epsilon).squareRoot()
      }
      let shape = Shape(Array(pieces[0].shape.dims.dropFirst()))
      let type = pieces[0].type
      self.mean = work.converted(Tensor(mean, shape), to: type)
      self.rstd = work.converted(Tensor(rstd, shape), to: type)
    }
  }

  public func layerNorm(_ x: Tensor, scale: Tensor?, shift: Tensor?, epsilon: Double) -> (
    y: Tensor, statistics: RowStatistics
  ) {
    let gamma = scale.map { widened($0) }
    let beta = shift.map { widened($0) }
    let y = tensor(x.shape, x.type)
    let mean = tensor(x.shape.droppingLast, x.type)
    let rstd = tensor(x.shape.droppingLast, x.type)
    unsafe check(
      pk_layernorm_forward(
        x.type.pk, x.shape.rows, x.shape.last, epsilon, x.base, gamma?.base, beta?.base, y.base,
        mean.base, rstd.base))
    return (y, RowStatistics(mean: mean, rstd: rstd))
  }
  /// dx plus `side`, the gradient of the path around the norm. `rectified`: x was ReLU(h), and the
  /// result is the gradient of h.
  public func layerNormBackward(
    _ dy: Tensor, x: Tensor, rectified: Bool = false, scale: Tensor?, statistics s: RowStatistics,
    adding side: Tensor? = nil, addingTo dScale: inout Tensor?, _ dShift: inout Tensor?
  ) -> Tensor {
    let x = widened(x)
    precondition(
      dy.shape == x.shape && side.map { $0.shape == x.shape } ?? true,
      "layer norm backward: dy \(dy.shape), x \(x.shape)")
    let gamma = scale.map { widened($0) }
    dScale?.makeUnique(in: self)
    dShift?.makeUnique(in: self)
    let dx = tensor(x.shape, x.type)
    let rows = x.shape.rows
    let columns = x.shape.last
    let partial = scratch(
      dScale == nil && dShift == nil ? 0 : pk_norm_backward_scratch(1, rows, columns), x.type)
    unsafe check(
      pk_layernorm_backward(
        x.type.pk, rows, columns, dy.base, x.base, rectified ? 1 : 0, gamma?.base, s.mean.base,
        s.rstd.base, side?.base, dx.base, dScale?.base, dShift?.base, partial.base))
    return dx
  }

  /// Layer norm of x `[B, N, C]` whose factor 1 + scale and whose shift are chunks of each sample
  /// (adaLN; Peebles, Xie 2023, arXiv:2212.09748, 3.2).
  public func adaptiveLayerNorm(_ x: Tensor, scale: Chunk, shift: Chunk, epsilon: Double) -> (
    y: Tensor, statistics: RowStatistics
  ) {
    let (b, n, c) = tokens(x)
    precondition(scale.ld == shift.ld, "adaptive layer norm: chunks of different matrices")
    let y = tensor(x.shape, x.type)
    let mean = tensor(x.shape.droppingLast, x.type)
    let rstd = tensor(x.shape.droppingLast, x.type)
    unsafe check(
      pk_adaln_forward(
        x.type.pk, b, n, c, scale.ld, epsilon, x.base, scale.base, shift.base, y.base, mean.base,
        rstd.base))
    return (y, RowStatistics(mean: mean, rstd: rstd))
  }
  /// dx plus `side`. Adds to chunks `scaleIndex` and `shiftIndex` (of `count`) of `dChunks` if it
  /// is present.
  public func adaptiveLayerNormBackward(
    _ dy: Tensor, x: Tensor, scale: Chunk, statistics s: RowStatistics, adding side: Tensor? = nil,
    scaleIndex: Int, shiftIndex: Int, of count: Int, addingTo dChunks: inout Tensor?
  ) -> Tensor {
    let x = widened(x)
    let (b, n, c) = tokens(x)
    precondition(
      dy.shape == x.shape && side.map { $0.shape == x.shape } ?? true,
      "adaptive layer norm backward: dy \(dy.shape), x \(x.shape)")
    dChunks?.makeUnique(in: self)
    let dScale = unsafe dChunks.map { unsafe Chunk($0, scaleIndex, of: count).base }
    let dShift = unsafe dChunks.map { unsafe Chunk($0, shiftIndex, of: count).base }
    let dx = tensor(x.shape, x.type)
    let partial = scratch(dChunks == nil ? 0 : pk_norm_backward_scratch(b, n, c), x.type)
    unsafe check(
      pk_adaln_backward(
        x.type.pk, b, n, c, scale.ld, dy.base, x.base, scale.base, s.mean.base, s.rstd.base,
        side?.base, dx.base, dScale, dShift, partial.base))
    return dx
  }

  public func rmsNorm(_ x: Tensor, scale: Tensor?, epsilon: Double) -> (y: Tensor, rstd: Tensor) {
    let gamma = scale.map { widened($0) }
    let y = tensor(x.shape, x.type)
    let rstd = tensor(x.shape.droppingLast, x.type)
    unsafe check(
      pk_rmsnorm_forward(
        x.type.pk, x.shape.rows, x.shape.last, epsilon, x.base, gamma?.base, y.base, rstd.base))
    return (y, rstd)
  }
  /// dx plus `side`, the gradient of the path around the norm.
  public func rmsNormBackward(
    _ dy: Tensor, x: Tensor, scale: Tensor?, rstd: Tensor, adding side: Tensor? = nil,
    addingTo dScale: inout Tensor?
  ) -> Tensor {
    let x = widened(x)
    precondition(
      dy.shape == x.shape && side.map { $0.shape == x.shape } ?? true,
      "RMS norm backward: dy \(dy.shape), x \(x.shape)")
    let gamma = scale.map { widened($0) }
    dScale?.makeUnique(in: self)
    let dx = tensor(x.shape, x.type)
    let rows = x.shape.rows
    let columns = x.shape.last
    let partial = scratch(dScale == nil ? 0 : pk_norm_backward_scratch(1, rows, columns), x.type)
    unsafe check(
      pk_rmsnorm_backward(
        x.type.pk, rows, columns, dy.base, x.base, gamma?.base, rstd.base, side?.base, dx.base,
        dScale?.base, partial.base))
    return dx
  }

  /// Group norm of x `[B, C, ...]`, optionally followed by SiLU in the same pass. `eachFrame`: of
  /// every frame of x `[B, C, T, ...]` by itself.
  public func groupNorm(
    _ x: Tensor, groups: Int, scale: Tensor?, shift: Tensor?, epsilon: Double, silu: Bool,
    eachFrame: Bool = false
  ) -> (y: Tensor, statistics: RowStatistics) {
    var s = groupShape(x, groups, epsilon, silu, eachFrame)
    let gamma = scale.map { widened($0) }
    let beta = shift.map { widened($0) }
    let y = tensor(x.shape, x.type)
    let stats = Shape(x.shape[0], groups, s.frames)
    let mean = tensor(stats, x.type)
    let rstd = tensor(stats, x.type)
    let sums = unsafe scratch(pk_groupnorm_scratch(&s), x.type)
    unsafe check(
      pk_groupnorm_forward(
        x.type.pk, &s, x.base, gamma?.base, beta?.base, y.base, mean.base, rstd.base, sums.base))
    return (y, RowStatistics(mean: mean, rstd: rstd))
  }
  /// A group norm that a convolution applies as it reads its input: mean, factor and shift of each
  /// channel, `[B, frames, 3, C]`; one frame stands for all.
  public struct PendingNorm: Sendable {
    let table: Tensor, silu: Bool
    var frames: Int { table.shape[1] }
  }

  /// Mean and 1 / deviation of each group, `[B, groups, frames]`.
  public func groupStatistics(
    _ x: Tensor, groups: Int, epsilon: Double, eachFrame: Bool = false
  ) -> RowStatistics {
    var s = groupShape(x, groups, epsilon, false, eachFrame)
    let stats = Shape(x.shape[0], groups, s.frames)
    let mean = tensor(stats, x.type)
    let rstd = tensor(stats, x.type)
    let sums = unsafe scratch(pk_groupnorm_scratch(&s), x.type)
    unsafe check(
      pk_groupnorm_statistics(x.type.pk, &s, x.base, mean.base, rstd.base, sums.base))
    return RowStatistics(mean: mean, rstd: rstd)
  }
  /// The norm of x, from statistics of more than x.
  public func groupNorm(
    _ x: Tensor, _ statistics: RowStatistics, groups: Int, scale: Tensor?, shift: Tensor?,
    silu: Bool, eachFrame: Bool = false
  ) -> Tensor {
    let x = widened(x)
    var s = groupShape(x, groups, 0, silu, eachFrame)
    let gamma = scale.map { widened($0) }
    let beta = shift.map { widened($0) }
    let y = tensor(x.shape, x.type)
    unsafe check(
      pk_groupnorm_apply(
        x.type.pk, &s, x.base, gamma?.base, beta?.base, statistics.mean.base,
        statistics.rstd.base, y.base))
    return y
  }
  /// The norm for `convolution` to apply to x, or to parts of it.
  public func pendingNorm(
    _ x: Tensor, _ statistics: RowStatistics, groups: Int, scale: Tensor?, shift: Tensor?,
    silu: Bool, eachFrame: Bool = false
  ) -> PendingNorm {
    var s = groupShape(x, groups, 0, silu, eachFrame)
    let gamma = scale.map { widened($0) }
    let beta = shift.map { widened($0) }
    let table = tensor(Shape(x.shape[0], s.frames, 3, x.shape[1]), x.type)
    unsafe check(
      pk_groupnorm_table(
        x.type.pk, &s, gamma?.base, beta?.base, statistics.mean.base, statistics.rstd.base,
        table.base))
    return PendingNorm(table: table, silu: silu)
  }
  /// dx plus `side`, the gradient of the path around the norm. Written to the memory of dy if
  /// nothing else holds it.
  public func groupNormBackward(
    _ dy: consuming Tensor, x: Tensor, groups: Int, scale: Tensor?, shift: Tensor?, epsilon: Double,
    silu: Bool, eachFrame: Bool = false, statistics: RowStatistics, adding side: Tensor? = nil,
    addingTo dScale: inout Tensor?, _ dShift: inout Tensor?
  ) -> Tensor {
    let x = widened(x)
    precondition(
      dy.shape == x.shape && (side == nil || side!.shape == x.shape && side!.type == x.type),
      "group norm backward: dy \(dy.shape), x \(x.shape)")
    var s = groupShape(x, groups, epsilon, silu, eachFrame)
    let gamma = scale.map { widened($0) }
    let beta = shift.map { widened($0) }
    dScale?.makeUnique(in: self)
    dShift?.makeUnique(in: self)
    let dx = dy.isOnlyHolder() ? dy : tensor(x.shape, x.type)
    let sums = unsafe scratch(pk_groupnorm_scratch(&s), x.type)
    unsafe check(
      pk_groupnorm_backward(
        x.type.pk, &s, dy.base, x.base, gamma?.base, beta?.base, statistics.mean.base,
        statistics.rstd.base, side?.base, dx.base, dScale?.base, dShift?.base, sums.base))
    return dx
  }
  /// The first part of `groupNormBackward` of a piece x of a larger tensor, from the statistics of
  /// all of it: the gradient g of the norm's own output, and the sums over the piece of g and of g
  /// times that output, `[rows, 2]` in double. Written to the memory of dy if nothing else holds
  /// it.
  public func groupNormBackwardSums(
    _ dy: consuming Tensor, x: Tensor, groups: Int, scale: Tensor?, shift: Tensor?, silu: Bool,
    statistics: RowStatistics
  ) -> (g: Tensor, sums: Tensor) {
    let x = widened(x)
    precondition(dy.shape == x.shape, "group norm backward: dy \(dy.shape), x \(x.shape)")
    var s = groupShape(x, groups, 0, silu, false)
    let gamma = scale.map { widened($0) }
    let beta = shift.map { widened($0) }
    let g = dy.isOnlyHolder() ? dy : tensor(x.shape, x.type)
    let sums = tensor(Shape(s.batch * s.channels, 2), .f64)
    unsafe check(
      pk_groupnorm_backward_sums(
        x.type.pk, &s, dy.base, x.base, gamma?.base, beta?.base, statistics.mean.base,
        statistics.rstd.base, g.base,
        sums.base.assumingMemoryBound(to: Double.self)))
    return (g, sums)
  }
  /// Its second part: g becomes dx plus `side`, with the sums of all pieces together, which have
  /// `cells` values of a channel.
  public func groupNormBackwardFinish(
    _ g: inout Tensor, x: Tensor, groups: Int, scale: Tensor?, statistics: RowStatistics,
    sums: Tensor, cells: Int, adding side: Tensor? = nil
  ) {
    let x = widened(x)
    precondition(
      g.shape == x.shape && (side == nil || side!.shape == x.shape && side!.type == x.type),
      "group norm backward: g \(g.shape), x \(x.shape)")
    var s = groupShape(x, groups, 0, false, false)
    let gamma = scale.map { widened($0) }
    g.makeUnique(in: self)
    unsafe check(
      pk_groupnorm_backward_finish(
        x.type.pk, &s, x.base, gamma?.base, statistics.mean.base, statistics.rstd.base,
        sums.base.assumingMemoryBound(to: Double.self), cells, side?.base, g.base))
  }
  private func groupShape(
    _ x: Tensor, _ groups: Int, _ epsilon: Double, _ silu: Bool, _ eachFrame: Bool
  ) -> pk_groupnorm_shape {
    precondition(
      x.shape.rank >= 2 && x.shape[1] % groups == 0, "group norm: \(groups) groups of \(x.shape)")
    let frames = eachFrame ? x.shape[2] : 1
    return pk_groupnorm_shape(
      batch: x.shape[0], channels: x.shape[1], groups: groups, frames: frames,
      spatial: x.count / (x.shape[0] * x.shape[1] * frames), eps: epsilon, silu: silu ? 1 : 0)
  }
}
