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

  public struct Saved: Sendable {
    let attention: AttentionSaved
    let norm2: RMSNorm.Saved, mlp: FeedForward.Saved, fed: Tensor
  }
  struct AttentionSaved: Sendable {
    let norm1: RMSNorm.Saved, qkv: Linear.Saved, queryNorm, keyNorm: RMSNorm.Saved
    let q, k, v, o, lse: Tensor
    let out: Linear.Saved, attended: Tensor
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
  private var attentionScale: Double { 1 / (Double(out.inputWidth) / Double(heads)).squareRoot() }

  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    let (middle, attention) = attend(x, in: work)
    let (w, norm2Saved) = norm2.forward(middle, in: work)
    let (fed, mlpSaved) = mlp.forward(w, in: work)
    return (
      work.layerScale(middle, scale2.value, fed),
      Saved(attention: attention, norm2: norm2Saved, mlp: mlpSaved, fed: fed)
    )
  }
  /// Only y. What backward would read is not kept.
  public func callAsFunction(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    let middle = attend(x, in: work).middle
    return work.layerScale(middle, scale2.value, mlp(norm2.forward(middle, in: work).y, in: work))
  }
  private func attend(_ x: Tensor, in work: borrowing Workspace) -> (
    middle: Tensor, saved: AttentionSaved
  ) {
    let d = x.shape[2]
    let (u, norm1Saved) = norm1.forward(x, in: work)
    let (fused, qkvSaved) = qkv.forward(u, in: work)
    var q = work.tensor(x.shape, x.type)
    var k = work.tensor(x.shape, x.type)
    let qSaved = queryNorm.forwardHeads(fused, into: &q, in: work)
    let kSaved = keyNorm.forwardHeads(fused, column: d, into: &k, in: work)
    let v = work.narrowed(fused, axis: 2, 2 * d..<3 * d)
    let (o, lse) = work.attention(q: q, k: k, v: v, heads: heads, scale: attentionScale)
    let (attended, outSaved) = out.forward(o, in: work)
    let middle = work.layerScale(x, scale1.value, attended)
    return (
      middle,
      AttentionSaved(
        norm1: norm1Saved, qkv: qkvSaved, queryNorm: qSaved, keyNorm: kSaved, q: q, k: k, v: v,
        o: o, lse: lse, out: outSaved, attended: attended)
    )
  }

  public mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    let dFed = work.layerScaleBackward(dy, scale2.value, h: s.fed, addingTo: &scale2.gradient)
    let dMiddle = norm2.backward(mlp.backward(dFed, s.mlp, in: work), s.norm2, adding: dy, in: work)
    let a = s.attention
    let dAttended = work.layerScaleBackward(
      dMiddle, scale1.value, h: a.attended, addingTo: &scale1.gradient)
    let dO = out.backward(dAttended, a.out, in: work)
    let (dq, dk, dv) = work.attentionBackward(
      dO, q: a.q, k: a.k, v: a.v, o: a.o, lse: a.lse, heads: heads, scale: attentionScale)
    let d = dy.shape[2]
    var dFused = work.tensor(a.queryNorm.shape, dy.type)
    queryNorm.backwardHeads(dq, a.queryNorm, into: &dFused, in: work)
    keyNorm.backwardHeads(dk, a.keyNorm, column: d, into: &dFused, in: work)
    work.place(dv, into: &dFused, axis: 2, at: 2 * d)
    return norm1.backward(qkv.backward(dFused, a.qkv, in: work), a.norm1, adding: dMiddle, in: work)
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
