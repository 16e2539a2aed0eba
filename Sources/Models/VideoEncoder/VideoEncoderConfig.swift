public import Layers

/// Sizes of the InternVideo2 video encoder. JSON keys are those of a reward-model directory
/// (interfaces.md 4). A missing field takes the value of the 1B model.
public struct VideoEncoderConfig: ModelConfig, Equatable {
  public var imgSize = 224, numFrames = 8, tubeletSize = 1, patchSize = 14, dModel = 1408,
    depth = 40, numHeads = 16
  public var mlpRatio = 48.0 / 11.0
  public var attnPoolNumHeads = 16, clipEmbedDim = 768
  public enum GELU: String, Codable, Sendable, CaseIterable { case tanh, erf }
  /// `tanh` is the trained model's fused kernel (D-9).
  public var mlpGelu = GELU.tanh
  /// Initial γ of LayerScale in a fresh model (1e-5 in the 1B model; 1 lets a small model train).
  public var initValues = 1e-5

  enum CodingKeys: String, CodingKey, CaseIterable {
    case imgSize = "img_size"
    case numFrames = "num_frames"
    case tubeletSize = "tubelet_size"
    case patchSize = "patch_size"
    case dModel = "d_model"
    case depth
    case numHeads = "num_heads"
    case mlpRatio = "mlp_ratio"
    case attnPoolNumHeads = "attn_pool_num_heads"
    case clipEmbedDim = "clip_embed_dim"
    case mlpGelu = "mlp_gelu"
    case initValues = "init_values"
  }
  public init() {}
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    func read<T: Decodable>(_ key: CodingKeys, _ value: inout T) throws {
      value = try c.decodeIfPresent(T.self, forKey: key) ?? value
    }
    try read(.imgSize, &imgSize)
    try read(.numFrames, &numFrames)
    try read(.tubeletSize, &tubeletSize)
    try read(.patchSize, &patchSize)
    try read(.dModel, &dModel)
    try read(.depth, &depth)
    try read(.numHeads, &numHeads)
    try read(.mlpRatio, &mlpRatio)
    try read(.attnPoolNumHeads, &attnPoolNumHeads)
    try read(.clipEmbedDim, &clipEmbedDim)
    if let word = try c.decodeIfPresent(String.self, forKey: .mlpGelu) {
      guard let form = GELU(rawValue: word) else {
        throw DecodingError.dataCorruptedError(
          forKey: .mlpGelu, in: c, debugDescription: "\(word) is neither tanh nor erf")
      }
      mlpGelu = form
    }
    try read(.initValues, &initValues)
  }

  /// Patches along one side of a frame.
  public var grid: Int { imgSize / patchSize }
  public var patchesPerFrame: Int { grid * grid }
  /// Time positions of `frames` input frames.
  public func times(_ frames: Int) -> Int { frames / tubeletSize }
  public func tokens(frames: Int) -> Int { 1 + times(frames) * patchesPerFrame }
  public var hidden: Int { Int(Double(dModel) * mlpRatio) }

  /// The fault in these sizes, as `field: reason`; nil if there is none.
  public var problem: String? {
    for (name, value) in [
      ("img_size", imgSize), ("num_frames", numFrames), ("tubelet_size", tubeletSize),
      ("patch_size", patchSize), ("d_model", dModel), ("depth", depth), ("num_heads", numHeads),
      ("attn_pool_num_heads", attnPoolNumHeads), ("clip_embed_dim", clipEmbedDim),
    ] where value < 1 || value > 1 << 20 {
      return "\(name): \(value) is out of range"
    }
    if imgSize % patchSize != 0 {
      return "img_size: \(imgSize) is not a multiple of patch_size \(patchSize)"
    }
    if dModel % numHeads != 0 { return "num_heads: \(numHeads) does not divide d_model \(dModel)" }
    if dModel % attnPoolNumHeads != 0 {
      return "attn_pool_num_heads: \(attnPoolNumHeads) does not divide d_model \(dModel)"
    }
    if !(mlpRatio > 0 && mlpRatio < 1024) { return "mlp_ratio: \(mlpRatio) is out of range" }
    if hidden < 1 { return "mlp_ratio: \(mlpRatio) of width \(dModel) leaves nothing" }
    return nil
  }
}
