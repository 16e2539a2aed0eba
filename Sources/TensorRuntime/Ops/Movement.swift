internal import CKernels

/// Moving elements: permutations, parts, joins, rows of tables.
extension Workspace {
  /// Strides of a row-major shape.
  static func strides(_ shape: Shape) -> [Int] {
    var s = Array(repeating: 1, count: shape.rank)
    for axis in stride(from: shape.rank - 2, through: 0, by: -1) {
      s[axis] = s[axis + 1] * shape[axis + 1]
    }
    return s
  }

  /// Copies (or adds) `sizes` elements between two strided views; offsets and strides in elements.
  public func copyStrided(
    _ sizes: [Int], from x: Tensor, offset xOffset: Int = 0, strides xs: [Int], to y: inout Tensor,
    toOffset yOffset: Int = 0, toStrides ys: [Int], accumulate: Bool = false
  ) {
    precondition(
      x.type == y.type && sizes.count == xs.count && sizes.count == ys.count,
      "copy of \(x.type) to \(y.type)")
    func last(_ offset: Int, _ strides: [Int]) -> Int {
      offset + zip(sizes, strides).reduce(0) { $0 + ($1.0 - 1) * $1.1 }
    }
    if sizes.contains(0) { return }
    precondition(
      last(xOffset, xs) < x.count && last(yOffset, ys) < y.count,
      "copy of \(sizes) past \(x.shape) or \(y.shape)")
    y.makeUnique(in: self)
    unsafe check(
      pk_copy_strided(
        x.type.pk, Int32(sizes.count), sizes, xs, x.base + xOffset * x.type.byteCount, ys,
        y.base + yOffset * y.type.byteCount, accumulate ? 1 : 0))
  }

  /// Axis k of the result is axis `axes[k]` of x.
  public func permuted(_ x: Tensor, _ axes: [Int]) -> Tensor {
    let s = Self.strides(x.shape)
    let shape = Shape(axes.map { x.shape[$0] })
    var y = tensor(shape, x.type)
    copyStrided(
      shape.dims, from: x, strides: axes.map { s[$0] }, to: &y, toStrides: Self.strides(shape))
    return y
  }
  /// Elements `range` of an axis.
  public func narrowed(_ x: Tensor, axis: Int, _ range: Range<Int>) -> Tensor {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= x.shape[axis],
      "\(range) of axis \(axis) of \(x.shape)")
    var shape = x.shape
    shape[axis] = range.count
    let outer = x.shape.dims.prefix(axis).reduce(1, *)
    let inner = x.shape.dims.dropFirst(axis + 1).reduce(1, *)
    var y = tensor(shape, x.type)
    copyStrided(
      [outer, range.count * inner], from: x, offset: range.lowerBound * inner,
      strides: [x.shape[axis] * inner, 1], to: &y, toStrides: [range.count * inner, 1])
    return y
  }
  /// Writes (or adds) x to elements `start...` of an axis of y: the inverse of `narrowed`.
  public func place(
    _ x: Tensor, into y: inout Tensor, axis: Int, at start: Int, accumulate: Bool = false
  ) {
    precondition(
      start >= 0 && start + x.shape[axis] <= y.shape[axis],
      "\(x.shape) at \(start) of axis \(axis) of \(y.shape)")
    let outer = x.shape.dims.prefix(axis).reduce(1, *)
    let inner = x.shape.dims.dropFirst(axis + 1).reduce(1, *)
    copyStrided(
      [outer, x.shape[axis] * inner], from: x, strides: [x.shape[axis] * inner, 1], to: &y,
      toOffset: start * inner, toStrides: [y.shape[axis] * inner, 1], accumulate: accumulate)
  }
  public func concatenated(_ parts: [Tensor], axis: Int) -> Tensor {
    var shape = parts[0].shape
    shape[axis] = parts.reduce(0) { $0 + $1.shape[axis] }
    var y = tensor(shape, parts[0].type)
    var start = 0
    for p in parts {
      place(p, into: &y, axis: axis, at: start)
      start += p.shape[axis]
    }
    return y
  }
  /// Tensors of one shape along a new leading axis.
  public func stacked(_ parts: [Tensor]) -> Tensor {
    concatenated(parts.map { $0.reshaped(Shape([1] + $0.shape.dims)) }, axis: 0)
  }

  /// Rows of a table: y[i] = table[ids[i]].
  public func gather(_ table: Tensor, _ ids: [Int32]) -> Tensor {
    let (rows, columns) = (table.shape.rows, table.shape.last)
    precondition(ids.allSatisfy { $0 >= 0 && Int($0) < rows }, "row of a table of \(rows)")
    if table.type.isStorage { return gatherStored(table.reshaped(Shape(rows, columns)), ids) }
    let y = tensor(Shape(ids.count, columns), table.type)
    unsafe check(pk_gather_rows(table.type.pk, ids.count, columns, ids, table.base, y.base))
    return y
  }
  /// The same from a table in a storage type: only the rows that are read are widened.
  private func gatherStored(_ table: Tensor, _ ids: [Int32]) -> Tensor {
    let y = tensor(Shape(ids.count, table.shape[1]))
    for (i, id) in ids.enumerated() {
      var w = unsafe table.slice(Int(id)..<Int(id) + 1).weight
      unsafe check(pk_widen(1, table.shape[1], &w, y.slice(i..<i + 1).floatBase))
    }
    return y
  }
  public func scatterAdd(_ dy: Tensor, _ ids: [Int32], to dTable: inout Tensor?) {
    guard dTable != nil else { return }
    dTable!.makeUnique(in: self)
    unsafe check(
      pk_scatter_add_rows(dy.type.pk, ids.count, dy.shape.last, ids, dy.base, dTable!.base))
  }

  /// Rotates adjacent channel pairs of x `[B, N, heads * dim]` in place, for tokens
  /// `0..<cosines.shape[0]` of each sample. `inverse` is the backward direction. cosines, sines
  /// `[tokens, dim / 2]`.
  public func rotate(
    _ x: inout Tensor, heads: Int, cosines: Tensor, sines: Tensor, inverse: Bool = false
  ) {
    let (b, n, width) = (x.shape[0], x.shape[1], x.shape[2])
    let tokens = cosines.shape[0]
    precondition(
      tokens <= n && cosines.shape.last * 2 * heads == width && cosines.type == x.type,
      "rotate \(x.shape) by \(cosines.shape)")
    x.makeUnique(in: self)
    unsafe check(
      pk_rope(
        x.type.pk, b, tokens, heads, width / heads, width, n * width, cosines.base, sines.base,
        inverse ? -1 : 1, x.base))
  }
}

/// One tensor combined with every element of the leading axis.
extension Workspace {
  /// x[b] += table for every b: x `[B, ...]`, table with the shape of x[b].
  public func addToEach(_ table: Tensor, to x: inout Tensor) {
    let t = widened(table)
    precondition(
      x.shape[0] * t.count == x.count && t.type == x.type, "add \(t.shape) to each of \(x.shape)")
    x.makeUnique(in: self)
    for b in 0..<x.shape[0] {
      unsafe check(pk_axpby(x.type.pk, t.count, 1, t.base, 1, x.base + b * t.byteCount))
    }
  }
  /// sums += Σ_b x[b]: the adjoint of `addToEach`.
  public func addSumOfEach(_ x: Tensor, to sums: inout Tensor?) {
    guard let shape = sums?.shape else { return }
    precondition(x.count % shape.count == 0, "sum of each of \(x.shape) into \(shape)")
    addColumnSums(x.reshaped(Shape(x.count / shape.count, shape.count)), to: &sums)
  }
  /// Copies of x along a new leading axis.
  public func repeated(_ x: Tensor, _ times: Int) -> Tensor {
    var y = tensor(Shape([times] + x.shape.dims), x.type)
    copyStrided([times, x.count], from: x, strides: [0, 1], to: &y, toStrides: [x.count, 1])
    return y
  }
}

extension Workspace {
  /// Sets rows `counts[b]...` of x `[B, L, ...]` to zero.
  public func zeroPadding(_ x: inout Tensor, counts: [Int32]) {
    precondition(counts.count == x.shape[0], "\(counts.count) counts for \(x.shape)")
    if counts.allSatisfy({ Int($0) >= x.shape[1] }) { return }
    x.makeUnique(in: self)
    let row = x.count / (x.shape[0] * x.shape[1])
    for (b, n) in counts.enumerated() {
      unsafe check(
        pk_fill(
          x.type.pk, (x.shape[1] - Int(n)) * row, 0,
          x.base + (b * x.shape[1] + Int(n)) * row * x.type.byteCount))
    }
  }
}

extension Workspace {
  /// a[b] x[b] + c[b] y[b].
  public func mixEach(_ a: [Double], _ x: Tensor, _ c: [Double], _ y: Tensor) -> Tensor {
    precondition(
      x.shape == y.shape && a.count == x.shape[0] && c.count == a.count,
      "mix \(x.shape) and \(y.shape) with \(a.count) weights")
    if Set(a).count == 1, Set(c).count == 1 { return combine(a[0], x, c[0], y) }
    return concatenated(
      a.indices.map { combine(a[$0], x.slice($0..<$0 + 1), c[$0], y.slice($0..<$0 + 1)) }, axis: 0)
  }
}
