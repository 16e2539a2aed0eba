public import Layers

/// Sizes of Stable Diffusion's image autoencoder. JSON keys are those of a generator directory's
/// `vae/config.json` (videocrafter.md 3). A missing field takes the published value.
public struct ImageAutoencoderConfig: ModelConfig, Equatable {
  public var inChannels = 3, outChannels = 3
  /// Channels of the first level, and how many times as many the levels have.
  public var channels = 128, channelMult = [1, 2, 4, 4]
  /// Residual blocks of an encoder level. A decoder level has one more.
  public var numResBlocks = 2
  /// Channels of latents inside the networks, and outside.
  public var zChannels = 4, embedDim = 4
  public var normNumGroups = 32
  public var scalingFactor = 0.18215

  enum CodingKeys: String, CodingKey, CaseIterable {
    case inChannels = "in_channels"
    case outChannels = "out_ch"
    case channels = "ch"
    case channelMult = "ch_mult"
    case numResBlocks = "num_res_blocks"
    case zChannels = "z_channels"
    case embedDim = "embed_dim"
    case normNumGroups = "norm_num_groups"
    case scalingFactor = "scaling_factor"
  }
  public init() {}
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    func read<T: Decodable>(_ key: CodingKeys, _ value: inout T) throws {
      value = try c.decodeIfPresent(T.self, forKey: key) ?? value
    }
    try read(.inChannels, &inChannels)
    try read(.outChannels, &outChannels)
    try read(.channels, &channels)
    try read(.channelMult, &channelMult)
    try read(.numResBlocks, &numResBlocks)
    try read(.zChannels, &zChannels)
    try read(.embedDim, &embedDim)
    try read(.normNumGroups, &normNumGroups)
    try read(.scalingFactor, &scalingFactor)
  }

  /// Channels of each level, from the pixels on.
  public var levelChannels: [Int] { channelMult.map { $0 * channels } }
  /// Pixels per latent, along H and along W.
  public var ratio: Int { 1 << (channelMult.count - 1) }
  /// Latents of images: every halving rounds down.
  public func latentShape(images: Int, height: Int, width: Int) -> [Int] {
    [images, embedDim, height / ratio, width / ratio]
  }

  /// The fault in these sizes, as `field: reason`; nil if there is none.
  public var problem: String? {
    if channelMult.isEmpty || channelMult.count > 8 {
      return "ch_mult: needs 1 to 8 levels"
    }
    for (name, value) in [
      ("in_channels", inChannels), ("out_ch", outChannels), ("ch", channels),
      ("num_res_blocks", numResBlocks), ("z_channels", zChannels),
      ("embed_dim", embedDim), ("norm_num_groups", normNumGroups),
    ] where value < 1 || value > 1 << 16 {
      return "\(name): \(value) is out of range"
    }
    for m in channelMult where m < 1 || m > 1 << 8 { return "ch_mult: \(m) is out of range" }
    if channels % normNumGroups != 0 {
      return "ch: \(channels) is not a multiple of norm_num_groups \(normNumGroups)"
    }
    if !(scalingFactor > 0 && scalingFactor.isFinite) { return "scaling_factor: must be positive" }
    return nil
  }
}
