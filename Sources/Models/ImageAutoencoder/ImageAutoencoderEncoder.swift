public import Layers
public import TensorRuntime

/// Images `[N, 3, H, W]` in [-1, 1] to moments `[N, 2·4, H/8, W/8]`, mean then log-variance
/// (videocrafter.md 3).
public struct ImageAutoencoderEncoder: ImageNetwork {
  public let config: ImageAutoencoderConfig
  /// Pixels that go through together, unless one image has more: a frame of VideoCrafter2.
  public var pixelsAtOnce = 320 * 512
  var stack: EncoderStack

  public struct Saved: Sendable { let images: ImageSaved<EncoderSaved> }

  public init(_ c: ImageAutoencoderConfig, from source: ParameterSource) throws {
    config = c
    let channels = c.levelChannels
    let groups = c.normNumGroups
    let convIn: Convolution = try .image(
      "encoder.conv_in", c.inChannels, c.channels, kernel: 3, from: source)
    let down = try channels.indices.map { i in
      let input = i == 0 ? c.channels : channels[i - 1]
      let residuals = try (0..<c.numResBlocks).map {
        try ResidualBlock(
          "encoder.down.\(i).block.\($0)", $0 == 0 ? input : channels[i], channels[i],
          groups: groups, family: .image, from: source)
      }
      let downsampler =
        i < channels.count - 1
        ? try Convolution.image(
          "encoder.down.\(i).downsample.conv", channels[i], channels[i], kernel: 3, stride: 2,
          side: 0, from: source) : nil
      return AutoencoderLevel(residuals: residuals, resampler: downsampler, padsEnd: true)
    }
    let middle = try MiddleBlock(
      "encoder.mid", channels.last!, groups: groups, family: .image, from: source)
    let normOut = try GroupNorm(
      "encoder.norm_out", channels.last!, groups: groups, epsilon: 1e-6, silu: true, from: source)
    let convOut: Convolution = try .image(
      "encoder.conv_out", channels.last!, 2 * c.zChannels, kernel: 3, from: source)
    let quant: Convolution = try .image(
      "quant_conv", 2 * c.zChannels, 2 * c.embedDim, kernel: 1, from: source)
    stack = EncoderStack(
      convIn: convIn, down: down, middle: middle, normOut: normOut, convOut: convOut, quant: quant)
  }

  /// With `checkpointing` only the images are kept for backward. Images have `config.ratio` rows
  /// and columns at least.
  public func forward(_ x: Tensor, checkpointing: Bool = false, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    precondition(
      min(x.shape[2], x.shape[3]) >= config.ratio, "images \(x.shape) for \(config.ratio) a latent")
    let (y, s) = grouped(x, checkpointing: checkpointing, in: work)
    return (y, Saved(images: s))
  }
  /// Without what backward needs.
  public func callAsFunction(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    forward(x, checkpointing: true, in: work).y
  }
  /// dx, or nil if `wantsInput` is false: training the autoencoder needs no gradient of the images.
  @discardableResult
  public mutating func backward(
    _ dy: Tensor, _ s: Saved, wantsInput: Bool = true, in work: borrowing Workspace
  ) -> Tensor? {
    groupedBackward(dy, s.images, wantsInput: wantsInput, in: work)
  }

  var inputRatio: Int { 1 }

  func pass(_ x: Tensor, keeping: Bool, in work: borrowing Workspace) -> (
    y: Tensor, saved: EncoderSaved
  ) { stack.forward(x, keeping: keeping, in: work) }
  mutating func passBackward(
    _ dy: Tensor, _ s: EncoderSaved, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor? { stack.backward(dy, s, wantsInput: wantsInput, in: work) }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try stack.forEachParameter(body)
  }
}
