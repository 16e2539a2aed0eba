public import Layers

/// Sizes of OpenCLIP's text tower; those of ViT-H-14 by default. JSON keys are those of a generator
/// directory's `text_encoder/config.json` (videocrafter.md 4.1).
public struct OpenCLIPTextConfig: ModelConfig, Equatable {
  public var width = 1024, heads = 16, layers = 24, vocabSize = 49408
  /// Ids of a text, padding included.
  public var contextLength = 77
  /// Width of the features that CLIP compares with images. They are not computed here.
  public var embedDim = 1024
  /// Whose output is normalised and taken.
  public var layer = OutputLayer.penultimate

  public enum OutputLayer: String, Codable, Sendable { case last, penultimate }

  enum CodingKeys: String, CodingKey, CaseIterable {
    case width, heads, layers, layer
    case vocabSize = "vocab_size"
    case contextLength = "context_length"
    case embedDim = "embed_dim"
  }
  public init() {}
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    func read<T: Decodable>(_ key: CodingKeys, _ value: inout T) throws {
      value = try c.decodeIfPresent(T.self, forKey: key) ?? value
    }
    try read(.width, &width)
    try read(.heads, &heads)
    try read(.layers, &layers)
    try read(.vocabSize, &vocabSize)
    try read(.contextLength, &contextLength)
    try read(.embedDim, &embedDim)
    try read(.layer, &layer)
  }

  /// Layers that are computed: the last is left out where the last but one is taken.
  public var usedLayers: Int { layer == .last ? layers : layers - 1 }

  /// The fault in these sizes, as `field: reason`; nil if there is none.
  public var problem: String? {
    for (name, value) in [
      ("width", width), ("heads", heads), ("layers", layers), ("vocab_size", vocabSize),
      ("context_length", contextLength), ("embed_dim", embedDim),
    ] where value < 1 || value > 1 << 24 {
      return "\(name): \(value) is out of range"
    }
    if width % heads != 0 { return "heads: \(heads) does not divide width \(width)" }
    if contextLength < 2 { return "context_length: needs 2 at least, for the start and the end" }
    if usedLayers < 1 { return "layers: the last but one of \(layers) is none" }
    return nil
  }
}
