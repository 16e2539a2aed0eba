internal import CKernels

public enum Activation: String, Sendable, CaseIterable {
  case geluErf, geluTanh, silu, relu
  var pk: pk_activation {
    switch self {
    case .geluErf: PK_GELU_ERF
    case .geluTanh: PK_GELU_TANH
    case .silu: PK_SILU
    case .relu: PK_RELU
    }
  }
}

/// Element-wise arithmetic: `pk_activation.h`, `pk_elementwise.h`.
extension Workspace {
  public func activation(_ f: Activation, _ x: Tensor) -> Tensor {
    let y = tensor(x.shape, x.type)
    unsafe check(pk_activation_forward(x.type.pk, f.pk, x.count, x.base, y.base))
    return y
  }
  public func activationBackward(_ f: Activation, _ dy: Tensor, x: Tensor) -> Tensor {
    let x = widened(x)
    precondition(dy.count == x.count, "\(f) backward: dy \(dy.shape), x \(x.shape)")
    let dx = tensor(x.shape, x.type)
    unsafe check(pk_activation_backward(x.type.pk, f.pk, x.count, x.base, dy.base, dx.base))
    return dx
  }
  /// a ⊙ f(b) for rows [a, b] of x `[..., 2 D]`; y `[..., D]` (GEGLU with `geluErf`; Shazeer 2020,
  /// arXiv:2002.05202, eq. 6).
  public func gated(_ f: Activation, _ x: Tensor) -> Tensor {
    let x = widened(x)
    precondition(x.shape.last % 2 == 0, "gated \(f): no halves in \(x.shape)")
    let y = tensor(x.shape.replacingLast(with: x.shape.last / 2), x.type)
    unsafe check(pk_gated_forward(x.type.pk, f.pk, x.shape.rows, y.shape.last, x.base, y.base))
    return y
  }
  /// The gradient of x, in the memory of x if nothing else holds it.
  public func gatedBackward(_ f: Activation, _ dy: Tensor, x: consuming Tensor) -> Tensor {
    x = widened(x)
    precondition(2 * dy.count == x.count, "gated \(f) backward: dy \(dy.shape), x \(x.shape)")
    let dx = x.isOnlyHolder() ? x : tensor(x.shape, x.type)
    unsafe check(
      pk_gated_backward(
        x.type.pk, f.pk, x.shape.rows, dy.shape.last, x.base, dy.base, dx.base))
    return dx
  }

  /// y += alpha x, in place.
  public func add(_ x: Tensor, times alpha: Double = 1, to y: inout Tensor) {
    precondition(x.count == y.count && x.type == y.type, "add \(x.shape) to \(y.shape)")
    y.makeUnique(in: self)
    unsafe check(pk_axpby(x.type.pk, x.count, alpha, x.base, 1, y.base))
  }
  /// x[b, c, ...] += v[b, c], in place: one number for every plane.
  public func addToPlanes(_ v: Tensor, of x: inout Tensor) {
    precondition(
      v.count > 0 && x.count % v.count == 0 && x.type == v.type, "add \(v.shape) to \(x.shape)")
    x.makeUnique(in: self)
    unsafe check(pk_add_to_rows(x.type.pk, v.count, x.count / v.count, v.base, x.base))
  }
  /// The sum of every plane of x `[B, C, ...]`, `[B, C]`: the adjoint of `addToPlanes`.
  public func planeSums(_ x: Tensor) -> Tensor {
    let y = tensor(Shape(x.shape[0], x.shape[1]), x.type)
    unsafe check(pk_row_sums(x.type.pk, y.count, x.count / y.count, x.base, y.base))
    return y
  }
  /// As `add`, for a sum that may be absent.
  public func add(_ x: Tensor, times alpha: Double = 1, to y: inout Tensor?) {
    guard y != nil else { return }
    add(x, times: alpha, to: &y!)
  }
  /// alpha x + beta y.
  public func combine(_ alpha: Double, _ x: Tensor, _ beta: Double, _ y: Tensor) -> Tensor {
    precondition(x.count == y.count && x.type == y.type, "combine \(x.shape) and \(y.shape)")
    let z = tensor(y.shape, y.type)
    unsafe check(pk_axpby(x.type.pk, x.count, beta, y.base, 0, z.base))
    unsafe check(pk_axpby(x.type.pk, x.count, alpha, x.base, 1, z.base))
    return z
  }
  /// y = d y + (1 - d) x, in place.
  public func blend(_ d: Double, _ y: inout Tensor, with x: Tensor) {
    precondition(x.count == y.count && x.type == y.type, "blend \(x.shape) into \(y.shape)")
    y.makeUnique(in: self)
    unsafe check(pk_axpby(x.type.pk, x.count, 1 - d, x.base, d, y.base))
  }
  public func sum(_ x: Tensor, _ y: Tensor) -> Tensor { combine(1, x, 1, y) }
  public func difference(_ x: Tensor, _ y: Tensor) -> Tensor { combine(1, x, -1, y) }
  public func scaled(_ x: Tensor, by alpha: Double) -> Tensor {
    let y = tensor(x.shape, x.type)
    unsafe check(pk_axpby(x.type.pk, x.count, alpha, x.base, 0, y.base))
    return y
  }
  public func scale(_ x: inout Tensor, by alpha: Double) {
    x.makeUnique(in: self)
    unsafe check(pk_axpby(x.type.pk, x.count, alpha, x.base, 0, x.base))
  }
  /// Sets every element, whatever its value was (multiplying by 0 would keep a NaN).
  public func fill(_ x: inout Tensor, with value: Double) {
    if value == 0 && x.clear(in: self) { return }
    x.makeUnique(in: self)
    unsafe check(pk_fill(x.type.pk, x.count, value, x.base))
  }
  public func product(_ x: Tensor, _ y: Tensor) -> Tensor {
    precondition(x.count == y.count && x.type == y.type, "product of \(x.shape) and \(y.shape)")
    let z = tensor(x.shape, x.type)
    unsafe check(pk_multiply(x.type.pk, x.count, x.base, y.base, z.base, 0))
    return z
  }
  public func full(_ shape: Shape, _ value: Double, _ type: ElementType = .f32) -> Tensor {
    let y = tensor(shape, type)
    unsafe check(pk_fill(type.pk, y.count, value, y.base))
    return y
  }
  /// min(max(alpha x + beta, range)).
  public func affineClamp(_ x: Tensor, alpha: Double, beta: Double, to range: ClosedRange<Double>)
    -> Tensor
  {
    let y = tensor(x.shape, x.type)
    unsafe check(
      pk_affine_clamp_forward(
        x.type.pk, x.count, alpha, beta, range.lowerBound, range.upperBound, x.base, y.base))
    return y
  }
  public func affineClampBackward(
    _ dy: Tensor, x: Tensor, alpha: Double, beta: Double, to range: ClosedRange<Double>
  ) -> Tensor {
    let dx = tensor(x.shape, x.type)
    unsafe check(
      pk_affine_clamp_backward(
        x.type.pk, x.count, alpha, beta, range.lowerBound, range.upperBound, x.base, dy.base,
        dx.base))
    return dx
  }

  public func total(_ x: Tensor) -> Double { unsafe measured(pk_sum(x.type.pk, x.count, x.base)) }
  public func dot(_ x: Tensor, _ y: Tensor) -> Double {
    precondition(x.count == y.count && x.type == y.type, "dot of \(x.shape) and \(y.shape)")
    return unsafe measured(pk_dot(x.type.pk, x.count, x.base, y.base))
  }
  public func sumOfSquares(_ x: Tensor) -> Double { dot(x, x) }
  public func sumOfAbsoluteDifferences(_ x: Tensor, _ y: Tensor) -> Double {
    unsafe measured(pk_sum_abs_difference(x.type.pk, x.count, x.base, y.base))
  }
  public func isFinite(_ x: Tensor) -> Bool {
    unsafe !x.type.isFloating || isPlanned
      || pk_all_finite(x.type.pk, x.count, x.base) != 0
  }
}

/// Modulation and gating by per-sample vectors that are chunks of one matrix `[B, chunks * C]`.
extension Workspace {
  /// Chunk `index` of width C in every row of a `[B, n C]` matrix.
  public struct Chunk {
    let matrix: Tensor, column: Int
    public init(_ matrix: Tensor, _ index: Int, of count: Int) {
      precondition(
        matrix.shape.last % count == 0 && index < count,
        "chunk \(index) of \(count) in \(matrix.shape)")
      (self.matrix, column) = (matrix, index * (matrix.shape.last / count))
    }
    var base: UnsafeMutableRawPointer { unsafe matrix.base + column * matrix.type.byteCount }
    var ld: Int { matrix.shape.last }
  }

  /// x (1 + scale) + shift over the tokens of x `[B, N, C]`.
  public func modulate(_ x: Tensor, scale: Chunk, shift: Chunk) -> Tensor {
    let (b, n, c) = tokens(x)
    precondition(scale.ld == shift.ld, "modulate: chunks of different matrices")
    let y = tensor(x.shape, x.type)
    unsafe check(
      pk_modulate_forward(x.type.pk, b, n, c, scale.ld, x.base, scale.base, shift.base, y.base))
    return y
  }
  /// x + gate h.
  public func gate(_ x: Tensor, _ gate: Chunk, _ h: Tensor) -> Tensor {
    let (b, n, c) = tokens(x)
    let y = tensor(x.shape, x.type)
    unsafe check(pk_gate_forward(x.type.pk, b, n, c, gate.ld, x.base, gate.base, h.base, y.base))
    return y
  }
  /// dh. Adds to chunk `index` (of `count`) of `dChunks` if it is present. dx is dy.
  public func gateBackward(
    _ dy: Tensor, _ gate: Chunk, h: Tensor, index: Int, of count: Int,
    addingTo dChunks: inout Tensor?
  ) -> Tensor {
    let h = dChunks == nil ? h : widened(h)  // read only for the gradient of the gate
    let (b, n, c) = tokens(dy)
    dChunks?.makeUnique(in: self)
    let dGate = unsafe dChunks.map { unsafe Chunk($0, index, of: count).base }
    let dh = tensor(dy.shape, dy.type)
    let partial = unsafe scratch(dGate == nil ? 0 : pk_gate_backward_scratch(b, n, c), dy.type)
    unsafe check(
      pk_gate_backward(
        dy.type.pk, b, n, c, gate.ld, dy.base, gate.base, h.base, dh.base, dGate, partial.base))
    return dh
  }
  /// x + γ ⊙ h with one γ `[C]` for all rows (LayerScale, Touvron et al. 2021), and its backward:
  /// dh, adding to dγ.
  public func layerScale(_ x: Tensor, _ gamma: Tensor, _ h: Tensor) -> Tensor {
    let rows = x.reshaped(Shape(1, x.shape.rows, x.shape.last))
    return gate(rows, Chunk(widened(gamma).reshaped(Shape(1, gamma.count)), 0, of: 1), h).reshaped(
      x.shape)
  }
  public func layerScaleBackward(
    _ dy: Tensor, _ gamma: Tensor, h: Tensor, addingTo dGamma: inout Tensor?
  ) -> Tensor {
    let rows = dy.reshaped(Shape(1, dy.shape.rows, dy.shape.last))
    return gateBackward(
      rows, Chunk(widened(gamma).reshaped(Shape(1, gamma.count)), 0, of: 1), h: h, index: 0, of: 1,
      addingTo: &dGamma
    ).reshaped(dy.shape)
  }
  func tokens(_ x: Tensor) -> (Int, Int, Int) {
    precondition(x.shape.rank == 3, "tokens are [B, N, C], not \(x.shape)")
    return (x.shape[0], x.shape[1], x.shape[2])
  }
}
