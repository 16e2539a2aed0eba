public import Layers
public import TensorRuntime

/// Images `[N, 3, H, W]` in [-1, 1] to moments `[N, 2·4, H/8, W/8]`, mean then log-variance
/// (videocrafter.md 3).
public struct ImageAutoencoderEncoder: ImageNetwork {
  public let config: ImageAutoencoderConfig
  /// Pixels that go through together, unless one image has more: a frame of VideoCrafter2.
  public var pixelsAtOnce = 320 * 512
  public var convIn: Convolution
  var down: [AutoencoderLevel]
  public var middle: MiddleBlock
  public var normOut: GroupNorm
  public var convOut: Convolution
  public var quant: Convolution

  public struct Saved: Sendable { let images: ImageSaved<PassSaved> }
  public struct PassSaved: Sendable {
    let convIn: Convolution.Saved, down: [AutoencoderLevel.Saved], middle: MiddleBlock.Saved,
      normOut: GroupNorm.Saved, convOut, quant: Convolution.Saved
  }

  public init(_ c: ImageAutoencoderConfig, from source: ParameterSource) throws {
    config = c
    let channels = c.levelChannels
    let groups = c.normNumGroups
    convIn = try .image("encoder.conv_in", c.inChannels, c.channels, kernel: 3, from: source)
    down = try channels.indices.map { i in
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
    middle = try MiddleBlock(
      "encoder.mid", channels.last!, groups: groups, family: .image, from: source)
    normOut = try GroupNorm(
      "encoder.norm_out", channels.last!, groups: groups, epsilon: 1e-6, silu: true, from: source)
    convOut = try .image(
      "encoder.conv_out", channels.last!, 2 * c.zChannels, kernel: 3, from: source)
    quant = try .image(
      "quant_conv", 2 * c.zChannels, 2 * c.embedDim, kernel: 1, from: source)
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
    y: Tensor, saved: PassSaved
  ) {
    var (h, cs) = convIn.forward(x, in: work)
    var saved: [AutoencoderLevel.Saved] = []
    for level in down {
      let (y, s) = level.forward(h, keeping: keeping, in: work)
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
