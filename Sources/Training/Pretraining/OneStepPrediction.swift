public import Diffusion
public import Models
public import Pipelines
public import TensorRuntime

/// What a generator makes of a clip on the way: its latent, noised to a level σ, taken to clean
/// data in one step (algorithm.md 7.3) and decoded. The direct step shows such pictures to the
/// rewards: near σ = 0 the clip, near σ = 1 a blur of what the caption asks for.
public struct OneStepPrediction: Sendable {
  let encoder: AutoencoderEncoder, decoder: LatentDecoder, transformer: VideoTransformer,
    prompts: PromptEncoder
  /// Levels are shift u / (1 + (shift - 1) u), u uniform: those of post-training.
  let shift: Double

  public init(_ folder: GeneratorFolder) throws {
    let config = try folder.autoencoderConfig()
    (encoder, transformer, prompts) = (
      try folder.encoder(), try folder.transformer(), try folder.promptEncoder()
    )
    decoder = LatentDecoder(try folder.decoder(), scalingFactor: config.scalingFactor)
    shift = try folder.scheduler().shift
  }
  /// Clips `[B, T, 3, H, W]` in [0, 1] as the generator sees them under `captions`, each at a level
  /// of its own.
  public func callAsFunction(
    _ clips: Tensor, _ captions: [String], levels: inout RandomStream, noise: RandomStream,
    in work: borrowing Workspace
  ) -> Tensor {
    let mean = LatentPosterior(
      encoder.forward(PixelRange.centered(clips, in: work), in: work).y, in: work
    ).mean
    let z = work.scaled(mean, by: decoder.scalingFactor)
    let sigmas = captions.map { _ in NoiseSchedule.shifted(levels.uniform(), shift) }
    let x = work.noised(z, noise.normal(z.shape, in: work), sigmas: sigmas)
    let guidance =
      transformer.config.guidanceEmbeds
      ? captions.map { _ in Float(FlowSampler().embeddedGuidance) } : nil
    let v = transformer(
      x, times: sigmas.map { Float(1000 * $0) }, prompts(captions, in: work), guidance: guidance,
      in: work)
    return decoder(work.flowStep(x, velocity: v, from: sigmas, to: sigmas.map { _ in 0 }), in: work)
  }
}
