public import Layers
public import TensorRuntime

/// The inputs of a transport prior, for one fusion layer and a batch of independent pairs.
public struct CrossAttentionView: Sendable {
  /// Index of the layer in the encoder.
  public let layer: Int
  /// Projected, before the split into heads: queries `[B, L, D]`, keys `[B, M, D]`.
  public let queries, keys: Tensor
  /// Softmax attention `[B, heads, L, M]`.
  public let attention: Tensor
  /// `[B, L]`: rows that get a plan.
  public let lexical: [UInt8]
}
/// A transport prior for fusion layers.
public struct AttentionPrior {
  /// Whether a layer gets a prior. The others use plain attention.
  public let acts: (_ layer: Int) -> Bool
  /// Row-normalised plans `[B, heads, L, M]`. Only lexical rows are read. They are constants for
  /// differentiation.
  public let plans: (CrossAttentionView, borrowing Workspace) -> Tensor
  public init(
    acts: @escaping (_ layer: Int) -> Bool = { _ in true },
    plans: @escaping (CrossAttentionView, borrowing Workspace) -> Tensor
  ) { (self.acts, self.plans) = (acts, plans) }
}

/// Cross-attention of text rows to visual tokens, with an optional prior fused into the lexical
/// rows (algorithm.md 2.3, 4.5, 4.6).
public struct CrossAttention: Layer {
  public var query, key, value: Linear
  let heads: Int
  /// ε_f of the fusion.
  static let clamp = 1e-6

  /// Keys and values `[B, M, D]` of visual tokens, which are the same for all captions of a video.
  public struct Vision: Sendable {
    let key, value: Linear.Saved
    let k, v: Tensor
  }
  public struct Saved: Sendable {
    let query: Linear.Saved, vision: Vision
    let q: Tensor
    let core: Core
  }
  enum Core: Sendable {
    case plain(o: Tensor, lse: Tensor)
    /// Head-major `[B·heads, ·, d]` operands, attention and fused attention `[B, heads, L, M]`.
    case fused(q: Tensor, k: Tensor, v: Tensor, attention: Tensor, y: Tensor, lexical: [UInt8])
  }

  init(_ name: String, _ c: TextEncoderConfig, from source: ParameterSource) throws {
    let d = c.hiddenSize
    query = try Linear("\(name).query", d, d, initial: .normal(deviation: 0.02), from: source)
    key = try Linear(
      "\(name).key", c.encoderWidth, d, initial: .normal(deviation: 0.02), from: source)
    value = try Linear(
      "\(name).value", c.encoderWidth, d, initial: .normal(deviation: 0.02), from: source)
    heads = c.numAttentionHeads
  }
  private var scale: Double { 1 / (Double(query.outputWidth) / Double(heads)).squareRoot() }

  /// Keys and values of visual tokens `[B, M, E]`.
  public func vision(_ x: Tensor, in work: borrowing Workspace) -> Vision {
    let (k, ks) = key.forward(x, in: work)
    let (v, vs) = value.forward(x, in: work)
    return Vision(key: ks, value: vs, k: k, v: v)
  }
  /// Output `[B, L, D]`, before the output projection. a `[B, L, D]`; x of the same B.
  public func forward(
    _ a: Tensor, _ x: Vision, layer: Int, lexical: [UInt8], prior: AttentionPrior?,
    in work: borrowing Workspace
  ) -> (y: Tensor, saved: Saved) {
    let (q, qs) = query.forward(a, in: work)
    let k = x.k
    let v = x.v
    guard let prior, prior.acts(layer) else {
      let (o, lse) = work.attention(q: q, k: k, v: v, heads: heads, scale: scale)
      return (o, Saved(query: qs, vision: x, q: q, core: .plain(o: o, lse: lse)))
    }
    let (b, l, m) = (a.shape[0], a.shape[1], k.shape[1])
    let (qh, kh, vh) = (split(q, in: work), split(k, in: work), split(v, in: work))
    let logits = work.batchedMatmul(qh, kh, transposeB: true, alpha: scale)
    let attention = work.softmax(logits).reshaped(Shape(b, heads, l, m))
    let plan = prior.plans(
      CrossAttentionView(layer: layer, queries: q, keys: k, attention: attention, lexical: lexical),
      work)
    let y = work.priorFusion(attention: attention, prior: plan, fused: lexical, epsilon: Self.clamp)
    let o = join(work.batchedMatmul(y.reshaped(logits.shape), vh), batch: b, in: work)
    return (
      o,
      Saved(
        query: qs, vision: x, q: q,
        core: .fused(q: qh, k: kh, v: vh, attention: attention, y: y, lexical: lexical))
    )
  }

  /// (da, dX).
  public mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> (
    da: Tensor, dx: Tensor
  ) {
    let dq: Tensor
    let dk: Tensor
    let dv: Tensor
    switch s.core {
    case .plain(let o, let lse):
      (dq, dk, dv) = work.attentionBackward(
        dy, q: s.q, k: s.vision.k, v: s.vision.v, o: o, lse: lse, heads: heads, scale: scale)
    case .fused(let qh, let kh, let vh, let attention, let y, let lexical):
      let b = s.q.shape[0]
      let flat = Shape(qh.shape[0], qh.shape[1], kh.shape[1])
      let dO = split(dy, in: work)
      let g = work.batchedMatmul(dO, vh, transposeB: true).reshaped(y.shape)
      let ds = work.priorFusionBackward(
        g, attention: attention, y: y, fused: lexical, epsilon: Self.clamp
      ).reshaped(flat)
      dv = join(work.batchedMatmul(y.reshaped(flat), dO, transposeA: true), batch: b, in: work)
      dq = join(work.batchedMatmul(ds, kh, alpha: scale), batch: b, in: work)
      dk = join(work.batchedMatmul(ds, qh, transposeA: true, alpha: scale), batch: b, in: work)
    }
    let da = query.backward(dq, s.query, in: work)
    var dx = key.backward(dk, s.vision.key, in: work)
    value.backward(dv, s.vision.value, addingTo: &dx, in: work)
    return (da, dx)
  }

  /// `[B, N, heads · d]` to `[B · heads, N, d]`.
  private func split(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    let s = x.shape
    return work.permuted(x.reshaped(Shape(s[0], s[1], heads, s[2] / heads)), [0, 2, 1, 3]).reshaped(
      Shape(s[0] * heads, s[1], s[2] / heads))
  }
  private func join(_ x: Tensor, batch b: Int, in work: borrowing Workspace) -> Tensor {
    let s = x.shape
    return work.permuted(x.reshaped(Shape(b, heads, s[1], s[2])), [0, 2, 1, 3]).reshaped(
      Shape(b, s[1], heads * s[2]))
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try query.forEachParameter(body)
    try key.forEachParameter(body)
    try value.forEachParameter(body)
  }
}
