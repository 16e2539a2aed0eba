public import Diffusion
import Files
public import Models
import Pipelines
import TensorRuntime

/// What the settings of a run mean for the family of its generator.
extension PostSettings {
  /// The published recipe of a family: the defaults over which a run file is laid. (T2V-Turbo's for
  /// short video: videocrafter.md 11.)
  public static func published(for process: GenerativeProcess) -> PostSettings {
    var s = PostSettings()
    guard case .diffusion = process else { return s }
    (s.lora.rank, s.lora.alpha, s.lora.targets) = (64, 64, VideoUNet.defaultTargets)
    s.weight_decay = 0
    (s.post.sampler_steps, s.post.sampler_guidance) = (4, 7.5)
    return s
  }
  /// The levels on which the student is distilled.
  public func schedule(_ process: GenerativeProcess) -> any DistillationSchedule {
    switch process {
    case .flow:
      NoiseSchedule(shift: schedule.shift, steps: schedule.levels, end: schedule.end)
    case .diffusion(let parameters):
      ConsistencySchedule(DiffusionSchedule(parameters), steps: schedule.levels)
    }
  }
  /// How many of a clip's `count` frames the rewards see: `reward.frames`, where the decoder makes
  /// frames one by one, and all otherwise.
  public func rewardFrames(of count: Int, decodesSingleFrames: Bool) -> Int {
    decodesSingleFrames && reward.frames > 0 ? min(reward.frames, count) : count
  }
  /// How a network's own samples are drawn: for the pool, the previews and the watch. A network of
  /// denoising diffusion that embeds guidance is a student; any other is sampled by DDIM without
  /// noise.
  func sampler(_ process: GenerativeProcess, for model: some VideoDenoiser) -> any LatentSampler {
    switch process {
    case .flow:
      return FlowSampler(
        steps: post.sampler_steps, shift: post.sampler_shift, guidanceScale: post.sampler_guidance,
        embeddedGuidance: guidance.student)
    case .diffusion(let parameters):
      let diffusion = DiffusionSchedule(parameters)
      if model.embedsGuidance {
        return ConsistencySampler(
          diffusion, steps: post.sampler_steps, originSteps: schedule.levels,
          guidance: post.sampler_guidance)!
      }
      return DDIMSampler(
        diffusion, steps: Self.teacherSteps, eta: 0, guidanceScale: post.sampler_guidance)!
    }
  }
  /// DDIM steps of a teacher that is sampled during a run.
  private static let teacherSteps = 25

  /// Weights w of the teacher's guidance that a batch draws; nil for a family that embeds one
  /// number in all steps.
  func guidanceWeights(
    _ process: GenerativeProcess, count: Int, drawing stream: RandomStream
  ) -> [Double]? {
    guard case .diffusion = process else { return nil }
    var draws = stream
    let (low, high) = (guidance.range[0], guidance.range[1])
    return (0..<count).map { _ in Double(Float(low + (high - low) * draws.uniform())) }
  }
  func directOptions(phases: Int) -> DirectStep.Options {
    var o = DirectStep.Options()
    o.phases = phases
    (o.flowWeight, o.normalisesRewards) = (weights.flow, reward.normalise == .group)
    (o.consistencyWeight, o.qualityWeight, o.semanticWeight, o.decayWeight) = (
      weights.consistency, weights.quality, weights.semantic, weights.decay
    )
    (o.huberC, o.anchorWeight, o.rewardGradientScale, o.checkpointing) = (
      huber_c, post.anchor_weight, reward.grad_scale, activation_checkpointing
    )
    (o.studentGuidance, o.teacherGuidance) = (guidance.student, guidance.teacher)
    o.teacherGuidanceWeight = guidance.teacher_cfg > 0 ? guidance.teacher_cfg : nil
    return o
  }

  /// Settings that a family does not know, or that do not fit it.
  public func check(for process: GenerativeProcess) throws {
    guard case .diffusion(let parameters) = process else { return }
    if parameters.numTrainTimesteps % schedule.levels != 0 {
      throw ConfigurationError(
        "\(schedule.levels) levels do not divide \(parameters.numTrainTimesteps) times",
        "schedule.levels", "give 50 or 200")
    }
    if post.sampler_steps > schedule.levels {
      throw ConfigurationError(
        "\(post.sampler_steps) steps of own samples on \(schedule.levels) levels",
        "post.sampler_steps", "give at most schedule.levels, such as 4")
    }
    if guidance.range[0] > guidance.range[1] {
      throw ConfigurationError(
        "\(guidance.range[0]) to \(guidance.range[1]) is no range", "guidance.range",
        "give the lower bound first")
    }
    if objective == .grpo && grpo.sampling_steps > schedule.levels {
      throw ConfigurationError(
        "rollouts of \(grpo.sampling_steps) steps on \(schedule.levels) levels",
        "grpo.sampling_steps", "give at most schedule.levels, such as 4 or 8")
    }
    if objective == .grpo && grpo.kl > 0 {
      throw ConfigurationError(
        "the divergence from an undistilled teacher has no meaning", "grpo.kl",
        "set it to 0 for a generator of denoising diffusion")
    }
    if objective == .grpo && grpo.mode == .singleStep {
      throw ConfigurationError(
        "groups of one step need a generator of rectified flow", "grpo.mode",
        "set it to rollout")
    }
  }
}

extension PostModels {
  /// The same models, whose prompts tell the network the frame rate of the run.
  func atFrameRate(of settings: PostSettings) -> Self {
    var models = self
    models.prompts = prompts.at(framesPerSecond: Float(settings.post.fps))
    return models
  }
  /// The latent frames that rewards see, of `count`: all, or some evenly spaced ones from a drawn
  /// start, where frames can be decoded one by one (videocrafter.md 9).
  func rewardFrames(
    of count: Int, _ settings: PostSettings, drawing stream: RandomStream
  ) -> [Int]? {
    let wanted = settings.reward.frames
    guard decoder.decodesSingleFrames, wanted > 0, count > wanted else { return nil }
    let stride = count / wanted
    var draws = stream
    let first = draws.below(stride)
    return (0..<wanted).map { first + $0 * stride }
  }
}
