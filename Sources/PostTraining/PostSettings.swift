public import Configuration
import Diffusion
import Optimizers
import Models
public import Rewards
import Transport

/// What `train post` can be told. The defaults are the published recipe (algorithm.md 7, 8): data latents, every level,
/// consistency and both rewards with weight 1, LoRA on the attention and projection layers.
public struct PostSettings: TrainingSettings {
  public enum Latents: String, Codable, Sendable, CaseIterable {
    /// Latents of real clips, or of the world's.
    case data
    /// The generator's own samples.
    case `self`
  }
  public struct Post: Codable, Sendable, Equatable {
    public var latents = Latents.data
    /// First and last level index drawn (of the 50); [0, 49] is every level.
    public var index_range = [0, 49]
    /// Weight of mean (v_student - v_teacher)².
    public var anchor_weight = 0.0
    /// Training ends once the student's velocity departs from the teacher's by this share of its rms, averaged over about ten steps
    /// (0 = never; needs the anchor).
    public var departure_limit = 0.0
    /// Steps between new own samples (0 = never again), and how many.
    public var refresh = 0, pool = 768
    /// How own samples are drawn.
    public var sampler_steps = 16, sampler_shift = 3.0, sampler_guidance = 1.0
  }
  public struct Lora: Codable, Sendable, Equatable {
    public var enabled = true
    public var rank = 256, alpha = 32.0
    public var targets: [String] = VideoTransformer.defaultTargets
  }
  public struct Weights: Codable, Sendable, Equatable { public var consistency = 1.0, quality = 1.0, semantic = 1.0, decay = 0.0 }
  public struct Schedule: Codable, Sendable, Equatable {
    public var shift = 17.0, levels = 50, end = "first"
    /// `step-phases`, comma-separated.
    public var phases = "4000-1"
  }
  public struct Guidance: Codable, Sendable, Equatable {
    public var student = 6016.0, teacher = 6016.0
    /// v + w (v - v_uncond) for the teacher of the consistency term; 0 leaves the guidance to the embedding.
    public var teacher_cfg = 0.0
  }
  public struct Reward: Codable, Sendable, Equatable {
    public var use_ot = true
    /// random | center
    public var crop = "random"
    public var grad_scale = 1.0
    /// Names of the transport options of algorithm.md 4.7.
    public var gamma = 0.2, eta = 0.2, epsilon = 0.05, mass = 0.9
  }
  public struct EMA: Codable, Sendable, Equatable {
    public var enabled = false, decay = 0.95
    /// Whether the averaged student is what is exported.
    public var export = false
  }
  public struct VAE: Codable, Sendable, Equatable { public var tiling = false, tiling_style = "original", chunk_latents = 0, recompute = false }
  public struct GRPO: Codable, Sendable, Equatable {
    /// rollout | single_step
    public var mode = "rollout"
    public var generations = 24, best_of = 8, sampling_steps = 16, eta = 0.25, shift = 5.0, timestep_fraction = 0.6
    public var clip = 1e-4, advantage_clip = 5.0, quality = 1.0, semantic = 1.0
    public var same_noise = true
    /// Rollout mode: add the consistency loss, with `weights.consistency`, on one data latent for each kept sample (D-21).
    public var use_cd = true
  }
  /// direct | grpo
  public var objective = "direct"
  public var products = "f32", moments = "f32"
  public var seed = 42
  public var steps = 256, batch = 1, accumulation = 32
  public var learning_rate = 1e-6, warmup = 0
  /// constant | linear | cosine
  public var rate_schedule = "constant"
  public var weight_decay = 0.001, beta2 = 0.999, max_grad_norm = 1.0
  public var huber_c = 0.001
  public var post = Post(), lora = Lora(), weights = Weights(), schedule = Schedule(), guidance = Guidance(), reward = Reward(), ema = EMA(), vae = VAE(), grpo = GRPO()
  /// Clips of the world that are encoded for data latents.
  public var clips = 1024
  public var recompute = false
  public var checkpoint_every = 64, sample_every = 0
  public init() {}

  /// Combinations that cannot work, found before any work starts (algorithm.md 7.5, 5.2).
  public func check(hasRewardModel: Bool) throws {
    func fail(_ what: String, _ place: String, _ mend: String) -> ConfigurationError { ConfigurationError(what, place, mend) }
    let rewarded = weights.quality > 0 || weights.semantic > 0
    if weights.quality < 0 || weights.semantic < 0 || weights.consistency < 0 || weights.decay < 0 { throw fail("a loss weight is negative", "weights", "use 0 to switch a term off") }
    if !rewarded && weights.consistency == 0 && weights.decay == 0 && post.anchor_weight == 0 { throw fail("nothing to train on: every weight is 0", "weights", "give at least one term a weight") }
    if rewarded && !hasRewardModel { throw fail("rewards need a reward model", "weights", "give --reward DIR, or set weights.quality and weights.semantic to 0") }
    if post.index_range.count != 2 || post.index_range[0] < 0 || post.index_range[1] < post.index_range[0] || post.index_range[1] >= schedule.levels {
      throw fail("post.index_range needs [first, last] within 0...\(schedule.levels - 1)", "post.index_range", "for example [4, 29]")
    }
    if schedule.levels < 1 || 1000 % schedule.levels != 0 { throw fail("\(schedule.levels) levels do not divide 1000", "schedule.levels", "use 50") }
    if NoiseSchedule.End(rawValue: schedule.end) == nil { throw fail("unknown end level \(schedule.end)", "schedule.end", "use first or zero") }
    if PhaseSchedule(schedule.phases) == nil { throw fail("not a phase schedule", "schedule.phases", "write it as 4000-1") }
    if lora.enabled && (lora.rank < 1 || !(lora.alpha > 0) || lora.targets.isEmpty) { throw fail("LoRA needs a positive rank, a positive alpha and targets", "lora", "correct them, or set lora.enabled to false") }
    if steps < 1 || batch < 1 || accumulation < 1 { throw fail("steps, batch and accumulation must be positive", "configuration", "correct them") }
    if !["constant", "linear", "cosine"].contains(rate_schedule) { throw fail("unknown schedule \(rate_schedule)", "rate_schedule", "use constant, linear or cosine") }
    if !["random", "center"].contains(reward.crop) { throw fail("unknown crop \(reward.crop)", "reward.crop", "use random or center") }
    if !["direct", "grpo"].contains(objective) { throw fail("unknown objective \(objective)", "objective", "use direct or grpo") }
    if !["rollout", "single_step"].contains(grpo.mode) { throw fail("unknown mode \(grpo.mode)", "grpo.mode", "use rollout or single_step") }
    if objective == "grpo" && !rewarded { throw fail("grpo needs a reward", "weights", "give weights.quality or weights.semantic a weight") }
    if post.departure_limit > 0 && post.anchor_weight == 0 { throw fail("a departure limit needs the anchor, which measures it", "post.departure_limit", "give post.anchor_weight a value") }
    if objective == "grpo" && grpo.generations < 2 { throw fail("a group needs at least two generations", "grpo.generations", "use 2 or more") }
    if Tiling.Style(rawValue: vae.tiling_style) == nil { throw fail("unknown tiling style \(vae.tiling_style)", "vae.tiling_style", "use original or diffusers") }
    if (vae.tiling || vae.recompute) && !rewarded { throw fail("tiling and recomputation of the decoder act on rewards only", "vae", "switch them off, or a reward on") }
    if post.latents == .`self` && (post.pool < batch) { throw fail("a pool of \(post.pool) own samples is smaller than a batch", "post.pool", "raise it") }
  }
}

extension PostSettings {
  /// The learning rate of a step (0-based).
  func rate(step: Int) -> Double {
    let schedule: LearningRateSchedule = rate_schedule == "linear" ? .linear(floor: 0) : rate_schedule == "cosine" ? .cosine(floor: 0) : .constant
    return schedule.rate(learning_rate, step: step, of: steps, warmup: warmup)
  }
  /// The rewards this run computes.
  public var rewardOptions: RewardOptions {
    var o = RewardOptions()
    (o.useTransport, o.quality, o.semantic) = (reward.use_ot, weights.quality > 0, weights.semantic > 0)
    (o.plans.gamma, o.plans.eta, o.plans.epsilon, o.plans.mass) = (reward.gamma, reward.eta, reward.epsilon, reward.mass)
    return o
  }
}
