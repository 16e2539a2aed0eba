import Diffusion
public import Files
import Models
public import Pipelines
import PostTraining
import Rewards
import TensorRuntime
import Training
import World

/// The demo of short video: a UNet sampled by DDIM, then distilled to a few steps, then trained on
/// both rewards (PISCES, table 3; T2V-Turbo, arXiv:2405.18750).
public struct ShortDemonstration {
  let settings: ShortDemoSettings, generator: GeneratorFolder, rewardPath, output, machine: String,
    note: (String) -> Void
  private var phase: PhaseClock

  /// `output` is the folder of the report, `machine` the processor's name for the report. `note` is
  /// called with progress messages.
  public init(
    _ settings: ShortDemoSettings, generator: GeneratorFolder, reward: String, output: String,
    machine: String, note: @escaping (String) -> Void
  ) {
    (self.settings, self.generator, rewardPath, self.output, self.machine, self.note) = (
      settings, generator, reward, output, machine, note
    )
    phase = PhaseClock(note: note)
  }

  /// Runs everything and writes the report. Returns the summary. `control`: also the last training
  /// without its rewards.
  public mutating func run(control: Bool = false) async throws -> JSONObject {
    try await run(try generator.denoiser(), control: control)
  }
  private mutating func run<Model: VideoDenoiser>(_ teacher: Model, control: Bool) async throws
    -> JSONObject
  {
    let process = try generator.process()
    guard case .diffusion(let parameters) = process else {
      throw ConfigurationError(
        "the demo of short video runs on a generator of denoising diffusion", generator.path,
        "give one of VideoCrafter2's family")
    }
    let s = settings
    let decoder = try generator.autoencoder.decoder()
    let prompts = try generator.promptEncoder().at(framesPerSecond: Float(s.post.post.fps))
    var models = PostModels(
      teacher: teacher, process: process, decoder: decoder,
      reward: try RewardFolder(rewardPath, frames: Self.frames).reward(s.post.rewardOptions),
      prompts: prompts)
    let list = SceneSampler(.standard, seed: UInt64(s.evaluation_seed)).heldOutPrompts(
      count: s.prompts)
    let shape = Array(
      decoder.geometry.latentShape(
        batch: 1, frames: Self.frames, height: Self.side, width: Self.side
      ).dropFirst())
    let pool = try latents(decoder.scalingFactor)
    let schedule = DiffusionSchedule(parameters)
    guard
      let base = DDIMSampler(
        schedule, steps: s.base_steps, eta: 0, guidanceScale: s.base_guidance),
      let few = ConsistencySampler(
        schedule, steps: s.few_steps, originSteps: s.post.schedule.levels,
        guidance: s.embedded_guidance)
    else {
      throw ConfigurationError(
        "steps that do not fit the schedule", "base_steps, few_steps", "give divisors of its times")
    }
    func judged(
      _ name: String, _ model: any VideoDenoiser, _ sampler: any LatentSampler
    ) throws -> ShortDemoOutcome.Stage {
      let found = try phase("sample \(name)") { work in
        try GeneratorEvaluation(
          VideoGenerator(model, sampler, decoder, latentShape: shape), prompts, on: list,
          oracle: Oracle(.standard), reward: models.reward, seed: UInt64(s.evaluation_seed),
          keepClips: s.shown, in: work)
      }
      return .init(name: name, steps: sampler.steps, evaluation: found)
    }
    var stages = [try judged("before, DDIM", teacher, base)]
    (models.teacher, _) = try train("distilled", s.distillation, models, pool, shape)
    stages.append(try judged("distilled", models.teacher, few))
    let (rewarded, curves) = try train("with rewards", s.post, models, nil, shape)
    stages.append(try judged("with rewards", rewarded, few))
    if control {
      let other = try train("without rewards", s.control, models, nil, shape).0
      stages.append(try judged("without rewards", other, few))
    }
    return try await ShortDemoReport(
      ShortDemoOutcome(
        settings: s, machine: machine, prompts: list, stages: stages, curves: curves,
        phases: phase.phases)
    ).write(to: output)
  }
  /// The canvas of the embedded models.
  private static let frames = 9, side = 32

  /// Latents of clips of the world, with their captions.
  private mutating func latents(_ scale: Double) throws -> LatentPool {
    let encoder = try generator.autoencoder.encoder()
    let count = settings.distillation.clips
    let (source, captions) = (source, captions(count))
    return try phase("encode clips") { work in
      let latents = try source.latents(count, of: encoder, times: scale, atOnce: 32, in: work)
      return LatentPool(latents: latents, captions: captions)
    }
  }
  private var source: ClipSource {
    .world(SceneSampler(.standard, seed: UInt64(settings.seed)), Renderer())
  }
  private func captions(_ count: Int) -> [String] {
    var words = RandomStream(seed: UInt64(settings.seed), .caption)
    return source.captions(Array(0..<count), drawing: &words)
  }
  /// Trains from `models.teacher` on, on the latents of `pool`; nil: on own samples.
  private mutating func train<Model: VideoDenoiser>(
    _ name: String, _ s: PostSettings, _ models: PostModels<Model>, _ pool: LatentPool?,
    _ shape: [Int]
  ) throws -> (Model, [Curve]) {
    let note = note
    let captions = captions(pool?.count ?? s.post.pool)
    return try phase("train: \(name)") { work in
      var own = models
      if s.weights.quality == 0 && s.weights.semantic == 0 { own.reward = nil }
      var task = try DirectTask(
        s, models: own, pool: pool, captions: captions, latentShape: shape,
        components: { _ in }, in: work)
      var series: [String: [Double]] = [:]
      for step in 0..<s.steps {
        let r = try task.step(step, in: work)
        for (key, value) in [("loss", r.loss), ("grad_norm", r.gradientNorm)]
          + r.terms.map({ ($0.name, $0.value) })
        {
          series[key, default: []].append(value)
        }
        if (step + 1) % 20 == 0 { note("step \(step + 1) of \(s.steps)") }
      }
      return (task.result, series.sorted { $0.key < $1.key }.map { Curve($0.key, $0.value) })
    }
  }
}
