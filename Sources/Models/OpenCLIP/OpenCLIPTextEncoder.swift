public import Layers
public import TensorRuntime

/// OpenCLIP's text tower up to the last or the last but one layer (videocrafter.md 4.1; Radford et
/// al. 2021, arXiv:2103.00020). It is never trained here: forward only.
public struct OpenCLIPTextEncoder: Layer {
  public let config: OpenCLIPTextConfig
  public var tokens, positions: Parameter
  public var blocks: [OpenCLIPTextBlock]
  public var finalNorm: LayerNorm

  /// Names are those below `cond_stage_model.model.` of VideoCrafter's checkpoint.
  public init(_ c: OpenCLIPTextConfig, from source: ParameterSource) throws {
    config = c
    tokens = try source(
      "token_embedding.weight", Shape(c.vocabSize, c.width), .normal(deviation: 0.02))
    positions = try source(
      "positional_embedding", Shape(c.contextLength, c.width), .normal(deviation: 0.01))
    blocks = try (0..<c.usedLayers).map {
      try OpenCLIPTextBlock("transformer.resblocks.\($0)", c, from: source)
    }
    finalNorm = try LayerNorm("ln_final", c.width, epsilon: 1e-5, from: source)
  }

  /// Rows of `length` ids, at most `contextLength`: states of every id, padding included, `[B, L,
  /// width]`. An id sees those up to its own.
  public func callAsFunction(_ rows: [[Int32]], in work: borrowing Workspace) -> Tensor {
    let length = rows.first?.count ?? 0
    precondition(
      (1...config.contextLength).contains(length) && rows.allSatisfy { $0.count == length },
      "rows of \(rows.map(\.count)) ids for \(config.contextLength) positions")
    var x = work.gather(tokens.value, rows.flatMap { $0 }).reshaped(
      Shape(rows.count, length, config.width))
    work.addToEach(work.widened(positions.value).slice(0..<length), to: &x)
    for block in blocks { x = block(x, in: work) }
    return finalNorm(x, in: work)
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&tokens)
    try body(&positions)
    try blocks.forEachParameter(body)
    try finalNorm.forEachParameter(body)
  }
}

/// x + out(Attention(LN(x))), then x + MLP(LN(x)). Shapes `[B, L, D]`.
public struct OpenCLIPTextBlock: Layer {
  public var attentionNorm: LayerNorm
  /// Rows of queries, keys and values, one after another.
  public var projection: Linear
  public var out: Linear
  public var feedForwardNorm: LayerNorm
  public var feedForward: FeedForward
  let heads: Int

  init(_ name: String, _ c: OpenCLIPTextConfig, from source: ParameterSource) throws {
    let d = c.width
    attentionNorm = try LayerNorm("\(name).ln_1", d, epsilon: 1e-5, from: source)
    projection = try Linear(
      "\(name).attn", d, 3 * d, initial: .xavier(d, 3 * d),
      weightName: "\(name).attn.in_proj_weight", biasName: "\(name).attn.in_proj_bias",
      from: source)
    out = try Linear("\(name).attn.out_proj", d, d, from: source)
    feedForwardNorm = try LayerNorm("\(name).ln_2", d, epsilon: 1e-5, from: source)
    feedForward = try FeedForward(
      "\(name).mlp.c_fc", "\(name).mlp.c_proj", width: d, hidden: 4 * d, activation: .geluErf,
      from: source)
    heads = c.heads
  }
  public func callAsFunction(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    let headWidth = Double(out.inputWidth / heads)
    let qkv = projection(attentionNorm(x, in: work), in: work)
    let o = work.attention(
      qkv: qkv, heads: heads, scale: 1 / headWidth.squareRoot(),
      visible: Workspace.Visibility(causalBlock: 1)
    ).o
    let h = work.sum(out(o, in: work), x)
    return work.sum(feedForward(feedForwardNorm(h, in: work), in: work), h)
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try attentionNorm.forEachParameter(body)
    try projection.forEachParameter(body)
    try out.forEachParameter(body)
    try feedForwardNorm.forEachParameter(body)
    try feedForward.forEachParameter(body)
  }
}
