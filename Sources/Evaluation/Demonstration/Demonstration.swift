import Diffusion
public import Files
import Models
public import Pipelines
import PostTraining
import Rewards
import TensorRuntime
import Training
import Transport
import World

/// The steps of the demo in order, with the time and memory of each phase.
public struct Demonstration {
  let settings: DemoSettings, generator: GeneratorFolder, rewardPath, output, machine: String,
    note: (String) -> Void
  private var phase: PhaseClock

  /// `output` is the folder of the report, `machine` the processor's name for the report. `note` is
  /// called with progress messages.
  public init(
    _ settings: DemoSettings, generator: GeneratorFolder, reward: String, output: String,
    machine: String, note: @escaping (String) -> Void
  ) {
    (self.settings, self.generator, rewardPath, self.output, self.machine, self.note) = (
      settings, generator, reward, output, machine, note
    )
    phase = PhaseClock(note: note)
  }

  /// Runs everything and writes the report. Returns the summary.
  public mutating func run(control: Bool) async throws -> JSONObject {
    let (original, encoder) = try openGenerator()
    return try await run(original.denoiser, original, encoder, control: control)
  }
  private mutating func run(
    _ teacher: some VideoDenoiser, _ original: VideoGenerator, _ encoder: any PromptEmbedder,
    control: Bool
  ) async throws -> JSONObject {
    let s = settings
    let path = rewardPath
    let opened = try phase("open the reward model") { _ in try RewardFolder(path, frames: 9) }
    let (map, metrics) = try phase("fit the OT map") { work in
      try Demonstration.fitMap(s.map, opened, in: work)
    }
    let models = PostModels(
      teacher: teacher, process: try generator.process(), decoder: original.decoder,
      reward: try RewardModel(
        opened.model, tokenizer: opened.tokenizer, map: { x, work in map(x, in: work) },
        options: s.post.rewardOptions),
      prompts: encoder)
    let judge = Judge(
      encoder: encoder, reward: models.reward!,
      prompts: SceneSampler(.standard, seed: UInt64(s.evaluation_seed)).heldOutPrompts(
        count: s.prompts))

    var outcome = DemoOutcome(
      settings: s, machine: machine, prompts: judge.prompts,
      before: try evaluate("sample before", original, judge, guidance: s.guidance_before),
      map: metrics)
    let (tuned, curves) = try train("post-train on both rewards", s.post, models, original)
    outcome.curves = curves
    outcome.after = try evaluate("sample after", tuned, judge, guidance: s.guidance_after)
    if control {
      var unrewarded = models
      unrewarded.reward = nil
      let (other, _) = try train(
        "control: flow matching on own samples", s.control, unrewarded, original)
      outcome.control = try evaluate(
        "sample the control", other, judge, guidance: s.guidance_before)
    }
    outcome.phases = phase.phases
    outcome.drift = outcome.after.unguided.drift(
      from: outcome.before.unguided, in: Workspace(pool: phase.pool))
    return try await DemoReport(outcome).write(to: output)
  }

  /// What all evaluations share.
  private struct Judge {
    let encoder: any PromptEmbedder, reward: RewardModel, prompts: [Prompt]
  }

  private mutating func openGenerator() throws -> (VideoGenerator, any PromptEmbedder) {
    let folder = generator
    let steps = settings.sampler_steps
    return try phase("open the generator") { _ in
      guard case .flow(let shift) = try folder.process() else {
        throw ConfigurationError(
          "the demo runs on a generator of rectified flow", folder.path,
          "give a generator of HunyuanVideo's family")
      }
      let decoder = try folder.autoencoder.decoder()
      let sampler = FlowSampler(steps: steps, shift: shift)
      let shape = decoder.geometry.latentShape(batch: 1, frames: 9, height: 32, width: 32)
      let generator = VideoGenerator(
        try folder.denoiser(), sampler, decoder, latentShape: Array(shape.dropFirst()))
      return (generator, try folder.promptEncoder())
    }
  }
  /// Judges a generator without guidance and at `guidance`.
  private mutating func evaluate(
    _ name: String, _ generator: VideoGenerator, _ judge: Judge, guidance: Double
  ) throws -> DemoOutcome.Sides {
    .init(
      unguided: try side(name, generator, judge, guidance: 1),
      guided: try side(name, generator, judge, guidance: guidance))
  }
  private mutating func side(
    _ name: String, _ generator: VideoGenerator, _ judge: Judge, guidance: Double
  ) throws -> GeneratorEvaluation {
    let s = settings
    var guided = generator
    guided.sampler.guidanceScale = guidance
    return try phase("\(name), guidance \(DemoReport.short(guidance))") { work in
      try GeneratorEvaluation(
        guided, judge.encoder, on: judge.prompts, oracle: Oracle(.standard), reward: judge.reward,
        seed: UInt64(s.evaluation_seed), keepClips: s.shown, in: work)
    }
  }
  private mutating func train(
    _ name: String, _ post: PostSettings, _ models: PostModels<some VideoDenoiser>,
    _ original: VideoGenerator
  ) throws -> (VideoGenerator, [Curve]) {
    let captions = settings.captions(count: settings.post.post.pool)
    let note = note
    var tuned = original
    let curves = try phase(name) { work in
      let (model, curves) = try Demonstration.postTrain(
        post, models, captions, original.latentShape, note, in: work)
      tuned.denoiser = model
      return curves
    }
    return (tuned, curves)
  }

  private static func fitMap(
    _ s: OTMapSettings, _ folder: RewardFolder, in work: borrowing Workspace
  ) throws -> (NeuralMap, [(name: String, value: Double)]) {
    let model = try folder.reward()
    let sampler = SceneSampler(.standard, seed: UInt64(s.seed))
    let renderer = Renderer()
    var text: [Tensor] = []
    var video: [Tensor] = []
    var words = RandomStream(seed: UInt64(s.seed), .caption, step: 1)
    MemoryLimit.check((s.pairs + s.validation) * 4 * folder.config.embedDim * 4)
    for start in stride(from: 0, to: s.pairs + s.validation, by: 64) {
      let scenes = (start..<start + 64).map { sampler.training(1_000_000 + $0) }
      text.append(
        model.captions(
          scenes.map { CaptionGrammar.caption($0.description, drawing: &words) }, in: work
        ).feature)
      video.append(model.videos(renderer.render(scenes, in: work), in: work).unit)
    }
    let t = work.concatenated(text, axis: 0)
    let v = work.concatenated(video, axis: 0)
    var task = try OTMapTask(
      s, folder.config, text: t.slice(0..<s.pairs), video: v.slice(0..<s.pairs),
      heldOut: (t.slice(s.pairs..<t.shape[0]), v.slice(s.pairs..<v.shape[0])), in: work)
    var last = StepRecord(loss: 0, gradientNorm: 0, learningRate: 0, samples: 0)
    for step in 0..<s.steps { last = try task.step(step, in: work) }
    return (
      task.trainer.map,
      last.terms.filter {
        $0.name.hasPrefix("mknn") || $0.name == "struct_rho" || $0.name.hasPrefix("energy")
      }
    )
  }

  private static func postTrain<Model: VideoDenoiser>(
    _ s: PostSettings, _ models: PostModels<Model>, _ captions: [String], _ shape: [Int],
    _ note: (String) -> Void, in work: borrowing Workspace
  ) throws -> (Model, [Curve]) {
    var task = try DirectTask(
      s, models: models, pool: nil, captions: captions, latentShape: shape, components: { _ in },
      in: work)
    var series: [(name: String, values: [Double])] = [("loss", []), ("grad_norm", [])]
    for step in 0..<s.steps {
      let r = try task.step(step, in: work)
      for (name, value) in [("loss", r.loss), ("grad_norm", r.gradientNorm)]
        + r.terms.map({ ($0.name, $0.value) })
      {
        if let i = series.firstIndex(where: { $0.name == name }) {
          series[i].values.append(value)
        } else {
          series.append((name, [value]))
        }
      }
      if task.isFinished {
        note("the limit of the velocity's drift is reached after step \(step + 1)")
        break
      }
      if (step + 1) % 20 == 0 { note("step \(step + 1) of \(s.steps)") }
    }
    return (task.result, series.map { Curve($0.name, $0.values) })
  }
}
