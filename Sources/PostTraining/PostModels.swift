public import Diffusion
public import Models
public import Pipelines
public import Rewards
public import TensorRuntime
import Training

/// The models from which a post-training run starts. The student starts as a copy of the teacher.
public struct PostModels<Model: VideoDenoiser>: Sendable {
  public var teacher: Model
  public let process: GenerativeProcess
  public var decoder: LatentDecoder
  public var reward: RewardModel?
  /// Embeds captions for the generator.
  public var prompts: any PromptEmbedder
  public init(
    teacher: Model, process: GenerativeProcess, decoder: LatentDecoder, reward: RewardModel?,
    prompts: any PromptEmbedder
  ) {
    (self.teacher, self.process, self.decoder) = (teacher, process, decoder)
    (self.reward, self.prompts) = (reward, prompts)
  }
}

/// Scaled latents with their captions, and the choice of those that a step uses.
public struct LatentPool: Sendable {
  /// `[N, C, n, h, w]`
  public var latents: Tensor
  public var captions: [String]
  public init(latents: Tensor, captions: [String]) {
    precondition(
      latents.shape[0] == captions.count, "\(captions.count) captions for latents \(latents.shape)")
    (self.latents, self.captions) = (latents, captions)
  }
  public var count: Int { captions.count }
  func rows(_ indices: [Int], in work: borrowing Workspace) -> Tensor {
    work.gather(latents.reshaped(Shape(count, latents.count / count)), indices.map { Int32($0) })
      .reshaped(Shape([indices.count] + latents.shape.dims.dropFirst()))
  }

  /// The generator's own samples for `captions`, in batches of 64, shared out over the ranks.
  public static func sampled(
    _ model: some VideoDenoiser, _ sampler: any LatentSampler, captions: [String], shape: [Int],
    prompts: any PromptEmbedder, noise: RandomStream, seed: UInt64, in work: borrowing Workspace
  ) throws -> LatentPool {
    let all = noise.normal(Shape([captions.count] + shape), in: work)
    var latents = work.tensor(all.shape)
    func rows(_ block: Int) -> Range<Int> { 64 * block..<min(64 * block + 64, captions.count) }
    try BlockShare.run((captions.count + 63) / 64, in: work) {
      [(Shape([rows($0).count] + shape), .f32)]
    } body: { block, work in
      let z = sampler.sample(
        model, noise: work.copy(all.slice(rows(block))), captions: Array(captions[rows(block)]),
        prompts, seed: seed, first: 64 * block, in: work)
      return [z]
    } take: { block, z, work in
      work.place(z[0], into: &latents, axis: 0, at: 64 * block)
    }
    return LatentPool(latents: latents, captions: captions)
  }
}
