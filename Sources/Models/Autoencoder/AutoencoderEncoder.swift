public import Layers
public import TensorRuntime

/// The autoencoder's encoder: video `[B, 3, T, H, W]` in [-1, 1] to moments `[B, 2·16, n, h, w]`,
/// mean then log-variance (algorithm.md 6.15). One pass.
public struct AutoencoderEncoder: TiledNetwork {
  public let config: AutoencoderConfig
  var stack: EncoderStack

  public struct Saved: Sendable {
    let tiles: TiledSaved<EncoderSaved>, tiling: Tiling?
  }

  public init(_ c: AutoencoderConfig, from source: ParameterSource) throws {
    config = c
    let channels = c.blockOutChannels
    let groups = c.normNumGroups
    let convIn = try Convolution.causal(
      "encoder.conv_in.conv", c.inChannels, channels[0], kernel: 3, from: source)
    let down = try channels.indices.map { i in
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
    let middle = try MiddleBlock(
      "encoder.mid_block", channels.last!, groups: groups, attends: c.midBlockAddAttention,
      family: .video,
      from: source)
    let normOut = try GroupNorm(
      "encoder.conv_norm_out", channels.last!, groups: groups, epsilon: 1e-6, silu: true,
      from: source)
    let convOut = try Convolution.causal(
      "encoder.conv_out.conv", channels.last!, 2 * c.latentChannels, kernel: 3, from: source)
    let quant = try Convolution.causal(
      "quant_conv", 2 * c.latentChannels, 2 * c.latentChannels, kernel: 1, from: source)
    stack = EncoderStack(
      convIn: convIn, down: down, middle: middle, normOut: normOut, convOut: convOut, quant: quant)
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
    y: Tensor, saved: EncoderSaved
  ) { stack.forward(x, in: work) }
  mutating func passBackward(
    _ dy: Tensor, _ s: EncoderSaved, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor? { stack.backward(dy, s, wantsInput: wantsInput, in: work) }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try stack.forEachParameter(body)
  }
}
