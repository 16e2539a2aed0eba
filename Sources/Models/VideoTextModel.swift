public import Layers
public import TensorRuntime

/// Configuration of a reward-model directory (interfaces.md 4).
public struct VideoTextConfig: ModelConfig, Equatable {
  public struct MapConfig: Codable, Sendable, Equatable {
    public var inputDim = 512, hiddenDim = 1024, outputDim = 512
    enum CodingKeys: String, CodingKey {
      case inputDim = "input_dim"
      case hiddenDim = "hidden_dim"
      case outputDim = "output_dim"
    }
    public init() {}
    public init(from decoder: any Decoder) throws {
      let c = try decoder.container(keyedBy: CodingKeys.self)
      inputDim = try c.decodeIfPresent(Int.self, forKey: .inputDim) ?? inputDim
      hiddenDim = try c.decodeIfPresent(Int.self, forKey: .hiddenDim) ?? hiddenDim
      outputDim = try c.decodeIfPresent(Int.self, forKey: .outputDim) ?? outputDim
    }
  }
  public var modelType = "internvideo2_stage2"
  public var embedDim = 512, maxTxtL = 40
  public var visionEncoder = VideoEncoderConfig()
  public var textEncoder = TextEncoderConfig()
  public var otMap = MapConfig()

  enum CodingKeys: String, CodingKey {
    case modelType = "model_type"
    case embedDim = "embed_dim"
    case maxTxtL = "max_txt_l"
    case visionEncoder = "vision_encoder"
    case textEncoder = "text_encoder"
    case otMap = "ot_map"
  }
  public init() {}
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    modelType = try c.decodeIfPresent(String.self, forKey: .modelType) ?? modelType
    embedDim = try c.decodeIfPresent(Int.self, forKey: .embedDim) ?? embedDim
    maxTxtL = try c.decodeIfPresent(Int.self, forKey: .maxTxtL) ?? maxTxtL
    visionEncoder =
      try c.decodeIfPresent(VideoEncoderConfig.self, forKey: .visionEncoder) ?? visionEncoder
    textEncoder = try c.decodeIfPresent(TextEncoderConfig.self, forKey: .textEncoder) ?? textEncoder
    otMap = try c.decodeIfPresent(MapConfig.self, forKey: .otMap) ?? otMap
  }

  /// The fault in these sizes, as `field: reason`; nil if there is none.
  public var problem: String? {
    if modelType != "internvideo2_stage2" {
      return "model_type: \(modelType) is not internvideo2_stage2"
    }
    if embedDim < 1 || embedDim > 1 << 16 { return "embed_dim: \(embedDim) is out of range" }
    for (name, value) in [
      ("input_dim", otMap.inputDim), ("hidden_dim", otMap.hiddenDim),
      ("output_dim", otMap.outputDim),
    ] where value < 1 || value > 1 << 16 {
      return "ot_map.\(name): \(value) is out of range"
    }
    if maxTxtL < 1 || maxTxtL > textEncoder.maxPositionEmbeddings {
      return
        "max_txt_l: \(maxTxtL) exceeds max_position_embeddings \(textEncoder.maxPositionEmbeddings)"
    }
    if let p = visionEncoder.problem { return "vision_encoder.\(p)" }
    if let p = textEncoder.problem { return "text_encoder.\(p)" }
    if textEncoder.encoderWidth != visionEncoder.dModel {
      return
        """
        text_encoder.encoder_width: \(textEncoder.encoderWidth) is not vision_encoder.d_model \
        \(visionEncoder.dModel)
        """
    }
    return nil
  }
}

/// InternVideo2 stage 2: video encoder, text encoder with fusion layers, text projection and
/// matching head.
public struct VideoTextModel: Layer {
  public let config: VideoTextConfig
  public var video: VideoEncoder
  public var text: TextEncoder
  public var textProjection: Linear
  public var matchingHead: Linear

  public init(_ c: VideoTextConfig, from source: ParameterSource) throws {
    config = c
    video = try VideoEncoder(c.visionEncoder, embedDim: c.embedDim, from: source)
    text = try TextEncoder(c.textEncoder, from: source)
    textProjection = try Linear("text_proj", c.textEncoder.hiddenSize, c.embedDim, from: source)
    matchingHead = try Linear("itm_head", c.textEncoder.hiddenSize, 2, from: source)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try video.forEachParameter(body)
    try text.forEachParameter(body)
    try textProjection.forEachParameter(body)
    try matchingHead.forEachParameter(body)
  }
  /// Row 0 of hidden states `[B, L, D]`: the [CLS] state `[B, D]`.
  public static func cls(_ hidden: Tensor, in work: borrowing Workspace) -> Tensor {
    work.narrowed(hidden, axis: 1, 0..<1).reshaped(Shape(hidden.shape[0], hidden.shape[2]))
  }
  /// Names of a published checkpoint that the rewards never use; `*` stands for any text
  /// (checkpoints.md 2).
  public static let ignoredNames = [
    "vision_encoder.clip_pos_embed", "vision_encoder.clip_img_pos_embed",
    "vision_encoder.img_pos_embed", "vision_encoder.clip_decoder.*",
    "vision_encoder.final_clip_decoder.*",
    "text_encoder.bert.embeddings.position_ids", "text_encoder.bert.pooler.*",
    "text_encoder.cls.*", "temp",
  ]
}
