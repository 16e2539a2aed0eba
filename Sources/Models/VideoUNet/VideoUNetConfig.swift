public import Layers

/// Sizes of VideoCrafter2's UNet (videocrafter.md 2.1). JSON keys are those of its configuration
/// file, and `init_attn_heads`, `norm_num_groups` for what its source fixes. A missing field takes
/// the published value.
public struct VideoUNetConfig: ModelConfig, Equatable {
  public var inChannels = 4, outChannels = 4
  public var modelChannels = 320
  public var channelMult = [1, 2, 4, 4]
  public var numResBlocks = 2
  /// Downsampling factors at which there are transformers.
  public var attentionResolutions = [4, 2, 1]
  public var numHeadChannels = 64, initAttnHeads = 8
  public var transformerDepth = 1
  public var contextDim = 1024
  public var normNumGroups = 32
  public var temporalConv = true, fpsCond = true
  /// Width of the guidance embedding (the student's), and of the motion embedding; nil: none.
  public var timeCondProjDim: Int?, motionCondProjDim: Int?

  enum CodingKeys: String, CodingKey, CaseIterable {
    case inChannels = "in_channels"
    case outChannels = "out_channels"
    case modelChannels = "model_channels"
    case channelMult = "channel_mult"
    case numResBlocks = "num_res_blocks"
    case attentionResolutions = "attention_resolutions"
    case numHeadChannels = "num_head_channels"
    case initAttnHeads = "init_attn_heads"
    case transformerDepth = "transformer_depth"
    case contextDim = "context_dim"
    case normNumGroups = "norm_num_groups"
    case temporalConv = "temporal_conv"
    case fpsCond = "fps_cond"
    case timeCondProjDim = "time_cond_proj_dim"
    case motionCondProjDim = "motion_cond_proj_dim"
  }
  public init() {}
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    func read<T: Decodable>(_ key: CodingKeys, _ value: inout T) throws {
      value = try c.decodeIfPresent(T.self, forKey: key) ?? value
    }
    try read(.inChannels, &inChannels)
    try read(.outChannels, &outChannels)
    try read(.modelChannels, &modelChannels)
    try read(.channelMult, &channelMult)
    try read(.numResBlocks, &numResBlocks)
    try read(.attentionResolutions, &attentionResolutions)
    try read(.numHeadChannels, &numHeadChannels)
    try read(.initAttnHeads, &initAttnHeads)
    try read(.transformerDepth, &transformerDepth)
    try read(.contextDim, &contextDim)
    try read(.normNumGroups, &normNumGroups)
    try read(.temporalConv, &temporalConv)
    try read(.fpsCond, &fpsCond)
    timeCondProjDim = try c.decodeIfPresent(Int.self, forKey: .timeCondProjDim)
    motionCondProjDim = try c.decodeIfPresent(Int.self, forKey: .motionCondProjDim)
  }

  public var levels: Int { channelMult.count }
  /// By what H and W of the latents must be divisible.
  public var spatialDivisor: Int { 1 << (levels - 1) }
  public var embeddingWidth: Int { 4 * modelChannels }
  func width(ofLevel level: Int) -> Int { modelChannels * channelMult[level] }
  func hasTransformers(atLevel level: Int) -> Bool { attentionResolutions.contains(1 << level) }

  /// The fault in these sizes, as `field: reason`; nil if there is none.
  public var problem: String? {
    for (name, value) in [
      ("in_channels", inChannels), ("out_channels", outChannels),
      ("model_channels", modelChannels), ("num_res_blocks", numResBlocks),
      ("num_head_channels", numHeadChannels), ("init_attn_heads", initAttnHeads),
      ("transformer_depth", transformerDepth), ("context_dim", contextDim),
      ("norm_num_groups", normNumGroups), ("time_cond_proj_dim", timeCondProjDim ?? 2),
      ("motion_cond_proj_dim", motionCondProjDim ?? 2),
    ] where value < 1 || value > 1 << 16 {
      return "\(name): \(value) is out of range"
    }
    if channelMult.isEmpty || channelMult.count > 8
      || channelMult.contains(where: { $0 < 1 || $0 > 1024 })
    {
      return "channel_mult: needs one to eight numbers from 1 on"
    }
    if channelMult[0] != 1 {
      return "channel_mult: must begin with 1, the width of the first and last convolution"
    }
    if modelChannels % 2 != 0 { return "model_channels: \(modelChannels) must be even" }
    if numResBlocks > 64 { return "num_res_blocks: \(numResBlocks) is out of range" }
    if transformerDepth > 64 { return "transformer_depth: \(transformerDepth) is out of range" }
    for level in 0..<levels where width(ofLevel: level) % normNumGroups != 0 {
      return "norm_num_groups: \(normNumGroups) does not divide width \(width(ofLevel: level))"
    }
    for level in 0..<levels
    where (hasTransformers(atLevel: level) || level == levels - 1)
      && width(ofLevel: level) % numHeadChannels != 0
    {
      return
        "num_head_channels: \(numHeadChannels) does not divide width \(width(ofLevel: level))"
    }
    if !temporalConv { return "temporal_conv: only true is supported (VideoCrafter2)" }
    if !fpsCond { return "fps_cond: only true is supported (VideoCrafter2)" }
    for (name, width) in [
      ("time_cond_proj_dim", timeCondProjDim), ("motion_cond_proj_dim", motionCondProjDim),
    ] where (width ?? 2) % 2 != 0 {
      return "\(name): \(width!) must be even"
    }
    if motionCondProjDim != nil && timeCondProjDim == nil {
      return "motion_cond_proj_dim: needs time_cond_proj_dim"
    }
    return nil
  }
}
