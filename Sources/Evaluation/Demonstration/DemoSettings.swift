public import Files
public import PostTraining
public import TensorRuntime
public import Training
import World

/// The demo's default settings. They were chosen before the held-out prompts of its evaluation were
/// first used (tools/embedded/README.md).
public struct DemoSettings: Settings {
  @Setting(.seed, "Seed of post-training and map.") public var seed = 1
  @Setting(
    .choice(Machine.ComputeType.self),
    "Operands of products in the whole demo (its parts' own keys are not looked at).",
    formerly: "products") public var compute_dtype = Machine.ComputeType.bf16
  @Setting(.whole(1...1_000_000), "Held-out prompts of every evaluation.") public var prompts = 512
  @Setting(.seed, "Names the prompts and their noise.") public var evaluation_seed = 20_261_203
  @Setting(.whole(1...10_000), "Euler steps of every evaluation.") public var sampler_steps = 16
  @Setting(
    .guidance,
    """
    Classifier-free guidance at which the generator before is best (and the control), found on \
    other prompts.
    """
  )
  public var guidance_before = 4.0
  @Setting(.guidance, "The same of the generator after.") public var guidance_after = 2.5
  @Setting(.whole(1...10_000), "Prompts shown in the report, the first ones.") public var shown = 12
  public var map = OTMapSettings()
  public var post = PostSettings()
  public init() {
    (map.steps, map.batch, map.learning_rate_map, map.learning_rate_potential, map.normalize_text) =
      (600, 128, 1e-3, 1e-3, true)
    (map.pairs, map.validation, map.hidden_potential, map.eval_every) = (4096, 1024, 128, 600)
    (post.steps, post.batch, post.accumulation, post.learning_rate, post.rate_schedule) = (
      320, 32, 1, 5e-4, .linear
    )
    (post.lora.rank, post.lora.alpha) = (32, 32)
    (
      post.post.latents, post.post.index_range, post.post.anchor_weight, post.post.pool,
      post.post.refresh
    ) = (.`self`, [4, 49], 0.03, 512, 50)
    post.schedule.shift = 3
    post.weights.consistency = 0
    post.reward.crop = .center
  }
  /// The control: the same number of steps on samples of its own, with flow matching instead of the
  /// rewards.
  public var control: PostSettings {
    var s = post
    (s.weights.quality, s.weights.semantic, s.weights.flow, s.post.anchor_weight) = (0, 0, 1, 0)
    return s
  }

  /// GRPO instead of the direct step, which `bench step --preset demo-grpo` measures.
  public mutating func useGroups() {
    post.objective = .grpo
    (
      post.grpo.prompts, post.grpo.generations, post.grpo.best_of, post.grpo.sampling_steps,
      post.grpo.shift, post.grpo.eta
    ) = (4, 24, 8, 12, 3, 0.3)
    (post.grpo.window, post.grpo.tail, post.grpo.chunk, post.grpo.use_cd, post.accumulation) = (
      4, 4, 48, false, 32
    )
  }

  /// Training captions of the world for the first own samples.
  public func captions(count: Int) -> [String] {
    var words = RandomStream(seed: UInt64(seed), .caption)
    return (0..<count).map {
      CaptionGrammar.caption(
        SceneSampler(.standard, seed: UInt64(seed)).training($0).description, drawing: &words)
    }
  }
  /// Gives the seed to every part, and refuses combinations that cannot work.
  public mutating func settle() throws {
    (map.seed, post.seed) = (seed, seed)
    try post.check(hasRewardModel: true)
    try map.check(pairs: map.pairs, place: "map.pairs")
    if post.objective != .direct {
      throw ConfigurationError(
        "the demo post-trains directly", "post.objective",
        "use direct, or train post --objective grpo")
    }
    if post.post.latents != .`self` {
      throw ConfigurationError(
        "the demo trains on own samples", "post.post.latents", "use self, or train post")
    }
  }
}
