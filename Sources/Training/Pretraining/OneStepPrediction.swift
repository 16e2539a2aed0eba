import Diffusion
import Models
public import Pipelines
public import TensorRuntime

/// A generator's one-step prediction of a clip: its latent is noised to a level σ, taken to clean
/// data in one step (algorithm.md 7.3) and decoded. The direct step shows such pictures to the
/// rewards. Near σ = 0 the prediction is the clip, near σ = 1 a blur of what the caption asks for.
public struct OneStepPrediction: Sendable {
  let encoder: LatentEncoder, decoder: LatentDecoder, denoiser: any VideoDenoiser,
    prompts: any PromptEmbedder
  let process: GenerativeProcess

  public init(_ folder: GeneratorFolder) throws {
    (encoder, decoder) = (try folder.autoencoder.encoder(), try folder.autoencoder.decoder())
    (denoiser, prompts, process) = (
      try folder.denoiser(), try folder.promptEncoder(), try folder.process()
    )
  }
  /// The one-step predictions of clips `[B, T, 3, H, W]` in [0, 1] under `captions`. Each clip has
  /// its own level.
  public func callAsFunction(
    _ clips: Tensor, _ captions: [String], levels: inout RandomStream, noise: RandomStream,
    in work: borrowing Workspace
  ) -> Tensor {
    let z = work.scaled(encoder(clips, in: work), by: decoder.scalingFactor)
    // Uniform, with the shift of the sampler, as in post-training.
    var shift = 1.0
    if case .flow(let own) = process { shift = own }
    let at = captions.map { _ in process.level(at: levels.uniform(), shift: shift) }
    let x = work.noised(z, noise.normal(z.shape, in: work), at: at)
    let guidance =
      denoiser.embedsGuidance
      ? captions.map { _ in Float(FlowSampler().embeddedGuidance) } : nil
    func output(_ model: some VideoDenoiser, in work: borrowing Workspace) -> Tensor {
      model(
        x, times: at.map(\.time), prompts(captions, in: work), guidance: guidance, in: work)
    }
    return decoder(work.mixed(at.map(\.clean), x, output(denoiser, in: work)), in: work)
  }
}
