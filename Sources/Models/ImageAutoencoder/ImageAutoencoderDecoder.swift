public import Layers
public import TensorRuntime

/// Latents `[N, 4, h, w]` (not scaled) to images `[N, 3, 8h, 8w]` (videocrafter.md 3).
public struct ImageAutoencoderDecoder: ImageNetwork {
  public let config: ImageAutoencoderConfig
  /// Pixels that go through together, unless one image has more: a frame of VideoCrafter2.
  public var pixelsAtOnce = 320 * 512
  public var postQuant: Convolution
  public var convIn: Convolution
  public var middle: MiddleBlock
  /// In the order of execution: from the level of most channels to that of the pixels.
  var up: [AutoencoderLevel]
  public var normOut: GroupNorm
  public var convOut: Convolution

  public struct Saved: Sendable { let images: ImageSaved<PassSaved> }
  public struct PassSaved: Sendable {
    let postQuant, convIn: Convolution.Saved, middle: MiddleBlock.Saved
    let up: [AutoencoderLevel.Saved]
    let convOut: GroupNorm.Saved
  }

  public init(_ c: ImageAutoencoderConfig, from source: ParameterSource) throws {
    config = c
    let channels = c.levelChannels
    let groups = c.normNumGroups
    postQuant = try .image(
      "post_quant_conv", c.embedDim, c.zChannels, kernel: 1, from: source)
    convIn = try .image(
      "decoder.conv_in", c.zChannels, channels.last!, kernel: 3, from: source)
    middle = try MiddleBlock(
      "decoder.mid", channels.last!, groups: groups, family: .image, from: source)
    up = try channels.indices.reversed().map { i in
      let input = channels[min(i + 1, channels.count - 1)]
      let residuals = try (0...c.numResBlocks).map {
        try ResidualBlock(
          "decoder.up.\(i).block.\($0)", $0 == 0 ? input : channels[i], channels[i],
          groups: groups, family: .image, from: source)
      }
      let upsampler =
        i > 0
        ? try Convolution.image(
          "decoder.up.\(i).upsample.conv", channels[i], channels[i], kernel: 3, upsampling: 2,
          from: source) : nil
      return AutoencoderLevel(residuals: residuals, resampler: upsampler)
    }
    normOut = try GroupNorm(
      "decoder.norm_out", channels[0], groups: groups, epsilon: 1e-6, silu: true, from: source)
    convOut = try .image(
      "decoder.conv_out", channels[0], c.outChannels, kernel: 3, from: source)
  }

  /// With `checkpointing` only the latents are kept for backward.
  public func forward(_ z: Tensor, checkpointing: Bool = false, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let (y, s) = grouped(z, checkpointing: checkpointing, in: work)
    return (y, Saved(images: s))
  }
  /// Without what backward needs.
  public func callAsFunction(_ z: Tensor, in work: borrowing Workspace) -> Tensor {
    forward(z, checkpointing: true, in: work).y
  }
  /// Gradient of the latents.
  public mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    groupedBackward(dy, s.images, wantsInput: true, in: work)!
  }

  var inputRatio: Int { config.ratio }

  func pass(_ z: Tensor, keeping: Bool, in work: borrowing Workspace) -> (
    y: Tensor, saved: PassSaved
  ) {
    let (p, ps) = postQuant.forward(z, in: work)
    let (c, cs) = convIn.forward(p, in: work)
    var (h, ms) = middle.forward(c, in: work)
    var saved: [AutoencoderLevel.Saved] = []
    for level in up {
      let (y, s) = level.forward(h, keeping: keeping, in: work)
      saved.append(s)
      h = y
    }
    let (y, os) = convOut.forward(h, after: normOut, in: work)
    return (y, PassSaved(postQuant: ps, convIn: cs, middle: ms, up: saved, convOut: os))
  }
  mutating func passBackward(
    _ dy: Tensor, _ s: PassSaved, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor? {
    var dh = convOut.backward(dy, s.convOut, after: &normOut, in: work)
    for i in up.indices.reversed() { dh = up[i].backward(dh, s.up[i], in: work) }
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
