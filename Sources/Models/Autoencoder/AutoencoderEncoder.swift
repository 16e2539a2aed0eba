public import Layers
public import TensorRuntime

/// The autoencoder's encoder: video `[B, 3, T, H, W]` in [-1, 1] to moments `[B, 2·16, n, h, w]`,
/// mean then log-variance (algorithm.md 6.15). One pass.
public struct AutoencoderEncoder: TiledNetwork {
  public let config: AutoencoderConfig
  public var convIn: Convolution
  var down: [AutoencoderLevel]
  public var middle: MiddleBlock
  public var normOut: GroupNorm
  public var convOut: Convolution
  public var quant: Convolution

  public struct Saved: Sendable {
    let tiles: TiledSaved<PassSaved>, tiling: Tiling?
  }
  public struct PassSaved: Sendable {
    let convIn: Convolution.Saved, down: [AutoencoderLevel.Saved], middle: MiddleBlock.Saved,
      normOut: GroupNorm.Saved, convOut, quant: Convolution.Saved
  }

  public init(_ c: AutoencoderConfig, from source: ParameterSource) throws {
    config = c
    let channels = c.blockOutChannels
    let groups = c.normNumGroups
    convIn = try Convolution.causal(
      "encoder.conv_in.conv", c.inChannels, channels[0], kernel: 3, from: source)
    down = try channels.indices.map { i in
      let name = "encoder.down_blocks.\(i)"
      let input = channels[max(i - 1, 0)]
      let output = channels[i]
      let residuals = try (0..<c.layersPerBlock).map {
        try ResidualBlock(
          "\(name).resnets.\($0)", $0 == 0 ? input : output, output, groups: groups,
          family: .video, from: source)
      }
      let downsampler = try c.factor(i).map {
        try Convolution.causal(
          "\(name).downsamplers.0.conv.conv", output, output, kernel: 3, stride: $0, from: source)
      }
      return AutoencoderLevel(residuals: residuals, resampler: downsampler)
    }
    middle = try MiddleBlock(
      "encoder.mid_block", channels.last!, groups: groups, attends: c.midBlockAddAttention,
      family: .video,
      from: source)
    normOut = try GroupNorm(
      "encoder.conv_norm_out", channels.last!, groups: groups, epsilon: 1e-6, silu: true,
      from: source)
    convOut = try Convolution.causal(
      "encoder.conv_out.conv", channels.last!, 2 * c.latentChannels, kernel: 3, from: source)
    quant = try Convolution.causal(
      "quant_conv", 2 * c.latentChannels, 2 * c.latentChannels, kernel: 1, from: source)
  }

  public func forward(_ x: Tensor, tiling: Tiling? = nil, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let (y, s) = tiled(x, tiling, checkpointing: false, in: work)
    return (y, Saved(tiles: s, tiling: tiling))
  }
  /// dx, or nil if `wantsInput` is false: training the autoencoder needs no gradient of the video.
  @discardableResult
  public mutating func backward(
    _ dy: Tensor, _ s: Saved, wantsInput: Bool = true, in work: borrowing Workspace
  ) -> Tensor? {
    tiledBackward(dy, s.tiles, s.tiling, wantsInput: wantsInput, in: work)
  }

  var isEncoding: Bool { true }
  var ratios: (time: Int, space: Int) {
    (config.temporalCompressionRatio, config.spatialCompressionRatio)
  }

  func pass(_ x: Tensor, checkpointing: Bool, in work: borrowing Workspace) -> (
    y: Tensor, saved: PassSaved
  ) {
    var (h, cs) = convIn.forward(x, in: work)
    var saved: [AutoencoderLevel.Saved] = []
    for block in down {
      let (y, s) = block.forward(h, in: work)
      saved.append(s)
      h = y
    }
    let (m, ms) = middle.forward(h, in: work)
    let (o, ns, os) = convOut.forward(m, after: normOut, in: work)
    let (y, qs) = quant.forward(o, in: work)
    return (y, PassSaved(convIn: cs, down: saved, middle: ms, normOut: ns, convOut: os, quant: qs))
  }
  mutating func passBackward(
    _ dy: Tensor, _ s: PassSaved, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor? {
    let do_ = convOut.backward(quant.backward(dy, s.quant, in: work), s.convOut, in: work)
    var dh = middle.backward(normOut.backward(do_, s.normOut, in: work), s.middle, in: work)
    for i in down.indices.reversed() { dh = down[i].backward(dh, s.down[i], in: work) }
    if wantsInput { return convIn.backward(dh, s.convIn, in: work) }
    convIn.backwardParameters(dh, s.convIn, in: work)
    return nil
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try convIn.forEachParameter(body)
    try down.forEachParameter(body)
    try middle.forEachParameter(body)
    try normOut.forEachParameter(body)
    try convOut.forEachParameter(body)
    try quant.forEachParameter(body)
  }
}
