public import Diffusion
public import Files
public import Layers
public import Models
public import Rewards
public import TensorRuntime
public import Training
import Transport

/// What `train post` can be told. The defaults are the published recipe (algorithm.md 7, 8): data
/// latents, every level, consistency and both rewards with weight 1, LoRA on the attention and
/// projection layers.
public struct PostSettings: TrainingSettings {
  public enum Latents: String, Codable, Sendable, CaseIterable {
    /// Latents of real clips, or of the world's.
    case data
    /// The generator's own samples.
    case `self`
  }
  public struct Post: Codable, Sendable, Equatable {
    @Setting(.choice(Latents.self), "Latents trained on: of clips, or the generator's own samples.")
    public var latents = Latents.data
    @Setting(
      .list(of: .whole(0...999), count: 2...2),
      "First and last level index drawn; [0, 49] is every level of 50.") public var index_range = [
        0, 49,
      ]
    @Setting(.weight, "Weight of mean (v_student - v_teacher)².") public var anchor_weight = 0.0
    @Setting(
      .real(0...1e6, zero: "never"),
      """
      End once the velocity departs from the teacher's by this share of its rms (mean of ten steps).
      """, formerly: "departure_limit"
    )
    public var velocity_drift_limit = 0.0
    @Setting(.every, "Steps between new own samples.") public var refresh = 0
    @Setting(
      .every,
      """
      Direct step: steps between measurements of the cosine of the two rewards' gradients (App. N).
      """
    ) public var cosine_every = 0
    @Setting(.whole(1...10_000_000), "Own samples kept.") public var pool = 768
    @Setting(.whole(1...10_000), "Steps of own samples.") public var sampler_steps = 16
    @Setting(.shift, "Schedule shift of own samples.") public var sampler_shift = 3.0
    @Setting(.guidance, "Classifier-free guidance of own samples; 1: none.") public
      var sampler_guidance = 1.0
    @Setting(
      .real(0.1...1000), "Frames a second that the network is told, if it embeds them.") public
      var fps = 8.0
  }
  public struct Lora: Codable, Sendable, Equatable {
    @Setting(.toggle, "Train low-rank adapters; otherwise every weight.") public var enabled = true
    @Setting(.whole(1...65536), "Rank of an adapter.") public var rank = 256
    @Setting(.real(above: 0, to: 1e6), "An adapter is multiplied by alpha / rank.") public
      var alpha = 32.0
    @Setting(.list(of: .text, count: 1...1000), "Names of the layers that get an adapter.") public
      var targets: [String] = VideoTransformer.defaultTargets
  }
  public struct Weights: Codable, Sendable, Equatable {
    @Setting(.weight, "Weight of the consistency loss.") public var consistency = 1.0
    @Setting(.weight, "Weight of the quality reward.") public var quality = 1.0
    @Setting(.weight, "Weight of the semantic reward.") public var semantic = 1.0
    @Setting(.weight, "Weight of mean |x|, x the predicted clean latent.") public var decay = 0.0
    @Setting(.weight, "Weight of flow matching on the latents trained on.") public var flow = 0.0
  }
  public struct Schedule: Codable, Sendable, Equatable {
    @Setting(.shift, "Shift of the levels.") public var shift = 17.0
    @Setting(.whole(1...1000), "Levels; a divisor of 1000.") public var levels = 50
    @Setting(
      .choice(NoiseSchedule.End.self),
      "Where the clean prediction ends: first table entry, or exactly 0 (D-15).")
    public var end = NoiseSchedule.End.first
    @Setting(.text, "Phases of consistency: STEP-PHASES, comma-separated.") public var phases =
      "4000-1"
  }
  public struct Guidance: Codable, Sendable, Equatable {
    @Setting(.embeddedGuidance, "Embedded guidance of the student, 1000 times the scale.") public
      var student = 6016.0
    @Setting(.embeddedGuidance, "Embedded guidance of the teacher.") public var teacher = 6016.0
    @Setting(
      .real(0...1000, zero: "off"), "The teacher of the consistency loss is v + w (v - v_uncond).")
    public var teacher_cfg = 0.0
    @Setting(
      .list(of: .real(0...1000), count: 2...2),
      "Guidance weights drawn for each sample, where the student embeds them (short video).")
    public var range = [5.0, 15.0]
  }
  public struct Reward: Codable, Sendable, Equatable {
    @Setting(.toggle, "Rewards with optimal transport, or the same model without.") public
      var use_ot = true
    public enum Crop: String, Codable, Sendable, CaseIterable { case random, center }
    @Setting(.choice(Crop.self), "Crop of the decoded clip.") public var crop = Crop.random
    @Setting(
      .whole(0...1000, zero: "all"),
      "Frames that are decoded for the rewards, where they can be decoded one by one.")
    public var frames = 8
    @Setting(.real(0...1e6), "Factor of the rewards' gradient on the clip.") public var grad_scale =
      1.0
    public enum Normalisation: String, Codable, Sendable, CaseIterable { case none, group }
    @Setting(
      .choice(Normalisation.self),
      """
      Direct step: rewards as they are, or each divided by its deviation over a micro-step \
      (adaptive weights, App. M).
      """
    )
    public var normalise = Normalisation.none
    @Setting(.weight, "Weight of the temporal distance in token transport.") public var gamma = 0.2
    @Setting(.weight, "Weight of the spatial distance in token transport.") public var eta = 0.2
    @Setting(.real(1e-6...1e6), "Entropic regularisation of token transport.") public var epsilon =
      0.05
    @Setting(.real(above: 0, to: 1), "Marginal exponent of token transport.") public var mass = 0.9
  }
  public struct EMA: Codable, Sendable, Equatable {
    @Setting(.toggle, "Keep a moving average of the student.") public var enabled = false
    @Setting(.real(0..<1), "Its decay.") public var decay = 0.95
    @Setting(.toggle, "Export the average instead of the student.") public var export = false
  }
  public struct VAE: Codable, Sendable, Equatable {
    @Setting(.toggle, "Decode in tiles.") public var tiling = false
    @Setting(.choice(Tiling.Style.self), "How tiles are cut and blended.")
    public var tiling_style = Tiling.Style.original
    @Setting(.whole(0...100_000, zero: "whole"), "Latent frames decoded at once.") public
      var chunk_latents = 0
    @Setting(
      .toggle, "Compute the decoder's activations again for its backward pass.",
      formerly: "recompute") public
      var activation_checkpointing = false
  }
  public struct Watch: Codable, Sendable, Equatable {
    @Setting(.every, "Steps between looks at a held-out reward (--watch).") public var every = 25
    @Setting(.whole(2...100_000), "Prompts sampled at a look.") public var prompts = 64
    @Setting(
      .share,
      "Share of the samples whose reward rose while the held-out one fell that is called hacking.")
    public var limit = 0.5
  }
  public struct Processes: Codable, Sendable, Equatable {
    @Setting(
      .whole(1...65536),
      """
      Micro-steps whose gradients are added to one another before they enter the tree of sums; a \
      divisor of accumulation. More take less memory, and share out over fewer ranks.
      """)
    public var leaf = 1
    @Setting(.group) public var group = 1
    @Setting(.strips) public var strips = 1
    @Setting(.sums) public var sums = GradientSums.late
    @Setting(
      .real(above: 0, to: 1e6),
      "Seconds without a sign of life of a rank after which the run is lost (status 71).")
    public var patience = 300.0
  }
  public struct GRPO: Codable, Sendable, Equatable {
    public enum Mode: String, Codable, Sendable, CaseIterable {
      case rollout
      case singleStep = "single_step"
    }
    @Setting(.choice(Mode.self), "Groups of whole rollouts, or of one step.")
    public var mode = Mode.rollout
    @Setting(.whole(2...65536), "Samples of a group.") public var generations = 24
    @Setting(
      .whole(2...65536), "Samples of a group that are trained on: the best and the worst half.")
    public var best_of = 8
    @Setting(.whole(1...65536), "Prompts of a step, a group each.") public var prompts = 1
    @Setting(.whole(2...10_000), "Steps of a rollout.") public var sampling_steps = 16
    @Setting(
      .whole(0...9_999, zero: "every step"),
      "Steps of a rollout that are noisy and trained on; the others follow the ODE (MixGRPO).")
    public var window = 0
    @Setting(
      .whole(0...10_000, zero: "the window stays"),
      "Steps by which the window moves towards the data.") public var window_stride = 1
    @Setting(
      .whole(0...1_000_000_000, zero: "as 1"), "Training steps between two moves of the window.")
    public var window_every = 1
    @Setting(.whole(0...10_000, zero: "one a level"), "Steps behind the window.") public var tail =
      0
    @Setting(.whole(1...65536), "Samples or transitions in one pass: memory against speed.") public
      var chunk = 32
    @Setting(.weight, "Weight of KL(student || teacher) at a transition.") public var kl = 0.0
    @Setting(.real(above: 0, to: 100), "η, the noise of a step.") public var eta = 0.25
    @Setting(.shift, "Schedule shift of a rollout.") public var shift = 5.0
    @Setting(.share, "Share of the transitions that are trained on; at least one.") public
      var timestep_fraction = 0.6
    @Setting(.real(above: 0, to: 1e6), "Clip range of the probability ratio.") public var clip =
      1e-4
    @Setting(.real(above: 0, to: 1e6), "Clip range of the advantages.") public var advantage_clip =
      5.0
    @Setting(.weight, "Coefficient of the quality advantage.") public var quality = 1.0
    @Setting(.weight, "Coefficient of the semantic advantage.") public var semantic = 1.0
    @Setting(.toggle, "One noise for the whole group, or one a member.") public var same_noise =
      true
    @Setting(
      .toggle, "Rollouts: add the consistency loss on one data latent for each kept sample (D-21).")
    public var use_cd = true
  }
  public enum Objective: String, Codable, Sendable, CaseIterable { case direct, grpo }
  @Setting(.choice(Objective.self), "Back-propagation through the rewards, or GRPO.")
  public var objective = Objective.direct
  @Setting(.computeType) public var compute_dtype = Machine.ComputeType.f32
  @Setting(.moments) public var moments = AdamW.Moments.f32
  @Setting(.parameters) public var parameters = ParameterStorage.f32
  @Setting(.seed, "Seed.") public var seed = 42
  @Setting(.steps, "Optimiser steps.") public var steps = 256
  @Setting(.batch, "Clips of a micro-step.") public var batch = 1
  @Setting(.batch, "Micro-steps of a step.") public var accumulation = 32
  @Setting(.learningRate, "Learning rate.") public var learning_rate = 1e-6
  @Setting(.warmup, "Steps of linear rise.") public var warmup = 0
  public enum RateSchedule: String, Codable, Sendable, CaseIterable {
    case constant, linear, cosine
  }
  @Setting(.choice(RateSchedule.self), "How the learning rate goes.")
  public var rate_schedule = RateSchedule.constant
  @Setting(.weightDecay, "Weight decay of AdamW.") public var weight_decay = 0.001
  @Setting(.beta, "Decay of AdamW's second moment.") public var beta2 = 0.999
  @Setting(.gradientNorm, "Largest norm of the gradient.") public var max_grad_norm = 1.0
  @Setting(.real(above: 0, to: 1e6), "c of the consistency loss (pseudo-Huber).") public
    var huber_c = 0.001
  public var post = Post(), lora = Lora(), weights = Weights(), schedule = Schedule(),
    guidance = Guidance(), reward = Reward(), ema = EMA(), vae = VAE(), grpo = GRPO(),
    watch = Watch(), cluster = Processes()
  @Setting(.whole(1...100_000_000), "Clips of the world that are encoded for data latents.") public
    var clips = 1024
  @Setting(
    .toggle, "Compute the student's activations again for its backward pass.", formerly: "recompute"
  ) public
    var activation_checkpointing = false
  @Setting(.every, "Steps between checkpoints.") public var checkpoint_every = 64
  @Setting(.every, "Steps between pictures of progress.") public var sample_every = 0
  public init() {}
}

extension PostSettings {
  static let noLayer = ConfigurationError(
    "no layer has such a name", "lora.targets", "use names such as attn.to_q or proj_mlp")

  /// The learning rate of a step (0-based).
  func rate(step: Int) -> Double {
    let schedule: LearningRateSchedule =
      switch rate_schedule {
      case .constant: .constant
      case .linear: .linear(floor: 0)
      case .cosine: .cosine(floor: 0)
      }
    return schedule.rate(learning_rate, step: step, of: steps, warmup: warmup)
  }
  /// The teacher with trainable adapters, or with all of its parameters trainable. `averageDecay`
  /// as in `TrainableModel`.
  func trainableStudent<Model: VideoDenoiser>(
    of teacher: Model, averageDecay: Double?, in work: borrowing Workspace
  ) throws -> TrainableModel<Model> {
    var student = try teacher.student()
    if lora.enabled {
      let source = ParameterSource.random(seed: UInt64(seed))
      let count = try student.attachAdapters(
        targets: lora.targets, rank: lora.rank, alpha: lora.alpha, from: source, in: work)
      if count == 0 { throw PostSettings.noLayer }
    } else {
      student.makeTrainable(keepingStored: parameters == .bf16, in: work)
    }
    return TrainableModel(
      student, .init(beta2: beta2, weightDecay: weight_decay, moments: moments),
      parameters: parameters, averageDecay: averageDecay, stepsReadAverage: true, in: work)
  }
  /// The rewards this run computes.
  public var rewardOptions: RewardOptions {
    var o = RewardOptions()
    (o.useTransport, o.quality, o.semantic) = (
      reward.use_ot, weights.quality > 0, weights.semantic > 0
    )
    (o.plans.gamma, o.plans.eta, o.plans.epsilon, o.plans.marginalExponent) = (
      reward.gamma, reward.eta, reward.epsilon, reward.mass
    )
    return o
  }
}
