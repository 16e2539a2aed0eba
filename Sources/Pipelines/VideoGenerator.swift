public import Diffusion
public import Models

/// A generator as it is sampled: the network, the sampler's settings, and the decoder of its
/// latents. Prompts are embedded outside.
public struct VideoGenerator: Sendable {
  public var transformer: VideoTransformer
  public var sampler: FlowSampler
  public let decoder: LatentDecoder
  /// Latents of one clip, `[C, n, h, w]`.
  public let latentShape: [Int]

  public init(
    _ transformer: VideoTransformer, _ sampler: FlowSampler, _ decoder: LatentDecoder,
    latentShape: [Int]
  ) {
    (self.transformer, self.sampler, self.decoder, self.latentShape) = (
      transformer, sampler, decoder, latentShape
    )
  }
}
