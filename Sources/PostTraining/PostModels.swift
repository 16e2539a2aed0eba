public import Diffusion
public import Models
public import Pipelines
public import Rewards
public import TensorRuntime

/// The models from which a post-training run starts. The student starts as a copy of the teacher.
public struct PostModels: Sendable {
  public var teacher: VideoTransformer
  public var decoder: LatentDecoder
  public var reward: RewardModel?
  /// Embeds captions for the generator.
  public var prompts: PromptEncoder
  public init(
    teacher: VideoTransformer, decoder: LatentDecoder, reward: RewardModel?, prompts: PromptEncoder
  ) {
    (self.teacher, self.decoder, self.reward, self.prompts) = (teacher, decoder, reward, prompts)
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

  /// The generator's own samples for `captions`, in batches of 64.
  public static func sampled(
    _ model: VideoTransformer, _ sampler: FlowSampler, captions: [String], shape: [Int],
    prompts: PromptEncoder, noise: RandomStream, in work: borrowing Workspace
  ) -> LatentPool {
    let all = noise.normal(Shape([captions.count] + shape), in: work)
    var latents = work.tensor(all.shape)
    for start in stride(
      from: 0, to: min(captions.count, work.rounds((captions.count + 63) / 64) * 64), by: 64)
    {
      let range = start..<min(start + 64, captions.count)
      let z = sampler.sample(
        model, noise: work.copy(all.slice(range)), captions: Array(captions[range]), prompts,
        in: work)
      work.place(z, into: &latents, axis: 0, at: start)
    }
    return LatentPool(latents: latents, captions: captions)
  }
}
