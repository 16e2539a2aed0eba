internal import CKernels

/// Matrix products: `pk_gemm.h`.
extension Workspace {
  /// y = x Wᵀ + b. Shapes: x `[..., in]`, W `[out, in]`, b `[out]`; y `[..., out]`. The packed
  /// panels of a `frozen` weight are kept if it is small (1 MiB), or if x has few rows (at most
  /// 512): packing then takes a tenth of the product, and more with fewer rows. Large weights (32
  /// MiB) are not kept twice.
  public func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, frozen: Bool = false) -> Tensor {
    let y = tensor(x.shape.replacingLast(with: weight.shape[0]), x.type)
    multiply(x, weight, isTransposed: true, frozen: frozen, bias: bias, into: y)
    return y
  }
  /// y = x Wᵀ + b, and f(y) written to columns `column...` of `active` `[..., wider]` in the same
  /// pass.
  public func linear(
    _ x: Tensor, weight: Tensor, bias: Tensor?, frozen: Bool = false, then f: Activation,
    into active: inout Tensor, at column: Int = 0
  ) -> Tensor {
    let y = tensor(x.shape.replacingLast(with: weight.shape[0]), x.type)
    precondition(
      active.shape.rows == y.shape.rows && column + y.shape.last <= active.shape.last
        && active.type == x.type, "linear: \(y.shape) at \(column) of \(active.shape)")
    active.makeUnique(in: self)
    multiply(
      x, weight, isTransposed: true, frozen: frozen, bias: bias, f: f, active: active, at: column,
      into: y)
    return y
  }
  /// f(x Wᵀ + b), in place. The input of f is not kept.
  public func linear(
    _ x: Tensor, weight: Tensor, bias: Tensor?, frozen: Bool = false, then f: Activation
  ) -> Tensor {
    let y = tensor(x.shape.replacingLast(with: weight.shape[0]), x.type)
    multiply(x, weight, isTransposed: true, frozen: frozen, bias: bias, f: f, active: y, into: y)
    return y
  }
  /// y += s x Wᵀ, and then f(y) written to columns `column...` of `active`.
  public func linear(_ x: Tensor, weight: Tensor, times s: Double, addingTo y: inout Tensor) {
    precondition(y.shape == x.shape.replacingLast(with: weight.shape[0]), "linear: \(y.shape)")
    y.makeUnique(in: self)
    multiply(x, weight, isTransposed: true, frozen: false, into: y, alpha: s, beta: 1)
  }
  public func linear(
    _ x: Tensor, weight: Tensor, times s: Double, addingTo y: inout Tensor, then f: Activation,
    into active: inout Tensor, at column: Int = 0
  ) {
    precondition(y.shape == x.shape.replacingLast(with: weight.shape[0]), "linear: \(y.shape)")
    precondition(
      active.shape.rows == y.shape.rows && column + y.shape.last <= active.shape.last
        && active.type == x.type, "linear: \(y.shape) at \(column) of \(active.shape)")
    y.makeUnique(in: self)
    active.makeUnique(in: self)
    multiply(
      x, weight, isTransposed: true, frozen: false, f: f, active: active, at: column, into: y,
      alpha: s, beta: 1)
  }
  /// s dy W.
  public func linearBackwardInput(_ dy: Tensor, weight: Tensor, times s: Double) -> Tensor {
    let dx = tensor(dy.shape.replacingLast(with: weight.shape[1]), dy.type)
    multiply(dy, weight, isTransposed: false, frozen: false, into: dx, alpha: s)
    return dx
  }
  /// dx = dy W[:, columns], all columns when nil; through the derivative of f at `before` when
  /// there is one: dx ⊙ f'(before).
  public func linearBackwardInput(
    _ dy: Tensor, weight: Tensor, frozen: Bool = false, columns: Range<Int>? = nil,
    through f: Activation? = nil, at before: Tensor? = nil
  ) -> Tensor {
    let dx = tensor(dy.shape.replacingLast(with: (columns ?? 0..<weight.shape[1]).count), dy.type)
    precondition(
      (f == nil) == (before == nil) && (before == nil || before!.shape == dx.shape),
      "linear backward through \(before?.shape.description ?? "nothing"): dx \(dx.shape)")
    multiply(
      dy, weight, isTransposed: false, frozen: frozen, first: columns?.lowerBound ?? 0, f: f,
      before: before, into: dx)
    return dx
  }
  /// dx += dy W[:, columns], and then through the derivative of f, as above.
  public func linearBackwardInput(
    _ dy: Tensor, weight: Tensor, frozen: Bool = false, columns: Range<Int>? = nil,
    addingTo dx: inout Tensor, through f: Activation? = nil, at before: Tensor? = nil
  ) {
    precondition(
      dx.shape == dy.shape.replacingLast(with: (columns ?? 0..<weight.shape[1]).count),
      "linear backward: dx \(dx.shape)")
    precondition(
      (f == nil) == (before == nil) && (before == nil || before!.shape == dx.shape),
      "linear backward through \(before?.shape.description ?? "nothing"): dx \(dx.shape)")
    dx.makeUnique(in: self)
    multiply(
      dy, weight, isTransposed: false, frozen: frozen, first: columns?.lowerBound ?? 0, f: f,
      before: before, into: dx, beta: 1)
  }
  /// Elements of a weight up to which panels are kept. This covers BERT-large, but not a generator
  /// with billions of parameters.
  private static let mostKept = 8 << 20
  /// Elements up to which panels are kept for any number of rows. Packing is a thirtieth of the
  /// product for 2000 rows.
  private static let alwaysKept = 1 << 18
  /// y = beta y + alpha x op(W), then bias and activation: `pk_linear`.
  private func multiply(
    _ x: Tensor, _ weight: Tensor, isTransposed: Bool, frozen: Bool, first: Int = 0,
    bias: Tensor? = nil, f: Activation? = nil, active: Tensor? = nil, at column: Int = 0,
    before: Tensor? = nil, into y: Tensor, alpha: Double = 1, beta: Double = 0, always: Bool = false
  ) {
    let (rows, k, n) = (x.shape.rows, x.shape.last, y.shape.last)
    let across = weight.shape[1]
    precondition(
      weight.shape.rank == 2 && k == weight.shape[isTransposed ? 1 : 0]
        && first + n <= weight.shape[isTransposed ? 0 : 1],
      "linear: x \(x.shape), weight \(weight.shape)")
    precondition(x.type.isCompute && y.type == x.type, "linear: x \(x.type)")
    var s = pk_gemm_shape(
      m: rows, n: n, k: k, rsa: k, csa: 1, rsb: isTransposed ? 1 : across,
      csb: isTransposed ? across : 1, rsc: n, csc: 1, alpha: alpha, beta: beta)
    var panels: Tensor?
    var w: Tensor?
    if frozen && x.type == .f32
      && (rows <= 512 && k * n <= Self.mostKept || k * n <= Self.alwaysKept || always)
      && k * n >= 4096 && first == 0 && n == weight.shape[isTransposed ? 0 : 1]
    {
      panels = self.panels(weight, isTransposed, &s)
    } else {
      w = widened(weight)
      precondition(w!.type == x.type, "linear: x \(x.type), weight \(weight.type)")
    }
    let b = bias.map { widened($0) }
    let size = y.type.byteCount
    var e = unsafe pk_epilogue(
      bias: b.map { unsafe UnsafeRawPointer($0.base) }, f: f?.pk ?? PK_RELU,
      before: unsafe before.map { unsafe UnsafeRawPointer($0.base) },
      active: unsafe active.map { unsafe $0.base + column * size },
      ldbefore: n, ldactive: active?.shape.last ?? 0)
    let area = productScratch(&s)
    countOperations(2 * rows * n * k)
    unsafe check(
      pk_linear(
        x.type.pk, &s, x.base, w.map { unsafe UnsafeRawPointer($0.base + first * size) },
        unsafe panels.map { unsafe UnsafeRawPointer($0.base) }, &e, unsafe y.base, unsafe area.base)
    )
  }
  /// The panels of a weight that does not change, made once; nil in a plan, which counts them.
  private func panels(_ weight: Tensor, _ isTransposed: Bool, _ s: inout pk_gemm_shape) -> Tensor? {
    let key = PanelCache.Key(
      offset: weight.offset, rows: weight.shape[0], columns: weight.shape[1],
      isTransposed: isTransposed, layout: pk_gemm_layout())
    let count = pk_gemm_packed_count(s.n, s.k)
    if let plan {
      plan.count(key, of: weight.storage, bytes: 4 * count)
      return nil
    }
    return weight.storage.panels.panels(key) {
      let packed = Tensor(uninitialized: Shape(count), type: .f32)
      let w = widened(weight)
      unsafe check(pk_gemm_pack(&s, w.base, packed.base))
      return packed
    }
  }
  /// Adds s dyᵀ x to `dWeight`.
  public func linearBackwardWeight(
    _ dy: Tensor, x: Tensor, times s: Double = 1, addingTo dWeight: inout Tensor?
  ) {
    guard dWeight != nil else { return }
    let out = dy.shape.last
    let input = x.shape.last
    dWeight!.makeUnique(in: self)
    let isFirst = dWeight!.takeCleared(in: self)
    gemm(
      m: out, n: input, k: dy.shape.rows, dy, (1, out), x, (input, 1), dWeight!, (input, 1),
      alpha: s, beta: isFirst ? 0 : 1)
  }
  public func addColumnSums(_ dy: Tensor, to sums: inout Tensor?) {
    guard sums != nil else { return }
    let rows = dy.shape.rows
    let columns = dy.shape.last
    sums!.makeUnique(in: self)
    let s = scratch(pk_column_sums_scratch(rows, columns), dy.type)
    unsafe check(pk_column_sums(dy.type.pk, rows, columns, dy.base, sums!.base, s.base))
  }

  /// C = alpha op(A) op(B) (+ C), for matrices.
  public func matmul(
    _ a: Tensor, _ b: Tensor, transposeA ta: Bool = false, transposeB tb: Bool = false,
    alpha: Double = 1
  ) -> Tensor {
    let (m, k) = ta ? (a.shape[1], a.shape[0]) : (a.shape[0], a.shape[1])
    let (kb, n) = tb ? (b.shape[1], b.shape[0]) : (b.shape[0], b.shape[1])
    precondition(k == kb, "matmul: \(a.shape) x \(b.shape)")
    let c = tensor(Shape(m, n), a.type)
    gemm(
      m: m, n: n, k: k, a, ta ? (1, m) : (k, 1), b, tb ? (1, k) : (n, 1), c, (n, 1), alpha: alpha,
      beta: 0)
    return c
  }

  /// C = A B with a constant B: its panels are made once and kept with it, whatever its size.
  public func matmul(_ a: Tensor, keeping b: Tensor) -> Tensor {
    let c = tensor(Shape(a.shape[0], b.shape[1]), a.type)
    multiply(a, b, isTransposed: false, frozen: true, into: c, always: true)
    return c
  }

  /// C[g] = alpha A[g] op(B[g]) for g in a batch: A `[G, M, K]` (or `[G, K, M]` transposed), B `[G,
  /// K, N]` (or `[G, N, K]`).
  public func batchedMatmul(
    _ a: Tensor, _ b: Tensor, transposeA ta: Bool = false, transposeB tb: Bool = false,
    alpha: Double = 1
  ) -> Tensor {
    let g = a.shape[0]
    let (m, k) = ta ? (a.shape[2], a.shape[1]) : (a.shape[1], a.shape[2])
    let bb = tb ? permuted(b, [0, 2, 1]) : b
    precondition(
      bb.shape[0] == g && bb.shape[1] == k && a.type == b.type,
      "batchedMatmul: \(a.shape) x \(b.shape)")
    let n = bb.shape[2]
    let c = tensor(Shape(g, m, n), a.type)
    var s = pk_gemm_shape(
      m: m, n: n, k: k, rsa: ta ? 1 : k, csa: ta ? m : 1, rsb: n, csb: 1, rsc: n, csc: 1,
      alpha: alpha, beta: 0)
    countOperations(2 * g * m * n * k)
    unsafe check(pk_gemm_batched(a.type.pk, &s, g, m * k, k * n, m * n, a.base, bb.base, c.base))
    return c
  }

  private func gemm(
    m: Int, n: Int, k: Int, _ a: Tensor, _ sa: (Int, Int), _ b: Tensor, _ sb: (Int, Int),
    _ c: Tensor, _ sc: (Int, Int), alpha: Double = 1, beta: Double
  ) {
    precondition(
      a.type == b.type && b.type == c.type && a.type.isCompute,
      "product of \(a.type), \(b.type) into \(c.type)")
    var s = pk_gemm_shape(
      m: m, n: n, k: k, rsa: sa.0, csa: sa.1, rsb: sb.0, csb: sb.1, rsc: sc.0, csc: sc.1,
      alpha: alpha, beta: beta)
    let area = productScratch(&s)
    countOperations(2 * m * n * k)
    unsafe check(pk_gemm(a.type.pk, &s, a.base, b.base, c.base, area.base))
  }
  /// Most products take the same block of the pool, whatever their sizes: the largest that two
  /// threads need.
  private func productScratch(_ s: inout pk_gemm_shape) -> Tensor {
    unsafe scratch(max(pk_gemm_scratch(&s), 5 << 18), .f32)
  }
}
