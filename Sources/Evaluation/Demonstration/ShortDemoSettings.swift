import Diffusion
public import Files
public import PostTraining
public import TensorRuntime
import Training

/// The settings of `demo --generator short`: a small UNet is distilled to few steps, with the
/// rewards and without them.
public struct ShortDemoSettings: Settings {
  @Setting(.seed, "Seed of both runs.") public var seed = 1
  @Setting(
    .choice(Machine.ComputeType.self),
    "Operands of products in the whole demo (its parts' own keys are not looked at).") public
    var compute_dtype = Machine.ComputeType.bf16
  @Setting(.whole(1...1_000_000), "Held-out prompts of every evaluation.") public var prompts = 256
  @Setting(.seed, "Names the prompts and their noise.") public var evaluation_seed = 20_261_203
  @Setting(.whole(1...1000), "DDIM steps of the generator before.") public var base_steps = 16
  @Setting(.guidance, "Classifier-free guidance of the generator before.") public
    var base_guidance = 2.0
  @Setting(.whole(1...50), "Steps of the distilled generators.") public var few_steps = 4
  @Setting(.guidance, "Guidance weight that they embed.") public var embedded_guidance = 2.0
  @Setting(.whole(1...10_000), "Prompts shown in the report, the first ones.") public var shown = 12
  public var post = PostSettings.published(for: .diffusion(.init()))

  public init() {
    (post.steps, post.batch, post.accumulation, post.learning_rate, post.rate_schedule) = (
      320, 16, 1, 4e-4, .cosine
    )
    post.lora.enabled = false
    (post.clips, post.guidance.range, post.reward.frames, post.reward.crop) = (
      1024, [1, 4], 0, .center
    )
    (post.weights.quality, post.weights.semantic) = (0.1, 0.2)
    (post.ema.enabled, post.ema.decay, post.ema.export) = (true, 0.98, true)
    (post.beta2, post.warmup) = (0.99, 10)
  }
  /// The same steps by consistency alone.
  public var distillation: PostSettings {
    var s = post
    (s.weights.quality, s.weights.semantic) = (0, 0)
    return s
  }
  /// Gives the seed to both runs, and refuses combinations that cannot work.
  public mutating func settle() throws {
    post.seed = seed
    try post.check(hasRewardModel: true)
    try post.check(for: .diffusion(.init()))
    if post.objective != .direct || post.post.latents != .data {
      throw ConfigurationError(
        "the demo distils directly, on clips of the world", "post.objective, post.post.latents",
        "use direct and data, or train post")
    }
  }
}
