public import Diffusion
public import Models
public import TensorRuntime

/// A generator as it is sampled: the network, the sampler, and the decoder of its latents. Prompts
/// are embedded outside.
public struct VideoGenerator: Sendable {
  public var denoiser: any VideoDenoiser
  public var sampler: any LatentSampler
  public let decoder: LatentDecoder
  /// Latents of one clip, `[C, n, h, w]`.
  public let latentShape: [Int]

  public init(
    _ denoiser: any VideoDenoiser, _ sampler: any LatentSampler, _ decoder: LatentDecoder,
    latentShape: [Int]
  ) {
    (self.denoiser, self.sampler, self.decoder, self.latentShape) = (
      denoiser, sampler, decoder, latentShape
    )
  }
  /// Scaled latents of prompts, from noise `[B, C, n, h, w]`. Sample i has the noise of its steps
  /// from `seed` and `first` + i.
  public func latents(
    _ noise: Tensor, _ prompt: PromptEmbedding, unconditional: PromptEmbedding? = nil,
    seed: UInt64 = 0, first: Int = 0, in work: borrowing Workspace
  ) -> Tensor {
    func sample(_ model: some VideoDenoiser, in work: borrowing Workspace) -> Tensor {
      sampler.sample(
        model, noise: noise, prompt, unconditional: unconditional, seed: seed, first: first,
        in: work)
    }
    return sample(denoiser, in: work)
  }
  /// The same for captions; the empty prompt is the unconditional one.
  public func latents(
    _ noise: Tensor, captions: [String], _ prompts: any PromptEmbedder, seed: UInt64 = 0,
    first: Int = 0, in work: borrowing Workspace
  ) -> Tensor {
    func sample(_ model: some VideoDenoiser, in work: borrowing Workspace) -> Tensor {
      sampler.sample(
        model, noise: noise, captions: captions, prompts, seed: seed, first: first, in: work)
    }
    return sample(denoiser, in: work)
  }
}
