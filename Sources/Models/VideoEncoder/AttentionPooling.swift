public import Layers
public import TensorRuntime

/// One query, the mean of all tokens (CLS included), attends to all tokens, after three norms
/// (algorithm.md 1.7). x `[B, M, D]` to `[B, clip_embed_dim]`.
public struct AttentionPooling: Layer {
  public var queryNorm, keyNorm, valueNorm: LayerNorm
  public var query, key, value, out: Linear
  let heads: Int

  public struct Saved: Sendable {
    let queryNorm, keyNorm, valueNorm: LayerNorm.Saved
    let query, key, value, out: Linear.Saved
    let q, k, v, o, lse: Tensor
  }

  init(_ name: String, _ c: VideoEncoderConfig, from source: ParameterSource) throws {
    let d = c.dModel
    let attention = "\(name).cross_attn"
    func norm(_ part: String) throws -> LayerNorm {
      try LayerNorm("\(name).norm1_\(part)", d, epsilon: 1e-5, from: source)
    }
    func linear(_ part: String) throws -> Linear {
      try Linear(
        "\(attention).\(part)", d, d, initial: .normal(deviation: 0.02),
        biasName: "\(attention).\(part)_bias", from: source)
    }
    (queryNorm, keyNorm, valueNorm) = (try norm("q"), try norm("k"), try norm("v"))
    (query, key, value) = (try linear("q"), try linear("k"), try linear("v"))
    out = try Linear("\(attention).proj", d, c.clipEmbedDim, from: source)
    heads = c.attnPoolNumHeads
  }
  private var attentionScale: Double {
    1 / (Double(query.outputWidth) / Double(heads)).squareRoot()
  }

  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    let (b, m) = (x.shape[0], x.shape[1])
    let mean = work.batchedMatmul(work.full(Shape(b, 1, m), 1 / Double(m), x.type), x)
    let (nq, nqSaved) = queryNorm.forward(mean, in: work)
    let (nk, nkSaved) = keyNorm.forward(x, in: work)
    let (nv, nvSaved) = valueNorm.forward(x, in: work)
    let (q, qSaved) = query.forward(nq, in: work)
    let (k, kSaved) = key.forward(nk, in: work)
    let (v, vSaved) = value.forward(nv, in: work)
    let (o, lse) = work.attention(q: q, k: k, v: v, heads: heads, scale: attentionScale)
    let (y, outSaved) = out.forward(o.reshaped(Shape(b, o.shape[2])), in: work)
    return (
      y,
      Saved(
        queryNorm: nqSaved, keyNorm: nkSaved, valueNorm: nvSaved, query: qSaved, key: kSaved,
        value: vSaved, out: outSaved, q: q, k: k, v: v, o: o, lse: lse)
    )
  }

  public mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    let dO = out.backward(dy, s.out, in: work).reshaped(s.o.shape)
    let (dq, dk, dv) = work.attentionBackward(
      dO, q: s.q, k: s.k, v: s.v, o: s.o, lse: s.lse, heads: heads, scale: attentionScale)
    let dxOfValues = valueNorm.backward(
      value.backward(dv, s.value, in: work), s.valueNorm, in: work)
    var dx = keyNorm.backward(
      key.backward(dk, s.key, in: work), s.keyNorm, adding: dxOfValues, in: work)
    let dMean = queryNorm.backward(query.backward(dq, s.query, in: work), s.queryNorm, in: work)
    let (b, m) = (dx.shape[0], dx.shape[1])
    work.add(work.batchedMatmul(work.full(Shape(b, m, 1), 1 / Double(m), dx.type), dMean), to: &dx)
    return dx
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try queryNorm.forEachParameter(body)
    try keyNorm.forEachParameter(body)
    try valueNorm.forEachParameter(body)
    try query.forEachParameter(body)
    try key.forEachParameter(body)
    try value.forEachParameter(body)
    try out.forEachParameter(body)
  }
}
