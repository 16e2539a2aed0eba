internal import CKernels

/// Matrix products: `pk_gemm.h`.
extension Workspace {
  /// y = x Wᵀ + b. Shapes: x `[..., in]`, W `[out, in]`, b `[out]`; y `[..., out]`. The packed
  /// panels of a `frozen` weight are kept if it is small (1 MiB), or if x has few rows (at most
  /// 512): packing then takes a tenth of the product, and more with fewer rows. Large weights (32
  /// MiB) are not kept twice.
  public func linear(_ x: Tensor, weight: Tensor, bias: Tensor?, frozen: Bool = false) -> Tensor {
    let y = tensor(x.shape.replacingLast(with: weight.shape[0]), x.type)
    multiply(
      x, by: Factor(weight, transposed: true, frozen: frozen), then: .init(bias: bias), into: y)
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
      x, by: Factor(weight, transposed: true, frozen: frozen),
      then: .init(bias: bias, f: f, active: active, column: column), into: y)
    return y
  }
  /// f(x Wᵀ + b), in place. The input of f is not kept.
  public func linear(
    _ x: Tensor, weight: Tensor, bias: Tensor?, frozen: Bool = false, then f: Activation
  ) -> Tensor {
    let y = tensor(x.shape.replacingLast(with: weight.shape[0]), x.type)
    multiply(
      x, by: Factor(weight, transposed: true, frozen: frozen),
      then: .init(bias: bias, f: f, active: y), into: y)
    return y
  }
  /// y += s x Wᵀ, and then f(y) written to columns `column...` of `active`.
  public func linear(_ x: Tensor, weight: Tensor, times s: Double, addingTo y: inout Tensor) {
    precondition(y.shape == x.shape.replacingLast(with: weight.shape[0]), "linear: \(y.shape)")
    y.makeUnique(in: self)
    multiply(x, by: Factor(weight, transposed: true), into: y, alpha: s, beta: 1)
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
      x, by: Factor(weight, transposed: true),
      then: .init(f: f, active: active, column: column), into: y, alpha: s, beta: 1)
  }
  /// s dy W.
  public func linearBackwardInput(_ dy: Tensor, weight: Tensor, times s: Double) -> Tensor {
    let dx = tensor(dy.shape.replacingLast(with: weight.shape[1]), dy.type)
    multiply(dy, by: Factor(weight), into: dx, alpha: s)
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
      dy, by: Factor(weight, first: columns?.lowerBound ?? 0, frozen: frozen),
      then: .init(f: f, before: before.map { widened($0) }), into: dx)
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
      dy, by: Factor(weight, first: columns?.lowerBound ?? 0, frozen: frozen),
      then: .init(f: f, before: before.map { widened($0) }), into: dx, beta: 1)
  }
  /// Elements of a weight up to which panels are kept. This covers BERT-large, but not a generator
  /// with billions of parameters.
  private static let mostKept = 8 << 20
  /// Elements up to which panels are kept for any number of rows. Packing is a thirtieth of the
  /// product for 2000 rows.
  private static let alwaysKept = 1 << 18
  /// The right factor of a product: columns `first...` of op(W), W `[out, in]`, op(W) its transpose
  /// if `isTransposed`.
  private struct Factor {
    let weight: Tensor
    let isTransposed: Bool, first: Int
    /// Whether the weight never changes, so that its panels may be kept; and whether they are kept
    /// whatever its size.
    let isFrozen: Bool, isAlwaysKept: Bool
    init(
      _ weight: Tensor, transposed: Bool = false, first: Int = 0, frozen: Bool = false,
      alwaysKept: Bool = false
    ) {
      (self.weight, isTransposed, self.first) = (weight, transposed, first)
      (isFrozen, isAlwaysKept) = (frozen, alwaysKept)
    }
    /// Rows and columns of op(W).
    var rows: Int { weight.shape[isTransposed ? 1 : 0] }
    var columns: Int { weight.shape[isTransposed ? 0 : 1] }
    /// Smaller factors are read in place.
    func isWorthPacking(columns n: Int) -> Bool { rows * n >= 4096 }
  }
  /// What follows a product in the same pass: y + bias; f(y) written to columns `column...` of
  /// `active`; or y ⊙ f'(before).
  private struct Epilogue {
    var bias: Tensor?, f: Activation?, active: Tensor?, column = 0, before: Tensor?
  }
  /// y = beta y + alpha x op(W), and the epilogue: `pk_linear`.
  private func multiply(
    _ x: Tensor, by factor: Factor, then epilogue: Epilogue = Epilogue(), into y: Tensor,
    alpha: Double = 1, beta: Double = 0
  ) {
    let (rows, k, n) = (x.shape.rows, x.shape.last, y.shape.last)
    let weight = factor.weight
    precondition(
      weight.shape.rank == 2 && k == factor.rows && factor.first + n <= factor.columns,
      "linear: x \(x.shape), weight \(weight.shape)")
    precondition(x.type.isCompute && y.type == x.type, "linear: x \(x.type)")
    let across = weight.shape[1]
    var s = pk_gemm_shape(
      m: rows, n: n, k: k, rsa: k, csa: 1, rsb: factor.isTransposed ? 1 : across,
      csb: factor.isTransposed ? across : 1, rsc: n, csc: 1, alpha: alpha, beta: beta)
    var panels: Tensor?
    var w: Tensor?
    if x.type == .f32 && keepsPanels(factor, rows: rows, columns: n) {
      panels = keptPanels(factor, &s)
    } else if x.type == .f32 && weight.type.isStorage && factor.isWorthPacking(columns: n) {
      panels = packed(factor, &s)
    } else {
      w = widened(weight)
      precondition(w!.type == x.type, "linear: x \(x.type), weight \(weight.type)")
    }
    let bias = epilogue.bias.map { widened($0) }
    let size = y.type.byteCount
    var e = unsafe pk_epilogue(
      bias: bias.map { unsafe UnsafeRawPointer($0.base) }, f: epilogue.f?.pk ?? PK_RELU,
      before: epilogue.before.map { unsafe UnsafeRawPointer($0.base) },
      active: epilogue.active.map { unsafe $0.base + epilogue.column * size },
      ldbefore: n, ldactive: epilogue.active?.shape.last ?? 0)
    let area = productScratch(&s)
    countOperations(2 * rows * n * k)
    unsafe check(
      pk_linear(
        x.type.pk, &s, x.base, w.map { unsafe UnsafeRawPointer($0.base + factor.first * size) },
        unsafe panels.map { unsafe UnsafeRawPointer($0.base) }, &e, unsafe y.base, unsafe area.base)
    )
  }
  /// Whether the panels of a factor are kept for products with `rows` rows.
  private func keepsPanels(_ factor: Factor, rows: Int, columns n: Int) -> Bool {
    let count = factor.rows * n
    return factor.isFrozen && factor.first == 0 && n == factor.columns
      && factor.isWorthPacking(columns: n)
      && (rows <= 512 && count <= Self.mostKept || count <= Self.alwaysKept || factor.isAlwaysKept)
  }
  /// The panels of a factor, for one product: made from the elements as they are stored, so that no
  /// more than the panels is held in f32.
  private func packed(_ factor: Factor, _ s: inout pk_gemm_shape) -> Tensor {
    let panels = scratch(pk_gemm_packed_count(s.n, s.k), .f32)
    pack(factor, &s, into: panels)
    return panels
  }
  private func pack(_ factor: Factor, _ s: inout pk_gemm_shape, into panels: Tensor) {
    var w = unsafe factor.weight.weight
    unsafe w.elements += factor.first * factor.weight.type.byteCount
    unsafe check(pk_gemm_pack(&s, &w, panels.base))
  }
  /// The panels of a factor that does not change, made once and kept if the pool's budget allows
  /// it; nil in a plan, which counts them.
  private func keptPanels(_ factor: Factor, _ s: inout pk_gemm_shape) -> Tensor? {
    let weight = factor.weight
    let key = PanelCache.Key(
      offset: weight.offset, rows: weight.shape[0], columns: weight.shape[1],
      isTransposed: factor.isTransposed, layout: pk_gemm_layout())
    let count = pk_gemm_packed_count(s.n, s.k)
    if let plan {
      let isKept = plan.count(key, of: weight.storage, bytes: 4 * count)
      return isKept ? nil : packed(factor, &s)
    }
    return weight.storage.panels.panels(key, within: pool.panelBudget, bytes: 4 * count) {
      let panels = Tensor(uninitialized: Shape(count), type: .f32)
      pack(factor, &s, into: panels)
      return panels
    } ?? packed(factor, &s)
  }
  /// Adds s dyᵀ x to `dWeight`.
  public func linearBackwardWeight(
    _ dy: Tensor, x: Tensor, times s: Double = 1, addingTo dWeight: inout Tensor?
  ) {
    guard dWeight != nil else { return }
    let x = widened(x)
    let out = dy.shape.last
    let input = x.shape.last
    dWeight!.makeUnique(in: self)
    let isFirst = dWeight!.takeCleared()
    gemm(
      m: out, n: input, k: dy.shape.rows, Strided(dy, 1, out), Strided(x, input, 1),
      into: dWeight!, alpha: s, beta: isFirst ? 0 : 1)
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
      m: m, n: n, k: k, ta ? Strided(a, 1, m) : Strided(a, k, 1),
      tb ? Strided(b, 1, k) : Strided(b, n, 1), into: c, alpha: alpha, beta: 0)
    return c
  }

  /// C = A B with a constant B: its panels are made once and kept with it, whatever its size.
  public func matmul(_ a: Tensor, keeping b: Tensor) -> Tensor {
    let c = tensor(Shape(a.shape[0], b.shape[1]), a.type)
    multiply(a, by: Factor(b, frozen: true, alwaysKept: true), into: c)
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

  /// A matrix over a tensor's memory, by the strides of its rows and columns.
  private struct Strided {
    let tensor: Tensor, row: Int, column: Int
    init(_ tensor: Tensor, _ row: Int, _ column: Int) {
      (self.tensor, self.row, self.column) = (tensor, row, column)
    }
  }
  /// C = beta C + alpha A B; C row-major `[m, n]`.
  private func gemm(
    m: Int, n: Int, k: Int, _ a: Strided, _ b: Strided, into c: Tensor, alpha: Double, beta: Double
  ) {
    let type = c.type
    precondition(
      a.tensor.type == type && b.tensor.type == type && type.isCompute,
      "product of \(a.tensor.type), \(b.tensor.type) into \(type)")
    var s = pk_gemm_shape(
      m: m, n: n, k: k, rsa: a.row, csa: a.column, rsb: b.row, csb: b.column, rsc: n, csc: 1,
      alpha: alpha, beta: beta)
    let area = productScratch(&s)
    countOperations(2 * m * n * k)
    unsafe check(pk_gemm(type.pk, &s, a.tensor.base, b.tensor.base, c.base, area.base))
  }
  /// Most products take the same block of the pool, whatever their sizes: the largest that two
  /// threads need.
  private func productScratch(_ s: inout pk_gemm_shape) -> Tensor {
    unsafe scratch(max(pk_gemm_scratch(&s), 5 << 18), .f32)
  }
}
