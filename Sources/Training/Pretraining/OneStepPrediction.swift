import Diffusion
import Models
public import Pipelines
public import TensorRuntime

/// A generator's one-step prediction of a clip: its latent is noised to a level σ, taken to clean
/// data in one step (algorithm.md 7.3) and decoded. The direct step shows such pictures to the
/// rewards. Near σ = 0 the prediction is the clip, near σ = 1 a blur of what the caption asks for.
public struct OneStepPrediction: Sendable {
  let encoder: AutoencoderEncoder, decoder: LatentDecoder, transformer: VideoTransformer,
    prompts: PromptEncoder
  /// Levels are shift u / (1 + (shift - 1) u) with u uniform, as in post-training.
  let shift: Double

  public init(_ folder: GeneratorFolder) throws {
    let config = try folder.autoencoderConfig()
    (encoder, transformer, prompts) = (
      try folder.encoder(), try folder.transformer(), try folder.promptEncoder()
    )
    decoder = LatentDecoder(try folder.decoder(), scalingFactor: config.scalingFactor)
    shift = try folder.scheduler().shift
  }
  /// The one-step predictions of clips `[B, T, 3, H, W]` in [0, 1] under `captions`. Each clip has
  /// its own level.
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
