internal import CKernels

/// Softmax and attention: `pk_attention.h`, `pk_softmax.h`.
extension Workspace {
  /// Which keys a query may see.
  public struct Visibility: Sendable {
    /// Number of leading keys of each sample that are valid; empty: all.
    public var keyCounts: [Int32]
    /// With c > 0, key j is visible to query i iff j / c <= i / c (frames of c tokens).
    public var causalBlock: Int
    public init(keyCounts: [Int32] = [], causalBlock: Int = 0) {
      (self.keyCounts, self.causalBlock) = (keyCounts, causalBlock)
    }
    public static let all = Visibility()
  }
  /// Columns `offset ..< offset + heads * dim` of a `[B, N, width]` tensor.
  struct Columns {
    let tensor: Tensor, offset: Int
    var base: UnsafeMutableRawPointer { unsafe tensor.base + offset * tensor.type.byteCount }
    var ld: Int { tensor.shape[2] }
    var batchStride: Int { tensor.shape[1] * tensor.shape[2] }
  }

  /// o = softmax(scale q kᵀ) v per head. q `[B, Nq, D]`, k, v `[B, Nk, D]`; o `[B, Nq, D]`, lse
  /// `[B, heads, Nq]`.
  public func attention(
    q: Tensor, k: Tensor, v: Tensor, heads: Int, scale: Double, visible: Visibility = .all
  ) -> (o: Tensor, lse: Tensor) {
    precondition(
      q.shape[2] == k.shape[2] && k.shape == v.shape && q.shape[0] == k.shape[0],
      "attention: q \(q.shape), k \(k.shape), v \(v.shape)")
    return attend(
      Columns(tensor: q, offset: 0), Columns(tensor: k, offset: 0), Columns(tensor: v, offset: 0),
      width: q.shape[2], heads, scale, visible)
  }
  public func attentionBackward(
    _ dout: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, heads: Int,
    scale: Double, visible: Visibility = .all
  ) -> (dq: Tensor, dk: Tensor, dv: Tensor) {
    let dq = tensor(q.shape, q.type)
    let dk = tensor(k.shape, k.type)
    let dv = tensor(v.shape, v.type)
    func whole(_ t: Tensor) -> Columns { Columns(tensor: t, offset: 0) }
    attendBackward(
      dout, whole(q), whole(k), whole(v), o, lse, whole(dq), whole(dk), whole(dv),
      width: q.shape[2], heads, scale, visible)
    return (dq, dk, dv)
  }
  /// Self-attention from one fused projection qkv `[B, N, 3 D]` (columns q, k, v).
  public func attention(qkv: Tensor, heads: Int, scale: Double, visible: Visibility = .all) -> (
    o: Tensor, lse: Tensor
  ) {
    let d = qkv.shape[2] / 3
    return attend(
      Columns(tensor: qkv, offset: 0), Columns(tensor: qkv, offset: d),
      Columns(tensor: qkv, offset: 2 * d), width: d, heads, scale, visible)
  }
  public func attentionBackward(
    _ dout: Tensor, qkv: Tensor, o: Tensor, lse: Tensor, heads: Int, scale: Double,
    visible: Visibility = .all
  ) -> Tensor {
    let d = qkv.shape[2] / 3
    let out = tensor(qkv.shape, qkv.type)
    func part(_ t: Tensor, _ i: Int) -> Columns { Columns(tensor: t, offset: i * d) }
    attendBackward(
      dout, part(qkv, 0), part(qkv, 1), part(qkv, 2), o, lse, part(out, 0), part(out, 1),
      part(out, 2), width: d, heads, scale, visible)
    return out
  }

  private func attend(
    _ q: Columns, _ k: Columns, _ v: Columns, width: Int, _ heads: Int, _ scale: Double,
    _ visible: Visibility
  ) -> (o: Tensor, lse: Tensor) {
    let (b, n, type) = (q.tensor.shape[0], q.tensor.shape[1], q.tensor.type)
    let o = tensor(Shape(b, n, width), type)
    let lse = tensor(Shape(b, heads, n), type)
    unsafe withShape(q, k, v, width, heads, scale, visible) { s in
      let area = unsafe scratch(pk_attention_scratch(s, 0), type)
      countOperations(4 * b * n * k.tensor.shape[1] * width)
      unsafe check(
        pk_attention_forward(type.pk, s, q.base, k.base, v.base, o.base, lse.base, area.base),
        "attention")
    }
    return (o, lse)
  }
  private func attendBackward(
    _ dout: Tensor, _ q: Columns, _ k: Columns, _ v: Columns, _ o: Tensor, _ lse: Tensor,
    _ dq: Columns, _ dk: Columns, _ dv: Columns,
    width: Int, _ heads: Int, _ scale: Double, _ visible: Visibility
  ) {
    precondition(dout.shape == o.shape, "attention backward: dy \(dout.shape), o \(o.shape)")
    unsafe withShape(q, k, v, width, heads, scale, visible) { s in
      let area = unsafe scratch(pk_attention_scratch(s, 1), dout.type)
      countOperations(10 * dout.count * k.tensor.shape[1])
      unsafe check(
        pk_attention_backward(
          dout.type.pk, s, q.base, k.base, v.base, o.base, dout.base, lse.base, dq.base, dk.base,
          dv.base, area.base), "attention")
    }
  }
  private func withShape(
    _ q: Columns, _ k: Columns, _ v: Columns, _ width: Int, _ heads: Int, _ scale: Double,
    _ visible: Visibility, _ body: (UnsafePointer<pk_attention_shape>) -> Void
  ) {
    precondition(
      width % heads == 0
        && (visible.keyCounts.isEmpty || visible.keyCounts.count == q.tensor.shape[0]),
      "attention: \(heads) heads of \(width)")
    unsafe visible.keyCounts.withUnsafeBufferPointer { counts in
      var s = unsafe pk_attention_shape(
        batch: q.tensor.shape[0], heads: heads, queries: q.tensor.shape[1], keys: k.tensor.shape[1],
        head_dim: width / heads,
        ldq: q.ld, ldk: k.ld, ldv: v.ld, ldo: width, bq: q.batchStride, bk: k.batchStride,
        bv: v.batchStride, bo: q.tensor.shape[1] * width,
        scale: scale, causal_block: visible.causalBlock,
        key_counts: visible.keyCounts.isEmpty ? nil : counts.baseAddress)
      unsafe body(&s)
    }
  }

  /// softmax(scale x + bias) over the last axis; row r of x uses bias row (r / biasRepeat) % bias
  /// rows.
  public func softmax(_ x: Tensor, scale: Double = 1, bias: Tensor? = nil, biasRepeat: Int = 1)
    -> Tensor
  {
    let y = tensor(x.shape, x.type)
    precondition(
      bias == nil || bias!.shape.last == x.shape.last,
      "softmax: bias \(bias?.shape.description ?? "") for \(x.shape)")
    unsafe check(
      pk_softmax_forward(
        x.type.pk, x.shape.rows, x.shape.last, scale, x.base, bias?.base, bias?.shape.rows ?? 0,
        biasRepeat, y.base))
    return y
  }
  /// Gradient of the logits: y (dy - <dy, y>).
  public func softmaxBackward(_ dy: Tensor, y: Tensor) -> Tensor {
    let ds = tensor(y.shape, y.type)
    unsafe check(
      pk_softmax_backward(y.type.pk, y.shape.rows, y.shape.last, dy.base, y.base, ds.base))
    return ds
  }
}

/// Adds a transport prior to attention: `pk_prior.h`. Tensors `[B, heads, rows, M]`; `fused[b *
/// rows + i]` marks the rows that get it.
extension Workspace {
  public func priorFusion(attention: Tensor, prior: Tensor, fused: [UInt8], epsilon: Double)
    -> Tensor
  {
    precondition(
      prior.shape == attention.shape, "prior \(prior.shape) for attention \(attention.shape)")
    let y = tensor(attention.shape, attention.type)
    unsafe withPriorShape(attention, fused, epsilon) {
      unsafe check(pk_prior_fusion_forward(y.type.pk, $0, attention.base, prior.base, y.base))
    }
    return y
  }
  /// Gradient of the logits of `attention`, given that of the fused rows.
  public func priorFusionBackward(
    _ dy: Tensor, attention: Tensor, y: Tensor, fused: [UInt8], epsilon: Double
  ) -> Tensor {
    let ds = tensor(y.shape, y.type)
    unsafe withPriorShape(attention, fused, epsilon) {
      unsafe check(
        pk_prior_fusion_backward(y.type.pk, $0, attention.base, y.base, dy.base, ds.base))
    }
    return ds
  }
  private func withPriorShape(
    _ a: Tensor, _ fused: [UInt8], _ epsilon: Double,
    _ body: (UnsafePointer<pk_prior_shape>) -> Void
  ) {
    precondition(
      a.shape.rank == 4 && fused.count == a.shape[0] * a.shape[2],
      "\(fused.count) row marks for attention \(a.shape)")
    unsafe fused.withUnsafeBufferPointer {
      var s = unsafe pk_prior_shape(
        batch: a.shape[0], heads: a.shape[1], rows: a.shape[2], columns: a.shape[3], eps: epsilon,
        fused: $0.baseAddress)
      unsafe body(&s)
    }
  }
}
