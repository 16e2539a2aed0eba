import Layers
import TensorRuntime

/// Multi-head attention with separate projections: queries of x, keys and values of x or of a
/// context; q, k, v have no bias (videocrafter.md 2.7).
struct UNetAttention: Layer {
  var query, key, value, out: Linear
  let heads: Int

  /// All but x.
  struct Saved: SavedTensors {
    var query, key, value, out: Linear.Saved
    var q, k, v, o: Tensor
    let lse: Tensor
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      query.forEachTensor(body)
      key.forEachTensor(body)
      value.forEachTensor(body)
      out.forEachTensor(body)
      q.forEachTensor(body)
      k.forEachTensor(body)
      v.forEachTensor(body)
      o.forEachTensor(body)
    }
  }

  init(
    _ name: String, width: Int, context: Int? = nil, heads: Int, from source: ParameterSource
  ) throws {
    func linear(_ part: String, _ input: Int) throws -> Linear {
      try Linear("\(name).\(part)", input, width, bias: false, from: source)
    }
    query = try linear("to_q", width)
    key = try linear("to_k", context ?? width)
    value = try linear("to_v", context ?? width)
    out = try Linear("\(name).to_out.0", width, width, from: source)
    self.heads = heads
  }
  private var scale: Double { 1 / (Double(query.outputWidth) / Double(heads)).squareRoot() }

  /// x `[G, N, C]`; context `[G, L, width]`, x itself when nil.
  func forward(_ x: Tensor, context: Tensor? = nil, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let source = context ?? x
    let (q, qs) = query.forward(x, in: work)
    let (k, ks) = key.forward(source, in: work)
    let (v, vs) = value.forward(source, in: work)
    let (o, lse) = work.attention(q: q, k: k, v: v, heads: heads, scale: scale)
    let (y, os) = out.forward(o, in: work)
    let isOwn = context == nil
    return (
      y,
      Saved(
        query: qs.withoutInput, key: isOwn ? ks.withoutInput : ks,
        value: isOwn ? vs.withoutInput : vs, out: os, q: q, k: k, v: v, o: o, lse: lse)
    )
  }
  /// The result alone.
  func callAsFunction(_ x: Tensor, context: Tensor? = nil, in work: borrowing Workspace) -> Tensor {
    let source = context ?? x
    return out(
      work.attention(
        q: query(x, in: work), k: key(source, in: work), v: value(source, in: work), heads: heads,
        scale: scale
      ).o, in: work)
  }
  /// Returns the gradient of x; that of a context is added to `dContext` if it is wanted.
  mutating func backward(
    _ dy: Tensor, _ s: Saved, of x: Tensor, hasContext: Bool = false,
    addingTo dContext: inout Tensor?,
    in work: borrowing Workspace
  ) -> Tensor {
    let dO = out.backward(dy, s.out, in: work)
    let (dq, dk, dv) = work.attentionBackward(
      dO, q: s.q, k: s.k, v: s.v, o: s.o, lse: s.lse, heads: heads, scale: scale)
    var dx = query.backward(dq, query.saved(s.query) { x }, in: work)
    if !hasContext {
      key.backward(dk, key.saved(s.key) { x }, addingTo: &dx, in: work)
      value.backward(dv, value.saved(s.value) { x }, addingTo: &dx, in: work)
    } else if dContext != nil {
      key.backward(dk, s.key, addingTo: &dContext!, in: work)
      value.backward(dv, s.value, addingTo: &dContext!, in: work)
    } else {
      key.backwardParameters(dk, s.key, in: work)
      value.backwardParameters(dv, s.value, in: work)
    }
    return dx
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try query.forEachParameter(body)
    try key.forEachParameter(body)
    try value.forEachParameter(body)
    try out.forEachParameter(body)
  }
  mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows {
    try query.asAdaptable(body)
    try key.asAdaptable(body)
    try value.asAdaptable(body)
    try out.asAdaptable(body)
  }
}
