import Layers
import TensorRuntime

/// q, k, v of one stream with RMS norm per head on q and k, and rotary positions on image rows.
struct StreamProjection: Layer {
  var query, key, value: Linear
  var queryNorm, keyNorm: RMSNorm
  let heads: Int

  struct Saved: Sendable {
    let query, key, value: Linear.Saved
    let queryNorm, keyNorm: RMSNorm.Saved
  }
  struct Projected { let q, k, v: Tensor }

  /// `names`: checkpoint names of q, k, v and of the two norms.
  init(_ name: String, _ names: [String], _ c: TransformerConfig, from source: ParameterSource) throws {
    let d = c.width
    query = try Linear("\(name).\(names[0])", d, d, from: source)
    key = try Linear("\(name).\(names[1])", d, d, from: source)
    value = try Linear("\(name).\(names[2])", d, d, from: source)
    queryNorm = try RMSNorm("\(name).\(names[3])", c.attentionHeadDim, epsilon: 1e-6, from: source)
    keyNorm = try RMSNorm("\(name).\(names[4])", c.attentionHeadDim, epsilon: 1e-6, from: source)
    heads = c.numAttentionHeads
  }
  /// Rotary positions turn the first rows of each sample, as many as the table has; nil turns none.
  func forward(_ u: Tensor, rotary: RotaryTable?, in work: borrowing Workspace) -> (y: Projected, saved: Saved) {
    let (q0, qs) = query.forward(u, in: work)
    let (k0, ks) = key.forward(u, in: work)
    let (v, vs) = value.forward(u, in: work)
    var (q, qn) = queryNorm.forwardHeads(q0, in: work)
    var (k, kn) = keyNorm.forwardHeads(k0, in: work)
    if let rotary {
      work.rotate(&q, heads: heads, cosines: rotary.cosines, sines: rotary.sines)
      work.rotate(&k, heads: heads, cosines: rotary.cosines, sines: rotary.sines)
    }
    return (Projected(q: q, k: k, v: v), Saved(query: qs, key: ks, value: vs, queryNorm: qn, keyNorm: kn))
  }
  /// Adds the gradient of u. Consumes dq, dk, dv.
  mutating func backward(_ dq: consuming Tensor, _ dk: consuming Tensor, _ dv: Tensor, _ s: Saved, rotary: RotaryTable?, addingTo du: inout Tensor, in work: borrowing Workspace) {
    turnBack(&dq, &dk, rotary, in: work)
    query.backward(queryNorm.backwardHeads(dq, s.queryNorm, in: work), s.query, addingTo: &du, in: work)
    key.backward(keyNorm.backwardHeads(dk, s.keyNorm, in: work), s.key, addingTo: &du, in: work)
    value.backward(dv, s.value, addingTo: &du, in: work)
  }
  /// Gradient of u. Consumes dq, dk, dv.
  mutating func backward(_ dq: consuming Tensor, _ dk: consuming Tensor, _ dv: Tensor, _ s: Saved, rotary: RotaryTable?, in work: borrowing Workspace) -> Tensor {
    turnBack(&dq, &dk, rotary, in: work)
    var du = query.backward(queryNorm.backwardHeads(dq, s.queryNorm, in: work), s.query, in: work)
    key.backward(keyNorm.backwardHeads(dk, s.keyNorm, in: work), s.key, addingTo: &du, in: work)
    value.backward(dv, s.value, addingTo: &du, in: work)
    return du
  }
  private func turnBack(_ dq: inout Tensor, _ dk: inout Tensor, _ rotary: RotaryTable?, in work: borrowing Workspace) {
    if let rotary {
      work.rotate(&dq, heads: heads, cosines: rotary.cosines, sines: rotary.sines, inverse: true)
      work.rotate(&dk, heads: heads, cosines: rotary.cosines, sines: rotary.sines, inverse: true)
    }
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try query.forEachParameter(body)
    try key.forEachParameter(body)
    try value.forEachParameter(body)
    try queryNorm.forEachParameter(body)
    try keyNorm.forEachParameter(body)
  }
}
