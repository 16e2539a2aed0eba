public import Layers
public import TensorRuntime

/// Latents `[B, 16, n, h, w]` (not scaled) to video `[B, 3, 1 + 4(n-1), 8h, 8w]`, one pass
/// (algorithm.md 6.15).
public struct AutoencoderDecoder: TiledNetwork {
  public let config: AutoencoderConfig
  public var postQuant: Convolution
  public var convIn: Convolution
  public var middle: MiddleBlock
  var up: [AutoencoderLevel]
  public var normOut: GroupNorm
  public var convOut: Convolution

  public struct Saved: Sendable {
    let tiles: TiledSaved<PassSaved>, tiling: Tiling?
  }
  public struct PassSaved: Sendable {
    let postQuant, convIn: Convolution.Saved, middle: MiddleBlock.Saved
    let up: [Kept<AutoencoderLevel.Saved, Tensor>]
    let convOut: GroupNorm.Saved
  }

  public init(_ c: AutoencoderConfig, from source: ParameterSource) throws {
    config = c
    let channels = Array(c.blockOutChannels.reversed())
    let groups = c.normNumGroups
    postQuant = try Convolution.causal(
      "post_quant_conv", c.latentChannels, c.latentChannels, kernel: 1, from: source)
    convIn = try Convolution.causal(
      "decoder.conv_in.conv", c.latentChannels, channels[0], kernel: 3, from: source)
    middle = try MiddleBlock(
      "decoder.mid_block", channels[0], groups: groups, attends: c.midBlockAddAttention,
      family: .video,
      from: source)
    up = try channels.indices.map { i in
      let name = "decoder.up_blocks.\(i)"
      let input = channels[max(i - 1, 0)]
      let output = channels[i]
      let residuals = try (0...c.layersPerBlock).map {
        try ResidualBlock(
          "\(name).resnets.\($0)", $0 == 0 ? input : output, output, groups: groups,
          family: .video, from: source)
      }
      let upsampler = try c.factor(i).map {
        try Convolution.causal(
          "\(name).upsamplers.0.conv.conv", output, output, kernel: 3, upsampling: $0, from: source)
      }
      return AutoencoderLevel(residuals: residuals, resampler: upsampler)
    }
    normOut = try GroupNorm(
      "decoder.conv_norm_out", channels.last!, groups: groups, epsilon: 1e-6, silu: true,
      from: source)
    convOut = try Convolution.causal(
      "decoder.conv_out.conv", channels.last!, c.outChannels, kernel: 3, from: source)
  }

  /// Latents to video, in tiles if `tiling` is set. With `checkpointing` only the inputs of the
  /// levels (or tiles) are kept for backward.
  public func forward(
    _ z: Tensor, tiling: Tiling? = nil, checkpointing: Bool = false, in work: borrowing Workspace
  ) -> (y: Tensor, saved: Saved) {
    let (y, s) = tiled(z, tiling, checkpointing: checkpointing, in: work)
    return (y, Saved(tiles: s, tiling: tiling))
  }
  /// Gradient of the latents.
  public mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    tiledBackward(dy, s.tiles, s.tiling, wantsInput: true, in: work)!
  }

  var isEncoding: Bool { false }
  var ratios: (time: Int, space: Int) {
    (config.temporalCompressionRatio, config.spatialCompressionRatio)
  }

  func pass(_ z: Tensor, checkpointing: Bool, in work: borrowing Workspace) -> (
    y: Tensor, saved: PassSaved
  ) {
    let (p, ps) = postQuant.forward(z, in: work)
    let (c, cs) = convIn.forward(p, in: work)
    var (h, ms) = middle.forward(c, in: work)
    let keeping = Keeping(checkpointing: checkpointing)
    var saved: [Kept<AutoencoderLevel.Saved, Tensor>] = []
    for block in up {
      let (y, kept) = keeping.run(h, in: work) {
        block.forward($0, in: work)
      } plain: {
        block.forward($0, keeping: false, in: work).y
      }
      saved.append(kept)
      h = y
    }
    let (y, os) = convOut.forward(h, after: normOut, in: work)
    return (y, PassSaved(postQuant: ps, convIn: cs, middle: ms, up: saved, convOut: os))
  }
  mutating func passBackward(
    _ dy: Tensor, _ s: PassSaved, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor? {
    var dh = convOut.backward(dy, s.convOut, after: &normOut, in: work)
    for i in up.indices.reversed() {
      dh = up[i].backward(dh, s.up[i].all(in: work) { up[i].forward($0, in: work).saved }, in: work)
    }
    let dc = convIn.backward(middle.backward(dh, s.middle, in: work), s.convIn, in: work)
    return postQuant.backward(dc, s.postQuant, in: work)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try postQuant.forEachParameter(body)
    try convIn.forEachParameter(body)
    try middle.forEachParameter(body)
    try up.forEachParameter(body)
    try normOut.forEachParameter(body)
    try convOut.forEachParameter(body)
  }
}
