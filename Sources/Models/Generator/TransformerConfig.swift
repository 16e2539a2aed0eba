public import Layers

/// Sizes of HunyuanVideo's transformer (algorithm.md 6.1). JSON keys are those of diffusers'
/// `transformer/config.json`. A missing field takes the published value.
public struct TransformerConfig: ModelConfig, Equatable {
  public var inChannels = 16, outChannels = 16
  public var numAttentionHeads = 24, attentionHeadDim = 128
  public var numLayers = 20, numSingleLayers = 40, numRefinerLayers = 2
  public var mlpRatio = 4.0
  public var patchSize = 2, patchSizeT = 1
  public var guidanceEmbeds = true
  public var textEmbedDim = 4096, pooledProjectionDim = 768
  public var ropeTheta = 256.0
  public var ropeAxesDim = [16, 56, 56]

  enum CodingKeys: String, CodingKey, CaseIterable {
    case inChannels = "in_channels"
    case outChannels = "out_channels"
    case numAttentionHeads = "num_attention_heads"
    case attentionHeadDim = "attention_head_dim"
    case numLayers = "num_layers"
    case numSingleLayers = "num_single_layers"
    case numRefinerLayers = "num_refiner_layers"
    case mlpRatio = "mlp_ratio"
    case patchSize = "patch_size"
    case patchSizeT = "patch_size_t"
    case guidanceEmbeds = "guidance_embeds"
    case textEmbedDim = "text_embed_dim"
    case pooledProjectionDim = "pooled_projection_dim"
    case ropeTheta = "rope_theta"
    case ropeAxesDim = "rope_axes_dim"
  }
  public init() {}
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    func read<T: Decodable>(_ key: CodingKeys, _ value: inout T) throws {
      value = try c.decodeIfPresent(T.self, forKey: key) ?? value
    }
    try read(.inChannels, &inChannels)
    try read(.outChannels, &outChannels)
    try read(.numAttentionHeads, &numAttentionHeads)
    try read(.attentionHeadDim, &attentionHeadDim)
    try read(.numLayers, &numLayers)
    try read(.numSingleLayers, &numSingleLayers)
    try read(.numRefinerLayers, &numRefinerLayers)
    try read(.mlpRatio, &mlpRatio)
    try read(.patchSize, &patchSize)
    try read(.patchSizeT, &patchSizeT)
    try read(.guidanceEmbeds, &guidanceEmbeds)
    try read(.textEmbedDim, &textEmbedDim)
    try read(.pooledProjectionDim, &pooledProjectionDim)
    try read(.ropeTheta, &ropeTheta)
    try read(.ropeAxesDim, &ropeAxesDim)
  }

  public var width: Int { numAttentionHeads * attentionHeadDim }
  public var hidden: Int { Int(Double(width) * mlpRatio) }
  public var patch: SIMD3<Int> { SIMD3(patchSizeT, patchSize, patchSize) }

  /// The fault in these sizes, as `field: reason`; nil if there is none.
  public var problem: String? {
    for (name, value) in [
      ("in_channels", inChannels), ("out_channels", outChannels),
      ("num_attention_heads", numAttentionHeads), ("attention_head_dim", attentionHeadDim),
      ("patch_size", patchSize), ("patch_size_t", patchSizeT), ("text_embed_dim", textEmbedDim),
      ("pooled_projection_dim", pooledProjectionDim),
    ] where value < 1 || value > 1 << 16 {
      return "\(name): \(value) is out of range"
    }
    for (name, value) in [
      ("num_layers", numLayers), ("num_single_layers", numSingleLayers),
      ("num_refiner_layers", numRefinerLayers),
    ] where value < 0 || value > 1024 {
      return "\(name): \(value) is out of range"
    }
    if ropeAxesDim.count != 3 || ropeAxesDim.contains(where: { $0 < 2 || $0 % 2 != 0 })
      || ropeAxesDim.reduce(0, +) != attentionHeadDim
    {
      return
        "rope_axes_dim: needs three even numbers that sum to attention_head_dim \(attentionHeadDim)"
    }
    if !(mlpRatio > 0 && mlpRatio < 1024) { return "mlp_ratio: \(mlpRatio) is out of range" }
    if hidden < 1 { return "mlp_ratio: \(mlpRatio) of width \(width) leaves nothing" }
    if !(ropeTheta > 1) { return "rope_theta: must exceed 1" }
    return nil
  }
}
