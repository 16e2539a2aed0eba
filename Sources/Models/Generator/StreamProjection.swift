import Layers
import TensorRuntime

/// q, k, v of one stream, with RMS norm of q and k for each head, and rotary positions on image
/// rows.
struct StreamProjection: Layer {
  var query, key, value: Linear
  var queryNorm, keyNorm: RMSNorm
  let heads: Int

  struct Saved: SavedTensors {
    var query, key, value: Linear.Saved
    var queryNorm, keyNorm: RMSNorm.Saved
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      query.forEachTensor(body)
      key.forEachTensor(body)
      value.forEachTensor(body)
      queryNorm.forEachTensor(body)
      keyNorm.forEachTensor(body)
    }
  }
  /// Queries, keys and values of attention, or their gradients, `[B, M, D]`.
  struct Projected: SavedTensors {
    var q, k, v: Tensor
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      body(&q)
      body(&k)
      body(&v)
    }
    init(q: Tensor, k: Tensor, v: Tensor) { (self.q, self.k, self.v) = (q, k, v) }
    /// v gets its memory with its first rows.
    init(_ shape: Shape, _ type: ElementType, in work: borrowing Workspace) {
      (q, k) = (work.tensor(shape, type), work.tensor(shape, type))
      v = work.tensor(Shape(0), type)
    }
  }

  /// `names`: checkpoint names of q, k, v and of the two norms.
  init(_ name: String, _ names: [String], _ c: TransformerConfig, from source: ParameterSource)
    throws
  {
    let d = c.width
    query = try Linear("\(name).\(names[0])", d, d, from: source)
    key = try Linear("\(name).\(names[1])", d, d, from: source)
    value = try Linear("\(name).\(names[2])", d, d, from: source)
    queryNorm = try RMSNorm("\(name).\(names[3])", c.attentionHeadDim, epsilon: 1e-6, from: source)
    keyNorm = try RMSNorm("\(name).\(names[4])", c.attentionHeadDim, epsilon: 1e-6, from: source)
    heads = c.numAttentionHeads
  }
  /// Writes queries, keys and values to rows `row...` of `joint`. The first rows of each sample, as
  /// many as the table has, are rotated by their positions; nil rotates none.
  func forward(
    _ u: Tensor, rotary: RotaryTable?, into joint: inout Projected, row: Int,
    in work: borrowing Workspace
  ) -> Saved {
    let (q0, qs) = query.forward(u, in: work)
    let (k0, ks) = key.forward(u, in: work)
    let (v, vs) = value.forward(u, in: work)
    let qn = queryNorm.forwardHeads(
      q0, heads: heads, rotation: rotary?.angles, into: &joint.q, row: row, in: work)
    let kn = keyNorm.forwardHeads(
      k0, heads: heads, rotation: rotary?.angles, into: &joint.k, row: row, in: work)
    if v.shape == joint.q.shape {
      joint.v = v
    } else {
      if joint.v.count == 0 { joint.v = work.tensor(joint.q.shape, v.type) }
      work.place(v, into: &joint.v, axis: 1, at: row)
    }
    return Saved(query: qs, key: ks, value: vs, queryNorm: qn, keyNorm: kn)
  }
  /// Adds to the gradient of u, from rows `row...` of the gradients of q, k, v.
  mutating func backward(
    _ joint: Projected, row: Int, _ s: Saved, rotary: RotaryTable?,
    addingTo du: inout Tensor, in work: borrowing Workspace
  ) {
    let dq = queryBackward(joint.q, row, s, rotary, in: work)
    query.backward(dq, s.query, addingTo: &du, in: work)
    keyAndValueBackward(joint, row: row, s, rotary, addingTo: &du, in: work)
  }
  /// Gradient of u.
  mutating func backward(
    _ joint: Projected, row: Int, _ s: Saved, rotary: RotaryTable?, in work: borrowing Workspace
  ) -> Tensor {
    var du = query.backward(queryBackward(joint.q, row, s, rotary, in: work), s.query, in: work)
    keyAndValueBackward(joint, row: row, s, rotary, addingTo: &du, in: work)
    return du
  }
  private mutating func keyAndValueBackward(
    _ joint: Projected, row: Int, _ s: Saved, _ rotary: RotaryTable?, addingTo du: inout Tensor,
    in work: borrowing Workspace
  ) {
    let dk = keyBackward(joint.k, row, s, rotary, in: work)
    key.backward(dk, s.key, addingTo: &du, in: work)
    let dv = work.rows(joint.v, row..<row + dk.shape[1])
    value.backward(dv, s.value, addingTo: &du, in: work)
  }
  private mutating func queryBackward(
    _ dq: Tensor, _ row: Int, _ s: Saved, _ rotary: RotaryTable?, in work: borrowing Workspace
  ) -> Tensor {
    var dx = work.tensor(s.queryNorm.shape, dq.type)
    queryNorm.backwardHeads(
      dq, row: row, s.queryNorm, heads: heads, rotation: rotary?.angles, into: &dx, in: work)
    return dx
  }
  private mutating func keyBackward(
    _ dk: Tensor, _ row: Int, _ s: Saved, _ rotary: RotaryTable?, in work: borrowing Workspace
  ) -> Tensor {
    var dx = work.tensor(s.keyNorm.shape, dk.type)
    keyNorm.backwardHeads(
      dk, row: row, s.keyNorm, heads: heads, rotation: rotary?.angles, into: &dx, in: work)
    return dx
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try query.forEachParameter(body)
    try key.forEachParameter(body)
    try value.forEachParameter(body)
    try queryNorm.forEachParameter(body)
    try keyNorm.forEachParameter(body)
  }
}
