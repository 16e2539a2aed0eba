public import Layers
public import TensorRuntime

/// BERT with fusion layers (InternVideo2 stage 2; algorithm.md 2). Layers below `fusion_layer` read
/// only text; the others also attend to visual tokens. Padded rows are computed but no row attends
/// to them, and they are zero in the outputs.
public struct TextEncoder: Layer {
  public let config: TextEncoderConfig
  public var words, positions, tokenTypes: Parameter
  public var embeddingNorm: LayerNorm
  public var layers: [TextLayer]

  public struct TextSaved: Sendable {
    let tokens: TokenBatch
    let norm: LayerNorm.Saved
    let layers: [TextLayer.Saved]
  }
  /// Keys and values of visual tokens `[B, M, E]` in every fusion layer, computed once for all
  /// captions of a video.
  public struct FusionVision: Sendable {
    let layers: [CrossAttention.Vision]
    let shape: Shape
  }
  public struct FusionSaved: Sendable {
    let tokens: TokenBatch
    let layers: [TextLayer.Saved]
    let vision: Shape
    /// L of the input states.
    public var length: Int { tokens.length }
  }

  public init(_ config: TextEncoderConfig, from source: ParameterSource) throws {
    let prefix = "text_encoder.bert."
    let d = config.hiddenSize
    self.config = config
    func table(_ name: String, _ rows: Int) throws -> Parameter {
      try source("\(prefix)embeddings.\(name).weight", Shape(rows, d), .normal(deviation: 0.02))
    }
    words = try table("word_embeddings", config.vocabSize)
    positions = try table("position_embeddings", config.maxPositionEmbeddings)
    tokenTypes = try table("token_type_embeddings", config.typeVocabSize)
    embeddingNorm = try LayerNorm(
      "\(prefix)embeddings.LayerNorm", d, epsilon: config.layerNormEps, from: source)
    layers = try (0..<config.numHiddenLayers).map {
      try TextLayer("\(prefix)encoder.layer.\($0)", index: $0, config, from: source)
    }
  }

  /// Embeddings and the layers below `fusion_layer`: hidden states `[B, L, D]`, with zeros in
  /// padding rows. With `keeping` false nothing is kept for backward.
  public func text(_ tokens: TokenBatch, keeping: Bool = true, in work: borrowing Workspace) -> (
    hidden: Tensor, saved: TextSaved
  ) {
    precondition(
      tokens.length <= config.maxPositionEmbeddings,
      "\(tokens.length) tokens for \(config.maxPositionEmbeddings) positions")
    let d = config.hiddenSize
    let shape = Shape(tokens.batch, tokens.length, d)
    var x = work.gather(words.value, tokens.ids).reshaped(shape)
    work.addToEach(work.widened(positions.value).slice(0..<tokens.length), to: &x)
    var flat = x.reshaped(Shape(tokens.batch * tokens.length, d))
    x = Tensor.zeros(Shape(0))
    work.addToEach(work.widened(tokenTypes.value).slice(0..<1).reshaped(Shape(d)), to: &flat)
    let (embedded, norm) = embeddingNorm.forward(flat.reshaped(shape), in: work)
    var h = embedded
    var saved: [TextLayer.Saved] = []
    for layer in layers[..<config.fusionLayer] {
      let (y, s) = layer.forward(h, tokens, in: work)
      if keeping { saved.append(s) }
      h = y
    }
    work.zeroPadding(&h, counts: tokens.counts)
    return (h, TextSaved(tokens: tokens, norm: norm, layers: saved))
  }

  public mutating func textBackward(_ dHidden: Tensor, _ s: TextSaved, in work: borrowing Workspace)
  {
    var dh = work.copy(dHidden)
    var none: Tensor?
    work.zeroPadding(&dh, counts: s.tokens.counts)
    for i in (0..<config.fusionLayer).reversed() {
      dh = layers[i].backward(dh, s.layers[i], addingTo: &none, in: work)!
    }
    let dx = embeddingNorm.backward(dh, s.norm, in: work)
    // Only valid tokens add to the gradients of the tables, so the padding id's row is never
    // trained.
    let keep = (0..<s.tokens.ids.count).filter {
      s.tokens.ids[$0] != Int32(config.padTokenId)
        && $0 % s.tokens.length < Int(s.tokens.counts[$0 / s.tokens.length])
    }
    let rows = work.gather(
      dx.reshaped(Shape(s.tokens.ids.count, config.hiddenSize)), keep.map { Int32($0) })
    work.scatterAdd(rows, keep.map { s.tokens.ids[$0] }, to: &words.gradient)
    work.scatterAdd(rows, keep.map { Int32($0 % s.tokens.length) }, to: &positions.gradient)
    work.scatterAdd(rows, keep.map { _ in 0 }, to: &tokenTypes.gradient)
  }

  /// What the fusion layers read of visual tokens `[B, M, E]`.
  public func vision(_ x: Tensor, in work: borrowing Workspace) -> FusionVision {
    precondition(
      x.shape.rank == 3 && x.shape[2] == config.encoderWidth,
      "visual tokens \(x.shape) for a width of \(config.encoderWidth)")
    return FusionVision(
      layers: config.fusionLayers.map { layers[$0].cross!.vision(x, in: work) }, shape: x.shape)
  }
  /// The fusion layers on text states `[B, L, D]` (the output of `text`) and visual tokens `[B, M,
  /// E]`.
  public func fusion(
    _ hidden: Tensor, _ tokens: TokenBatch, vision x: Tensor, prior: AttentionPrior? = nil,
    in work: borrowing Workspace
  ) -> (hidden: Tensor, saved: FusionSaved) {
    fusion(hidden, tokens, vision: vision(x, in: work), prior: prior, in: work)
  }
  public func fusion(
    _ hidden: Tensor, _ tokens: TokenBatch, vision: FusionVision, prior: AttentionPrior? = nil,
    keeping: Bool = true, in work: borrowing Workspace
  ) -> (hidden: Tensor, saved: FusionSaved) {
    precondition(
      vision.shape[0] == tokens.batch, "vision \(vision.shape) for \(tokens.batch) captions")
    var h = hidden
    var saved: [TextLayer.Saved] = []
    for (i, seen) in zip(config.fusionLayers, vision.layers) {
      let (y, s) = layers[i].forward(h, tokens, vision: seen, prior: prior, in: work)
      if keeping { saved.append(s) }
      h = y
    }
    work.zeroPadding(&h, counts: tokens.counts)
    return (h, FusionSaved(tokens: tokens, layers: saved, vision: vision.shape))
  }

  /// Returns (dHidden of the text states, dVision). With `wantsText` false, what only the text side
  /// needs is skipped.
  public mutating func fusionBackward(
    _ dHidden: Tensor, _ s: FusionSaved, wantsText: Bool = true, in work: borrowing Workspace
  ) -> (dText: Tensor?, dVision: Tensor) {
    var dh = work.copy(dHidden)
    var dVision: Tensor? = work.zeros(s.vision, dHidden.type)
    work.zeroPadding(&dh, counts: s.tokens.counts)
    for i in config.fusionLayers.reversed() {
      let last = i == config.fusionLayer
      guard
        let next = layers[i].backward(
          dh, s.layers[i - config.fusionLayer], addingTo: &dVision, wantsInput: wantsText || !last,
          in: work)
      else { return (nil, dVision!) }
      dh = next
    }
    return (dh, dVision!)
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&words)
    try body(&positions)
    try body(&tokenTypes)
    try embeddingNorm.forEachParameter(body)
    try layers.forEachParameter(body)
  }
}
