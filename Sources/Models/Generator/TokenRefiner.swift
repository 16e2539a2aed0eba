public import Layers
import TensorRuntime

/// Projects text states to the transformer's width and refines them by gated self-attention blocks
/// (algorithm.md 6.5).
public struct TokenRefiner: Layer {
  public var projIn: Linear
  public var time, text: FeedForward  // MLP_t, MLP_c
  var blocks: [RefinerBlock]

  public struct Saved: Sendable {
    let projIn: Linear.Saved, time, text: FeedForward.Saved
    let vector: Tensor, blocks: [RefinerBlock.Saved]
    let counts: [Int32], weights: Tensor
  }

  init(_ name: String, _ c: TransformerConfig, from source: ParameterSource) throws {
    let embed = "\(name).time_text_embed"
    time = try .conditioning("\(embed).timestep_embedder", input: 256, width: c.width, from: source)
    text = try .conditioning(
      "\(embed).text_embedder", input: c.textEmbedDim, width: c.width, from: source)
    projIn = try Linear("\(name).proj_in", c.textEmbedDim, c.width, from: source)
    blocks = try (0..<c.numRefinerLayers).map {
      try RefinerBlock("\(name).token_refiner.refiner_blocks.\($0)", c, from: source)
    }
  }

  /// x `[B, L, textDim]` with `counts` valid tokens; y `[B, L, D]`. A caption without valid tokens
  /// attends to its first token and has a mean of zero (D-33). For it, pass a count of 1 for
  /// attention and zero weights for the mean.
  func forward(_ x: Tensor, counts: [Int32], times: [Float], in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let (b, l) = (x.shape[0], x.shape[1])
    let weights = Self.meanWeights(counts, l, x.type)
    let mean = work.batchedMatmul(weights, x).reshaped(Shape(b, x.shape[2]))
    var (c, ts) = time.forward(SinusoidalEmbedding.embed(times, width: 256, type: x.type), in: work)
    let (t, cs) = text.forward(mean, in: work)
    work.add(t, to: &c)
    let active = work.activation(.silu, c)
    let seen = counts.map { max($0, 1) }
    var (h, ps) = projIn.forward(x, in: work)
    var saved: [RefinerBlock.Saved] = []
    for block in blocks {
      let (y, s) = block.forward(h, active, counts: seen, in: work)
      saved.append(s)
      h = y
    }
    return (
      h,
      Saved(
        projIn: ps, time: ts, text: cs, vector: c, blocks: saved, counts: seen, weights: weights)
    )
  }
  /// Gradient of the text states.
  mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    var dh = dy
    var dActive: Tensor? = work.zeros(s.vector.shape, dy.type)
    for i in blocks.indices.reversed() {
      dh = blocks[i].backward(dh, s.blocks[i], counts: s.counts, addingTo: &dActive, in: work)
    }
    let dVector = work.activationBackward(.silu, dActive!, x: s.vector)
    _ = time.backward(dVector, s.time, in: work)
    let dMean = text.backward(dVector, s.text, in: work)
    var dx = projIn.backward(dh, s.projIn, in: work)
    work.add(
      work.batchedMatmul(
        s.weights, dMean.reshaped(Shape(dMean.shape[0], 1, dMean.shape[1])), transposeA: true),
      to: &dx)
    return dx
  }
  /// Weights of the mean, `[B, 1, L]`: 1/count for valid tokens.
  private static func meanWeights(_ counts: [Int32], _ l: Int, _ type: ElementType) -> Tensor {
    let w = counts.flatMap { n in (0..<l).map { $0 < Int(n) ? 1 / Double(n) : 0 } }
    return Tensor(w, Shape(counts.count, 1, l), as: type)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try time.forEachParameter(body)
    try text.forEachParameter(body)
    try projIn.forEachParameter(body)
    try blocks.forEachParameter(body)
  }
}

/// x + g₁ ⊙ Attention(LN(x)), then x + g₂ ⊙ MLP(LN(x)) with SiLU. The gates come from the refiner's
/// own conditioning vector.
struct RefinerBlock: Layer {
  var norm1: LayerNorm
  var query, key, value, out: Linear
  var norm2: LayerNorm
  var feedForward: FeedForward
  var gates: Modulation
  let heads: Int

  struct Saved: Sendable {
    let norm1: LayerNorm.Saved, query, key, value, out: Linear.Saved
    let q, k, v, o, lse, attended: Tensor
    let norm2: LayerNorm.Saved, feedForward: FeedForward.Saved, fed: Tensor
    let gates: Modulation.Saved
  }
  init(_ name: String, _ c: TransformerConfig, from source: ParameterSource) throws {
    let d = c.width
    func linear(_ part: String) throws -> Linear {
      try Linear("\(name).attn.\(part)", d, d, from: source)
    }
    norm1 = try LayerNorm("\(name).norm1", d, epsilon: 1e-6, from: source)
    (query, key, value, out) = (
      try linear("to_q"), try linear("to_k"), try linear("to_v"), try linear("to_out.0")
    )
    norm2 = try LayerNorm("\(name).norm2", d, epsilon: 1e-6, from: source)
    // Always four times the width, whatever mlp_ratio is (diffusers' HunyuanVideoTokenRefiner).
    feedForward = try FeedForward(
      "\(name).ff.net.0.proj", "\(name).ff.net.2", width: d, hidden: 4 * d, activation: .silu,
      from: source)
    gates = try Modulation("\(name).norm_out", width: d, chunks: 2, from: source)
    heads = c.numAttentionHeads
  }
  private var scale: Double { 1 / (Double(query.outputWidth) / Double(heads)).squareRoot() }

  func forward(_ x: Tensor, _ active: Tensor, counts: [Int32], in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let g = gates.forward(active, in: work)
    let (u, n1) = norm1.forward(x, in: work)
    let (q, qs) = query.forward(u, in: work)
    let (k, ks) = key.forward(u, in: work)
    let (v, vs) = value.forward(u, in: work)
    let (o, lse) = work.attention(
      q: q, k: k, v: v, heads: heads, scale: scale, visible: .init(keyCounts: counts))
    let (attended, os) = out.forward(o, in: work)
    let middle = gates.gate(x, g, 0, attended, in: work)
    let (w, n2) = norm2.forward(middle, in: work)
    let (fed, fs) = feedForward.forward(w, in: work)
    let y = gates.gate(middle, g, 1, fed, in: work)
    return (
      y,
      Saved(
        norm1: n1, query: qs, key: ks, value: vs, out: os, q: q, k: k, v: v, o: o, lse: lse,
        attended: attended, norm2: n2, feedForward: fs, fed: fed, gates: g)
    )
  }
  mutating func backward(
    _ dy: Tensor, _ s: Saved, counts: [Int32], addingTo dActive: inout Tensor?,
    in work: borrowing Workspace
  ) -> Tensor {
    var dGates = gates.gradient(s.gates, wanted: dActive != nil, in: work)
    let dFed = gates.gateBackward(dy, s.gates, 1, h: s.fed, addingTo: &dGates, in: work)
    let dMiddle = norm2.backward(
      feedForward.backward(dFed, s.feedForward, in: work), s.norm2, adding: dy, in: work)
    let dAttended = gates.gateBackward(
      dMiddle, s.gates, 0, h: s.attended, addingTo: &dGates, in: work)
    let dO = out.backward(dAttended, s.out, in: work)
    let (dq, dk, dv) = work.attentionBackward(
      dO, q: s.q, k: s.k, v: s.v, o: s.o, lse: s.lse, heads: heads, scale: scale,
      visible: .init(keyCounts: counts))
    var du = query.backward(dq, s.query, in: work)
    key.backward(dk, s.key, addingTo: &du, in: work)
    value.backward(dv, s.value, addingTo: &du, in: work)
    let dx = norm1.backward(du, s.norm1, adding: dMiddle, in: work)
    gates.backward(dGates, s.gates, addingTo: &dActive, in: work)
    return dx
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try norm1.forEachParameter(body)
    try query.forEachParameter(body)
    try key.forEachParameter(body)
    try value.forEachParameter(body)
    try out.forEachParameter(body)
    try norm2.forEachParameter(body)
    try feedForward.forEachParameter(body)
    try gates.forEachParameter(body)
  }
}
