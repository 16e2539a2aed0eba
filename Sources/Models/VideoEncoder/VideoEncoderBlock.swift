public import Layers
public import TensorRuntime

/// x + γ₁ ⊙ Attention(RMS(x)), then x + γ₂ ⊙ MLP(RMS(x)) (algorithm.md 1.6). Shapes `[B, M, D]`.
public struct VideoEncoderBlock: Layer {
  public var norm1: RMSNorm
  public var qkv: Linear  // no bias; rows q, k, v
  public var queryNorm, keyNorm: RMSNorm  // over all channels jointly
  public var out: Linear
  public var scale1: Parameter
  public var norm2: RMSNorm
  public var mlp: FeedForward
  public var scale2: Parameter
  let heads: Int

  public struct Saved: SavedTensors {
    var joint: JointAttention.Saved
    var strips: [StripSaved]
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      joint.forEachTensor(body)
      strips.forEachTensor(body)
    }
  }
  struct StripSaved: SavedTensors {
    var attention: AttentionSaved, out: Linear.Saved, attended: Tensor
    var norm2: RMSNorm.Saved, mlp: FeedForward.Saved, fed: Tensor
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      attention.forEachTensor(body)
      out.forEachTensor(body)
      attended.forEachTensor(body)
      norm2.forEachTensor(body)
      mlp.forEachTensor(body)
      fed.forEachTensor(body)
    }
  }
  struct AttentionSaved: SavedTensors {
    var norm1: RMSNorm.Saved, qkv: Linear.Saved, queryNorm, keyNorm: RMSNorm.Saved
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      norm1.forEachTensor(body)
      qkv.forEachTensor(body)
      queryNorm.forEachTensor(body)
      keyNorm.forEachTensor(body)
    }
  }

  init(_ name: String, _ c: VideoEncoderConfig, from source: ParameterSource) throws {
    let d = c.dModel
    norm1 = try RMSNorm("\(name).norm1", d, epsilon: 1e-6, from: source)
    qkv = try Linear("\(name).attn.qkv", d, 3 * d, bias: false, from: source)
    queryNorm = try RMSNorm("\(name).attn.q_norm", d, epsilon: 1e-6, from: source)
    keyNorm = try RMSNorm("\(name).attn.k_norm", d, epsilon: 1e-6, from: source)
    out = try Linear("\(name).attn.proj", d, d, from: source)
    scale1 = try source("\(name).ls1.gamma", Shape(d), .constant(c.initValues))
    norm2 = try RMSNorm("\(name).norm2", d, epsilon: 1e-6, from: source)
    mlp = try FeedForward(
      "\(name).mlp.fc1", "\(name).mlp.fc2", width: d, hidden: c.hidden,
      activation: c.mlpGelu == .erf ? .geluErf : .geluTanh, from: source)
    scale2 = try source("\(name).ls2.gamma", Shape(d), .constant(c.initValues))
    heads = c.numHeads
  }
  private func attention(_ width: Int) -> JointAttention {
    JointAttention(heads: heads, width: width)
  }

  func forward(_ x: [Tensor], _ rows: SequenceRows, in work: borrowing Workspace) -> (
    y: [Tensor], saved: Saved
  ) {
    let (o, joint, attention) = attend(x, rows, in: work)
    var saved: [StripSaved] = []
    let y = x.indices.map { i in
      let (attended, outSaved) = out.forward(work.rows(o, rows.range(i)), in: work)
      let middle = work.layerScale(x[i], scale1.value, attended)
      let (w, norm2Saved) = norm2.forward(middle, in: work)
      let (fed, mlpSaved) = mlp.forward(w, in: work)
      saved.append(
        StripSaved(
          attention: attention[i], out: outSaved, attended: attended, norm2: norm2Saved,
          mlp: mlpSaved, fed: fed))
      return work.layerScale(middle, scale2.value, fed)
    }
    return (y, Saved(joint: joint, strips: saved))
  }
  /// Only y. What backward would read is not kept.
  func callAsFunction(_ x: [Tensor], _ rows: SequenceRows, in work: borrowing Workspace)
    -> [Tensor]
  {
    let o = attend(x, rows, in: work).o
    return x.indices.map { i in
      let attended = out(work.rows(o, rows.range(i)), in: work)
      let middle = work.layerScale(x[i], scale1.value, attended)
      return work.layerScale(middle, scale2.value, mlp(norm2.forward(middle, in: work).y, in: work))
    }
  }
  /// The same of a whole sequence x `[B, M, D]`.
  public func callAsFunction(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    self([x], SequenceRows(x.shape[1], .whole), in: work)[0]
  }
  /// The result of attention for the rows of this process.
  private func attend(_ x: [Tensor], _ rows: SequenceRows, in work: borrowing Workspace) -> (
    o: Tensor, joint: JointAttention.Saved, saved: [AttentionSaved]
  ) {
    let d = x[0].shape[2]
    var (q, k, v): ([Tensor], [Tensor], [Tensor]) = ([], [], [])
    let saved = x.map { x in
      let (u, norm1Saved) = norm1.forward(x, in: work)
      let (fused, qkvSaved) = qkv.forward(u, in: work)
      q.append(work.tensor(x.shape, x.type))
      k.append(work.tensor(x.shape, x.type))
      let qSaved = queryNorm.forwardHeads(fused, into: &q[q.count - 1], in: work)
      let kSaved = keyNorm.forwardHeads(fused, column: d, into: &k[k.count - 1], in: work)
      v.append(work.narrowed(fused, axis: 2, 2 * d..<3 * d))
      return AttentionSaved(
        norm1: norm1Saved, qkv: qkvSaved, queryNorm: qSaved, keyNorm: kSaved)
    }
    let (o, joint) = attention(d).forward(
      .init(q: work.joined(q), k: work.joined(k), v: work.joined(v)), rows, in: work)
    return (o, joint, saved)
  }

  mutating func backward(
    _ dy: [Tensor], _ s: Saved, _ rows: SequenceRows, in work: borrowing Workspace
  ) -> [Tensor] {
    let d = dy[0].shape[2]
    var dMiddle: [Tensor] = []
    let dO = zip(dy, s.strips).map { dy, s in
      let dFed = work.layerScaleBackward(dy, scale2.value, h: s.fed, addingTo: &scale2.gradient)
      dMiddle.append(
        norm2.backward(mlp.backward(dFed, s.mlp, in: work), s.norm2, adding: dy, in: work))
      let dAttended = work.layerScaleBackward(
        dMiddle.last!, scale1.value, h: s.attended, addingTo: &scale1.gradient)
      return out.backward(dAttended, s.out, in: work)
    }
    let joint = attention(d).backward(work.joined(dO), s.joint, rows, in: work)
    return s.strips.indices.map { i in
      let (a, range) = (s.strips[i].attention, rows.range(i))
      var dFused = work.tensor(a.queryNorm.shape, dy[i].type)
      queryNorm.backwardHeads(
        work.rows(joint.q, range), a.queryNorm, into: &dFused, in: work)
      keyNorm.backwardHeads(
        work.rows(joint.k, range), a.keyNorm, column: d, into: &dFused, in: work)
      work.place(work.rows(joint.v, range), into: &dFused, axis: 2, at: 2 * d)
      return norm1.backward(
        qkv.backward(dFused, a.qkv, in: work), a.norm1, adding: dMiddle[i], in: work)
    }
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try norm1.forEachParameter(body)
    try qkv.forEachParameter(body)
    try queryNorm.forEachParameter(body)
    try keyNorm.forEachParameter(body)
    try out.forEachParameter(body)
    try body(&scale1)
    try norm2.forEachParameter(body)
    try mlp.forEachParameter(body)
    try body(&scale2)
  }
}
