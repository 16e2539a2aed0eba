public import Layers
public import TensorRuntime

/// What a generator's network is told of the prompts of a batch.
public struct PromptEmbedding: Sendable {
  /// Text states `[B, L, width]`, right-padded, and the number of valid ones of each sample.
  public var states: Tensor
  public var counts: [Int32]
  /// `[B, width]`, for networks that read a pooled vector.
  public var pooled: Tensor?
  /// Frames a second, and the motion scale of each sample, for networks that embed them.
  public var framesPerSecond: Float = 8
  public var motion: [Float]?
  public init(states: Tensor, counts: [Int32], pooled: Tensor? = nil) {
    (self.states, self.counts, self.pooled) = (states, counts, pooled)
  }
}

/// A generator's network: it predicts the velocity or the noise of noised latents.
///
/// Shapes: latents `[B, C, T, H, W]` and the prediction alike.
public protocol VideoDenoiser: AdaptableNetwork {
  associatedtype Config: ModelConfig
  associatedtype Saved: Sendable
  init(_ config: Config, from source: ParameterSource) throws
  var config: Config { get }
  /// Its folder in a generator directory, and the class in `config.json`.
  static var component: (folder: String, kind: String) { get }
  /// Whether the guidance scale is an input.
  var embedsGuidance: Bool { get }
  /// Channels of the latents, and by what their frames, H and W must be divisible.
  var latentChannels: Int { get }
  var latentDivisors: SIMD3<Int> { get }
  /// Width of the text states, and of the pooled vector; nil: none is read.
  var textWidth: Int { get }
  var pooledWidth: Int? { get }
  /// Rows of latents `[C, n, h, w]` that processes can share, and heads of attention; nil: these
  /// networks are not cut into strips (`RowShare`).
  func shared(latentShape shape: [Int]) -> (rows: Int, heads: Int)?
  /// A copy to be distilled from this network: with what a student needs more, which changes
  /// nothing yet.
  func student() throws -> Self

  /// The prediction at `times`, from 0 (data) to about 1000 (noise). `guidance` is one number a
  /// sample, or nil. Processes that share the rows all give the whole x, and all get the whole
  /// prediction.
  func predict(
    _ x: Tensor, times: [Float], _ prompt: PromptEmbedding, guidance: [Float]?,
    keeping: Keeping, sharing share: RowShare, in work: borrowing Workspace
  ) -> (output: Tensor, saved: Saved)
  /// Adds to the gradients of the trainable parameters. What was kept of a part of the network is
  /// released when its gradients are done, unless the caller holds it too.
  mutating func predictBackward(
    _ dOutput: Tensor, _ s: consuming Saved, in work: borrowing Workspace)
}

extension VideoDenoiser {
  public func student() throws -> Self { self }
  public func shared(latentShape shape: [Int]) -> (rows: Int, heads: Int)? { nil }
  public func predict(
    _ x: Tensor, times: [Float], _ prompt: PromptEmbedding, guidance: [Float]?,
    keeping: Keeping, in work: borrowing Workspace
  ) -> (output: Tensor, saved: Saved) {
    predict(
      x, times: times, prompt, guidance: guidance, keeping: keeping, sharing: .whole, in: work)
  }
  /// The prediction alone.
  public func callAsFunction(
    _ x: Tensor, times: [Float], _ prompt: PromptEmbedding, guidance: [Float]? = nil,
    sharing share: RowShare = .whole, in work: borrowing Workspace
  ) -> Tensor {
    predict(
      x, times: times, prompt, guidance: guidance, keeping: .nothing, sharing: share, in: work
    ).output
  }
}

extension VideoTransformer: VideoDenoiser {
  public static let component = (folder: "transformer", kind: "HunyuanVideoTransformer3DModel")
  public var embedsGuidance: Bool { config.guidanceEmbeds }
  public var latentChannels: Int { config.inChannels }
  public var latentDivisors: SIMD3<Int> { config.patch }
  public var textWidth: Int { config.textEmbedDim }
  public var pooledWidth: Int? { config.pooledProjectionDim }
  public func shared(latentShape shape: [Int]) -> (rows: Int, heads: Int)? {
    let patch = config.patch
    return (
      shape.dropFirst().reduce(1, *) / (patch.x * patch.y * patch.z), config.numAttentionHeads
    )
  }

  public func predict(
    _ x: Tensor, times: [Float], _ prompt: PromptEmbedding, guidance: [Float]?,
    keeping: Keeping, sharing share: RowShare, in work: borrowing Workspace
  ) -> (output: Tensor, saved: Saved) {
    let (velocity, saved) = forward(
      x, times: times, prompt, guidance: guidance, keeping: keeping, sharing: share, in: work)
    return (velocity, saved)
  }
  public mutating func predictBackward(
    _ dOutput: Tensor, _ s: consuming Saved, in work: borrowing Workspace
  ) { backward(dOutput, s, in: work) }
}

extension VideoUNet: VideoDenoiser {
  public static let component = (folder: "unet", kind: "VideoCrafterUNet")
  public var embedsGuidance: Bool { config.timeCondProjDim != nil }
  /// With a guidance embedding of 256 numbers, whose projection is zero (D-46).
  public func student() throws -> VideoUNet {
    if embedsGuidance { return self }
    var wide = config
    wide.timeCondProjDim = 256
    var own: [String: Tensor] = [:]
    readParameters { own[$0.name] = $0.value }
    return try VideoUNet(
      wide,
      from: ParameterSource { name, shape, _, _ in own[name] ?? .zeros(shape) })
  }
  public var latentChannels: Int { config.inChannels }
  public var latentDivisors: SIMD3<Int> {
    SIMD3(1, config.spatialDivisor, config.spatialDivisor)
  }
  public var textWidth: Int { config.contextDim }
  public var pooledWidth: Int? { nil }

  public func predict(
    _ x: Tensor, times: [Float], _ prompt: PromptEmbedding, guidance: [Float]?,
    keeping: Keeping, sharing share: RowShare, in work: borrowing Workspace
  ) -> (output: Tensor, saved: Saved) {
    precondition(share.strips == 1, "a UNet is not cut into strips")
    let condition = Condition(
      text: prompt.states, fps: times.map { _ in prompt.framesPerSecond },
      guidance: guidance?.map { Double($0) }, motion: prompt.motion?.map { Double($0) })
    let (noise, saved) = forward(
      x, times: times, condition, keeping: keeping, in: work)
    return (noise, saved)
  }
  public mutating func predictBackward(
    _ dOutput: Tensor, _ s: consuming Saved, in work: borrowing Workspace
  ) { backward(dOutput, s, in: work) }
}
