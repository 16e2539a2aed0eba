public import Layers

/// Sizes of HunyuanVideo's causal 3-D autoencoder. JSON keys are those of diffusers'
/// `vae/config.json`. A missing field takes the published value.
public struct AutoencoderConfig: ModelConfig, Equatable {
  public var inChannels = 3, outChannels = 3, latentChannels = 16
  public var blockOutChannels = [128, 256, 512, 512]
  /// Residual blocks of an encoder level. A decoder level has one more.
  public var layersPerBlock = 2
  public var normNumGroups = 32
  public var scalingFactor = 0.476986
  public var spatialCompressionRatio = 8, temporalCompressionRatio = 4
  public var midBlockAddAttention = true

  enum CodingKeys: String, CodingKey, CaseIterable {
    case inChannels = "in_channels"
    case outChannels = "out_channels"
    case latentChannels = "latent_channels"
    case blockOutChannels = "block_out_channels"
    case layersPerBlock = "layers_per_block"
    case normNumGroups = "norm_num_groups"
    case scalingFactor = "scaling_factor"
    case spatialCompressionRatio = "spatial_compression_ratio"
    case temporalCompressionRatio = "temporal_compression_ratio"
    case midBlockAddAttention = "mid_block_add_attention"
  }
  public init() {}
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    func read<T: Decodable>(_ key: CodingKeys, _ value: inout T) throws {
      value = try c.decodeIfPresent(T.self, forKey: key) ?? value
    }
    try read(.inChannels, &inChannels)
    try read(.outChannels, &outChannels)
    try read(.latentChannels, &latentChannels)
    try read(.blockOutChannels, &blockOutChannels)
    try read(.layersPerBlock, &layersPerBlock)
    try read(.normNumGroups, &normNumGroups)
    try read(.scalingFactor, &scalingFactor)
    try read(.spatialCompressionRatio, &spatialCompressionRatio)
    try read(.temporalCompressionRatio, &temporalCompressionRatio)
    try read(.midBlockAddAttention, &midBlockAddAttention)
  }

  /// Scale factors (t, h, w) of level i, counted in the order of execution; nil if the level keeps
  /// its size (algorithm.md 6.15, the general rule).
  public func factor(_ i: Int) -> SIMD3<Int>? {
    func log2(_ n: Int) -> Int { n.trailingZeroBitCount }
    let levels = blockOutChannels.count
    let space = i < log2(spatialCompressionRatio)
    let time = i >= levels - 1 - log2(temporalCompressionRatio) && i != levels - 1
    if !space && !time { return nil }
    return SIMD3(time ? 2 : 1, space ? 2 : 1, space ? 2 : 1)
  }
  /// The fault in these sizes, as `field: reason`; nil if there is none.
  public var problem: String? {
    if blockOutChannels.isEmpty || blockOutChannels.count > 8 {
      return "block_out_channels: needs 1 to 8 levels"
    }
    for (name, value) in [
      ("in_channels", inChannels), ("out_channels", outChannels),
      ("latent_channels", latentChannels), ("layers_per_block", layersPerBlock),
      ("norm_num_groups", normNumGroups),
    ] where value < 1 || value > 1 << 16 {
      return "\(name): \(value) is out of range"
    }
    for c in blockOutChannels where c < 1 || c > 1 << 16 || c % normNumGroups != 0 {
      return "block_out_channels: \(c) is not a multiple of norm_num_groups \(normNumGroups)"
    }
    for (name, value) in [
      ("spatial_compression_ratio", spatialCompressionRatio),
      ("temporal_compression_ratio", temporalCompressionRatio),
    ] {
      if value < 1 || value > 128 || value & (value - 1) != 0 {
        return "\(name): \(value) is not a power of two"
      }
    }
    // Every halving needs a level. Time is not halved at the last level (`factor`).
    let levels = blockOutChannels.count
    if spatialCompressionRatio.trailingZeroBitCount > levels {
      return
        "spatial_compression_ratio: \(spatialCompressionRatio) needs more than \(levels) levels"
    }
    if temporalCompressionRatio.trailingZeroBitCount > levels - 1 {
      return
        "temporal_compression_ratio: \(temporalCompressionRatio) needs more than \(levels) levels"
    }
    if !(scalingFactor > 0 && scalingFactor.isFinite) { return "scaling_factor: must be positive" }
    return nil
  }
}
