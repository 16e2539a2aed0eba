public import Layers

/// Sizes of the BERT text encoder with fusion layers. JSON keys are those of a reward-model
/// directory (interfaces.md 4).
public struct TextEncoderConfig: ModelConfig, Equatable {
  public var vocabSize = 30522, hiddenSize = 1024, numHiddenLayers = 24, numAttentionHeads = 16,
    intermediateSize = 4096
  public var maxPositionEmbeddings = 512, typeVocabSize = 2
  public var layerNormEps = 1e-12
  /// First layer with cross-attention.
  public var fusionLayer = 19
  /// Width of the visual tokens.
  public var encoderWidth = 1408
  public var padTokenId = 0

  enum CodingKeys: String, CodingKey, CaseIterable {
    case vocabSize = "vocab_size"
    case hiddenSize = "hidden_size"
    case numHiddenLayers = "num_hidden_layers"
    case numAttentionHeads = "num_attention_heads"
    case intermediateSize = "intermediate_size"
    case maxPositionEmbeddings = "max_position_embeddings"
    case typeVocabSize = "type_vocab_size"
    case layerNormEps = "layer_norm_eps"
    case fusionLayer = "fusion_layer"
    case encoderWidth = "encoder_width"
    case padTokenId = "pad_token_id"
  }
  public init() {}
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    func read<T: Decodable>(_ key: CodingKeys, _ value: inout T) throws {
      value = try c.decodeIfPresent(T.self, forKey: key) ?? value
    }
    try read(.vocabSize, &vocabSize)
    try read(.hiddenSize, &hiddenSize)
    try read(.numHiddenLayers, &numHiddenLayers)
    try read(.numAttentionHeads, &numAttentionHeads)
    try read(.intermediateSize, &intermediateSize)
    try read(.maxPositionEmbeddings, &maxPositionEmbeddings)
    try read(.typeVocabSize, &typeVocabSize)
    try read(.layerNormEps, &layerNormEps)
    try read(.fusionLayer, &fusionLayer)
    try read(.encoderWidth, &encoderWidth)
    try read(.padTokenId, &padTokenId)
  }

  public var fusionLayers: Range<Int> { fusionLayer..<numHiddenLayers }

  /// The fault in these sizes, as `field: reason`; nil if there is none.
  public var problem: String? {
    for (name, value) in [
      ("vocab_size", vocabSize), ("hidden_size", hiddenSize),
      ("num_hidden_layers", numHiddenLayers), ("num_attention_heads", numAttentionHeads),
      ("intermediate_size", intermediateSize), ("max_position_embeddings", maxPositionEmbeddings),
      ("type_vocab_size", typeVocabSize), ("encoder_width", encoderWidth),
    ] where value < 1 || value > 1 << 24 {
      return "\(name): \(value) is out of range"
    }
    if hiddenSize % numAttentionHeads != 0 {
      return "num_attention_heads: \(numAttentionHeads) does not divide hidden_size \(hiddenSize)"
    }
    if fusionLayer < 0 || fusionLayer > numHiddenLayers {
      return "fusion_layer: \(fusionLayer) is not among the \(numHiddenLayers) layers"
    }
    if padTokenId < 0 || padTokenId >= vocabSize {
      return "pad_token_id: \(padTokenId) is outside the vocabulary of \(vocabSize)"
    }
    if !(layerNormEps > 0) { return "layer_norm_eps: must be positive" }
    return nil
  }
}
