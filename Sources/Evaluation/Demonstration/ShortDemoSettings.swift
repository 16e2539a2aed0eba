import Diffusion
public import Files
public import PostTraining
public import TensorRuntime
import Training

/// The settings of `demo --generator short`: a small UNet is distilled to few steps, and the
/// distilled one is then trained on both rewards.
public struct ShortDemoSettings: Settings {
  @Setting(.seed, "Seed of all runs.") public var seed = 1
  @Setting(
    .choice(Machine.ComputeType.self),
    "Operands of products in the whole demo (its parts' own keys are not looked at).") public
    var compute_dtype = Machine.ComputeType.bf16
  @Setting(.whole(1...1_000_000), "Held-out prompts of every evaluation.") public var prompts = 256
  @Setting(.seed, "Names the prompts and their noise.") public var evaluation_seed = 20_261_203
  @Setting(.whole(1...1000), "DDIM steps of the generator before.") public var base_steps = 16
  @Setting(.guidance, "Classifier-free guidance of the generator before.") public
    var base_guidance = 2.0
  @Setting(
    .whole(1...50),
    """
    Steps of the distilled generators and of own samples (post.post.sampler_steps is not looked at).
    """) public var few_steps = 4
  @Setting(
    .guidance,
    "Guidance weight that they embed (post.post.sampler_guidance is not looked at).") public
    var embedded_guidance = 2.0
  @Setting(.whole(1...10_000), "Prompts shown in the report, the first ones.") public var shown = 12
  /// Consistency alone, on clips of the world.
  public var distillation = Self.small(steps: 320, rate: 4e-4)
  /// Consistency and rewards, on samples of the distilled generator itself. Of noised clips of the
  /// world the network sees too much: rewards of its predictions rise, those of its samples do not.
  public var post = Self.small(steps: 160, rate: 1e-4)

  public init() {
    (distillation.weights.quality, distillation.weights.semantic) = (0, 0)
    (post.weights.quality, post.weights.semantic) = (0.5, 0.5)
    (post.post.latents, post.post.pool, post.post.refresh) = (.`self`, 256, 20)
    // Half of the levels, which decide what a clip shows.
    post.post.index_range = [25, 49]
  }
  private static func small(steps: Int, rate: Double) -> PostSettings {
    var s = PostSettings.published(for: .diffusion(.init()))
    (s.steps, s.batch, s.accumulation, s.learning_rate, s.rate_schedule) = (
      steps, 16, 1, rate, .cosine
    )
    s.lora.enabled = false
    (s.clips, s.guidance.range, s.reward.frames, s.reward.crop) = (1024, [1, 4], 0, .center)
    (s.ema.enabled, s.ema.decay, s.ema.export) = (true, 0.98, true)
    (s.beta2, s.warmup) = (0.99, 10)
    return s
  }
  /// The steps of `post` without the rewards.
  public var control: PostSettings {
    var s = post
    (s.weights.quality, s.weights.semantic) = (0, 0)
    return s
  }
  /// Gives the seed and the sampler to all runs, and refuses combinations that cannot work.
  public mutating func settle() throws {
    (distillation.seed, post.seed) = (seed, seed)
    (post.post.sampler_steps, post.post.sampler_guidance) = (few_steps, embedded_guidance)
    if distillation.post.fps != post.post.fps
      || distillation.schedule.levels != post.schedule.levels
    {
      throw ConfigurationError(
        "one generator with two frame rates or schedules",
        "distillation.post.fps, distillation.schedule.levels", "give both trainings the same")
    }
    try distillation.check(hasRewardModel: false)
    try post.check(hasRewardModel: true)
    for s in [distillation, post] { try s.check(for: .diffusion(.init())) }
    if distillation.objective != .direct || distillation.post.latents != .data {
      throw ConfigurationError(
        "the demo distils directly, on clips of the world",
        "distillation.objective, distillation.post.latents", "use direct and data, or train post")
    }
    if post.objective != .direct || post.post.latents != .`self` {
      throw ConfigurationError(
        "the demo trains directly on the generator's own samples",
        "post.objective, post.post.latents", "use direct and self, or train post")
    }
  }
}
