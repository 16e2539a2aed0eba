public import Layers
public import TensorRuntime

/// One post-norm BERT layer (Devlin et al. 2018), with cross-attention between self-attention and
/// feed-forward in the fusion layers (algorithm.md 2.2). Shapes `[B, L, D]`.
public struct TextLayer: Layer {
  public var query, key, value, out: Linear
  public var attentionNorm: LayerNorm
  public var cross: CrossAttention?
  public var crossOut: Linear?
  public var crossNorm: LayerNorm?
  public var feedForward: FeedForward
  public var outputNorm: LayerNorm
  let heads: Int, index: Int

  public struct Saved: Sendable {
    let query, key, value, out: Linear.Saved
    let q, k, v, o, lse: Tensor
    let visible: Workspace.Visibility
    let attentionNorm: LayerNorm.Saved
    let cross: CrossAttention.Saved?, crossOut: Linear.Saved?, crossNorm: LayerNorm.Saved?
    let feedForward: FeedForward.Saved, outputNorm: LayerNorm.Saved
  }

  init(_ name: String, index: Int, _ c: TextEncoderConfig, from source: ParameterSource) throws {
    let d = c.hiddenSize
    func linear(_ part: String, _ i: Int, _ o: Int) throws -> Linear {
      try Linear("\(name).\(part)", i, o, initial: .normal(deviation: 0.02), from: source)
    }
    func norm(_ part: String) throws -> LayerNorm {
      try LayerNorm("\(name).\(part).LayerNorm", d, epsilon: c.layerNormEps, from: source)
    }
    query = try linear("attention.self.query", d, d)
    key = try linear("attention.self.key", d, d)
    value = try linear("attention.self.value", d, d)
    out = try linear("attention.output.dense", d, d)
    attentionNorm = try norm("attention.output")
    if index >= c.fusionLayer {
      cross = try CrossAttention("\(name).crossattention.self", c, from: source)
      crossOut = try linear("crossattention.output.dense", d, d)
      crossNorm = try norm("crossattention.output")
    }
    feedForward = try FeedForward(
      "\(name).intermediate.dense", "\(name).output.dense", width: d, hidden: c.intermediateSize,
      activation: .geluErf, initial: .normal(deviation: 0.02), from: source)
    outputNorm = try norm("output")
    (heads, self.index) = (c.numAttentionHeads, index)
  }
  private var scale: Double { 1 / (Double(query.outputWidth) / Double(heads)).squareRoot() }

  /// `vision`, only for fusion layers: the keys and values of visual tokens `[B, M, E]` from
  /// `cross`.
  public func forward(
    _ h: Tensor, _ tokens: TokenBatch, vision: CrossAttention.Vision? = nil,
    prior: AttentionPrior? = nil, in work: borrowing Workspace
  ) -> (y: Tensor, saved: Saved) {
    let visible = Workspace.Visibility(keyCounts: tokens.counts)
    let (q, qs) = query.forward(h, in: work)
    let (k, ks) = key.forward(h, in: work)
    let (v, vs) = value.forward(h, in: work)
    let (o, lse) = work.attention(q: q, k: k, v: v, heads: heads, scale: scale, visible: visible)
    let (u1, os) = out.forward(o, in: work)
    var (a, ns) = attentionNorm.forward(work.sum(u1, h), in: work)
    var crossSaved: CrossAttention.Saved?
    var crossOutSaved: Linear.Saved?
    var crossNormSaved: LayerNorm.Saved?
    if let cross, let vision {
      let (c, cs) = cross.forward(
        a, vision, layer: index, lexical: tokens.lexical, prior: prior, in: work)
      let (u2, cos) = crossOut!.forward(c, in: work)
      let (a2, cns) = crossNorm!.forward(work.sum(u2, a), in: work)
      (a, crossSaved, crossOutSaved, crossNormSaved) = (a2, cs, cos, cns)
    }
    let (u3, fs) = feedForward.forward(a, in: work)
    let (y, ons) = outputNorm.forward(work.sum(u3, a), in: work)
    return (
      y,
      Saved(
        query: qs, key: ks, value: vs, out: os, q: q, k: k, v: v, o: o, lse: lse, visible: visible,
        attentionNorm: ns, cross: crossSaved, crossOut: crossOutSaved,
        crossNorm: crossNormSaved, feedForward: fs, outputNorm: ons)
    )
  }

  /// dh. Adds to the visual tokens' gradient `dVision` if it is present. With `wantsInput` false
  /// the backward of self-attention is skipped (first fusion layer, when nothing below is trained)
  /// and the result is nil.
  public mutating func backward(
    _ dy: Tensor, _ s: Saved, addingTo dVision: inout Tensor?, wantsInput: Bool = true,
    in work: borrowing Workspace
  ) -> Tensor? {
    let du3 = outputNorm.backward(dy, s.outputNorm, in: work)
    var da = feedForward.backward(du3, s.feedForward, in: work)
    work.add(du3, to: &da)
    if let cross = s.cross {
      let du2 = crossNorm!.backward(da, s.crossNorm!, in: work)
      let dc = crossOut!.backward(du2, s.crossOut!, in: work)
      let (dA, dX) = self.cross!.backward(dc, cross, in: work)
      work.add(dX, to: &dVision)
      da = work.sum(du2, dA)
    }
    if !wantsInput { return nil }
    let du1 = attentionNorm.backward(da, s.attentionNorm, in: work)
    let dO = out.backward(du1, s.out, in: work)
    let (dq, dk, dv) = work.attentionBackward(
      dO, q: s.q, k: s.k, v: s.v, o: s.o, lse: s.lse, heads: heads, scale: scale, visible: s.visible
    )
    var dh = query.backward(dq, s.query, in: work)
    key.backward(dk, s.key, addingTo: &dh, in: work)
    value.backward(dv, s.value, addingTo: &dh, in: work)
    work.add(du1, to: &dh)
    return dh
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try query.forEachParameter(body)
    try key.forEachParameter(body)
    try value.forEachParameter(body)
    try out.forEachParameter(body)
    try attentionNorm.forEachParameter(body)
    try cross.forEachParameter(body)
    try crossOut.forEachParameter(body)
    try crossNorm.forEachParameter(body)
    try feedForward.forEachParameter(body)
    try outputNorm.forEachParameter(body)
  }
}
