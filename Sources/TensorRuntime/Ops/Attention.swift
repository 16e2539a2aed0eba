internal import CKernels

/// Softmax and attention: `pk_attention.h`, `pk_softmax.h`.
extension Workspace {
  /// Which keys a query may see.
  public struct Visibility: Sendable {
    /// Number of leading keys of each sample that are valid; empty: all.
    public var keyCounts: [Int32]
    /// With c > 0, key j is visible to query i iff j / c <= i / q: frames of c keys, and of q
    /// queries.
    public var causalBlock, queryBlock: Int
    /// `queryBlock`: c if it is nil.
    public init(keyCounts: [Int32] = [], causalBlock: Int = 0, queryBlock: Int? = nil) {
      (self.keyCounts, self.causalBlock) = (keyCounts, causalBlock)
      self.queryBlock = queryBlock ?? causalBlock
    }
    public static let all = Visibility()
  }
  /// Columns `offset ..< offset + heads * dim` of a `[B, N, width]` tensor.
  struct Columns {
    let tensor: Tensor, offset: Int
    init(_ tensor: Tensor, from offset: Int = 0) { (self.tensor, self.offset) = (tensor, offset) }
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
      Attention(
        q: Columns(q), k: Columns(k), v: Columns(v), width: q.shape[2], heads: heads,
        scale: scale, visible: visible))
  }
  public func attentionBackward(
    _ dout: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, lse: Tensor, heads: Int,
    scale: Double, visible: Visibility = .all
  ) -> (dq: Tensor, dk: Tensor, dv: Tensor) {
    let (q, k, v, o) = (widened(q), widened(k), widened(v), widened(o))
    let dq = tensor(q.shape, q.type)
    let dk = tensor(k.shape, k.type)
    let dv = tensor(v.shape, v.type)
    attendBackward(
      dout,
      Attention(
        q: Columns(q), k: Columns(k), v: Columns(v), width: q.shape[2], heads: heads,
        scale: scale, visible: visible),
      o, lse, into: (Columns(dq), Columns(dk), Columns(dv)))
    return (dq, dk, dv)
  }
  /// Self-attention from one fused projection qkv `[B, N, 3 D]` (columns q, k, v).
  public func attention(qkv: Tensor, heads: Int, scale: Double, visible: Visibility = .all) -> (
    o: Tensor, lse: Tensor
  ) {
    attend(Attention(qkv: qkv, heads: heads, scale: scale, visible: visible))
  }
  public func attentionBackward(
    _ dout: Tensor, qkv: Tensor, o: Tensor, lse: Tensor, heads: Int, scale: Double,
    visible: Visibility = .all
  ) -> Tensor {
    let d = qkv.shape[2] / 3
    let out = tensor(qkv.shape, qkv.type)
    attendBackward(
      dout, Attention(qkv: qkv, heads: heads, scale: scale, visible: visible), o, lse,
      into: (Columns(out), Columns(out, from: d), Columns(out, from: 2 * d)))
    return out
  }

  /// The operands of attention and how they are compared.
  private struct Attention {
    let q, k, v: Columns
    let width, heads: Int, scale: Double, visible: Visibility
    init(
      q: Columns, k: Columns, v: Columns, width: Int, heads: Int, scale: Double,
      visible: Visibility
    ) {
      (self.q, self.k, self.v, self.width, self.heads) = (q, k, v, width, heads)
      (self.scale, self.visible) = (scale, visible)
    }
    init(qkv: Tensor, heads: Int, scale: Double, visible: Visibility) {
      let d = qkv.shape[2] / 3
      self.init(
        q: Columns(qkv), k: Columns(qkv, from: d), v: Columns(qkv, from: 2 * d), width: d,
        heads: heads, scale: scale, visible: visible)
    }
  }
  private func attend(_ a: Attention) -> (o: Tensor, lse: Tensor) {
    let (b, n, type) = (a.q.tensor.shape[0], a.q.tensor.shape[1], a.q.tensor.type)
    let o = tensor(Shape(b, n, a.width), type)
    let lse = tensor(Shape(b, a.heads, n), type)
    unsafe withShape(a) { s in
      let area = unsafe scratch(pk_attention_scratch(s, 0), type)
      countOperations(4 * b * n * a.k.tensor.shape[1] * a.width, .attention)
      unsafe check(
        pk_attention_forward(
          type.pk, s, a.q.base, a.k.base, a.v.base, o.base, lse.base, area.base),
        "attention")
    }
    return (o, lse)
  }
  private func attendBackward(
    _ dout: Tensor, _ a: Attention, _ o: Tensor, _ lse: Tensor,
    into d: (q: Columns, k: Columns, v: Columns)
  ) {
    precondition(dout.shape == o.shape, "attention backward: dy \(dout.shape), o \(o.shape)")
    unsafe withShape(a) { s in
      let area = unsafe scratch(pk_attention_scratch(s, 1), dout.type)
      countOperations(10 * dout.count * a.k.tensor.shape[1], .attention)
      unsafe check(
        pk_attention_backward(
          dout.type.pk, s, a.q.base, a.k.base, a.v.base, o.base, dout.base, lse.base, d.q.base,
          d.k.base, d.v.base, area.base), "attention")
    }
  }
  private func withShape(_ a: Attention, _ body: (UnsafePointer<pk_attention_shape>) -> Void) {
    let (q, k, v, counts) = (a.q, a.k, a.v, a.visible.keyCounts)
    precondition(
      a.width % a.heads == 0 && (counts.isEmpty || counts.count == q.tensor.shape[0]),
      "attention: \(a.heads) heads of \(a.width)")
    unsafe counts.withUnsafeBufferPointer { counts in
      var s = unsafe pk_attention_shape(
        batch: q.tensor.shape[0], heads: a.heads, queries: q.tensor.shape[1],
        keys: k.tensor.shape[1], head_dim: a.width / a.heads,
        ldq: q.ld, ldk: k.ld, ldv: v.ld, ldo: a.width, bq: q.batchStride, bk: k.batchStride,
        bv: v.batchStride, bo: q.tensor.shape[1] * a.width,
        scale: a.scale, causal_block: a.visible.causalBlock,
        query_block: a.visible.queryBlock,
        key_counts: counts.isEmpty ? nil : counts.baseAddress)
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
