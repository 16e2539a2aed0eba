public import Models
public import TensorRuntime

/// Turns noise into scaled latents with a generator's network.
public protocol LatentSampler: Sendable {
  /// Number of steps.
  var steps: Int { get }
  /// Classifier-free guidance, or the guidance that a distilled network embeds.
  var guidanceScale: Double { get set }
  /// Whether an unconditional prompt is used.
  var usesUnconditional: Bool { get }
  /// Scaled latents from noise `[B, C, T, H, W]`. `stepNoise(k)` is the noise that step k adds, for
  /// samplers that add some. `each` is called with the state after every step.
  func sample(
    _ model: some VideoDenoiser, noise: Tensor, _ prompt: PromptEmbedding,
    unconditional: PromptEmbedding?, stepNoise: (Int, borrowing Workspace) -> Tensor,
    in work: borrowing Workspace, each: (Int, Tensor) -> Void
  ) -> Tensor
}

extension LatentSampler {
  /// Scaled latents for captions. The empty prompt is the unconditional one. Sample i has noise of
  /// its own for each step, of `seed` and `first` + i.
  public func sample(
    _ model: some VideoDenoiser, noise: Tensor, captions: [String], _ prompts: any PromptEmbedder,
    seed: UInt64 = 0, first: Int = 0, in work: borrowing Workspace
  ) -> Tensor {
    sample(
      model, noise: noise, prompts(captions, in: work),
      unconditional: usesUnconditional ? prompts(captions.map { _ in "" }, in: work) : nil,
      seed: seed, first: first, in: work)
  }
  public func sample(
    _ model: some VideoDenoiser, noise: Tensor, _ prompt: PromptEmbedding,
    unconditional: PromptEmbedding? = nil, seed: UInt64 = 0, first: Int = 0,
    in work: borrowing Workspace
  ) -> Tensor {
    let shape = Shape(noise.shape.dims.dropFirst())
    return sample(
      model, noise: noise, prompt, unconditional: unconditional,
      stepNoise: { step, work in
        work.stacked(
          (first..<first + noise.shape[0]).map {
            RandomStream(seed: seed, .rollout, step: step, sample: $0).normal(shape, in: work)
          })
      }, in: work, each: { _, _ in })
  }
}
