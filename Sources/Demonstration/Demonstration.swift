import Diffusion
import Evaluation
public import Files
import Layers
import Models
public import Pipelines
import PostTraining
import Pretraining
import Report
import Rewards
import TensorRuntime
import Training
import Transport
import World

/// The demo's order of events, with time and memory of each phase.
public struct Demonstration {
  let settings: DemoSettings, generator: GeneratorFolder, rewardPath, output, machine: String, note: (String) -> Void
  private let pool = BufferPool()
  private var phases: [(name: String, seconds: Double, bytes: Int)] = []

  /// `output` is the report's folder, `machine` a processor's name for it, `note` takes progress.
  public init(_ settings: DemoSettings, generator: GeneratorFolder, reward: String, output: String, machine: String, note: @escaping (String) -> Void) {
    (self.settings, self.generator, rewardPath, self.output, self.machine, self.note) = (settings, generator, reward, output, machine, note)
  }

  /// Runs and times one phase.
  private mutating func phase<T>(_ name: String, _ body: (borrowing Workspace) async throws -> T) async throws -> T {
    note(name)
    pool.resetPeak()
    let clock = ContinuousClock(), start = clock.now, work = Workspace(pool: pool), value = try await body(work)
    phases.append((name, (clock.now - start) / .seconds(1), pool.statistics.peakBytes))
    return value
  }

  private struct Run { let evaluation: GeneratorEvaluation, curves: [Curve] }

  /// Runs everything and writes the report; the summary.
  public mutating func run(control: Bool) async throws -> JSONObject {
    let s = settings, folder = generator, path = rewardPath, note = note
    let (transformer, config, decoder, prompts) = try await phase("open the generator") { _ in
      let c = try folder.autoencoderConfig()
      return (try folder.transformer(), c, LatentDecoder(try folder.decoder(), scalingFactor: c.scalingFactor, recompute: false), try folder.promptEncoder())
    }
    let opened = try await phase("open the reward model") { _ in try RewardFolder(path, frames: 9) }
    let (map, record) = try await phase("fit the OT map") { work in try Demonstration.fitMap(s.map, opened, in: work) }
    let reward = try RewardModel(opened.model, tokenizer: opened.tokenizer, map: { x, work in map(x, in: work) }, options: s.post.rewardOptions)

    let shape = Array(config.latentShape(batch: 1, frames: 9, height: 32, width: 32).dropFirst())
    let sampler = FlowSampler(steps: s.sampler_steps, shift: try folder.scheduler().shift, guidanceScale: s.guidance)
    let list = SceneSampler(.standard, seed: UInt64(s.evaluation_seed)).heldOutPrompts(count: s.prompts)
    func evaluate(_ model: VideoTransformer, in work: borrowing Workspace) throws -> GeneratorEvaluation {
      try GeneratorEvaluation(
        model, decoder, sampler, prompts: prompts, captions: list.map(\.caption), descriptions: list.map(\.description), latentShape: shape, oracle: Oracle(.standard), reward: reward,
        seed: UInt64(s.evaluation_seed), keepClips: 12, in: work)
    }
    let before = try await phase("sample before") { work in try evaluate(transformer, in: work) }
    let models = PostModels(teacher: transformer, decoder: decoder, reward: reward, prompts: prompts)
    let captions = s.captions(count: s.post.post.pool)
    let (tuned, curves) = try await phase("post-train on both rewards") { work in try Demonstration.postTrain(s.post, models, captions, shape, note, in: work) }
    let after = try await phase("sample after") { work in try evaluate(tuned, in: work) }
    var controlled: GeneratorEvaluation?
    if control {
      var quiet = s.post
      (quiet.weights.quality, quiet.weights.semantic) = (0, 0)
      let alone = PostModels(teacher: transformer, decoder: decoder, reward: nil, prompts: prompts)
      let (model, _) = try await phase("control: the same without rewards") { work in try Demonstration.postTrain(quiet, alone, captions, shape, note, in: work) }
      controlled = try await phase("sample the control") { work in try evaluate(model, in: work) }
    }
    return try await report(before, after, controlled, record, curves, list.map(\.caption))
  }

  private static func fitMap(_ s: OTMapSettings, _ folder: RewardFolder, in work: borrowing Workspace) throws -> (NeuralMap, [(name: String, value: Double)]) {
    let model = try folder.reward(), sampler = SceneSampler(.standard, seed: UInt64(s.seed)), renderer = Renderer()
    var text: [Tensor] = [], video: [Tensor] = [], words = RandomStream(seed: UInt64(s.seed), .caption, step: 1)
    MemoryLimit.check((s.pairs + s.validation) * 4 * folder.config.embedDim * 4)
    for start in stride(from: 0, to: s.pairs + s.validation, by: 64) {
      let scenes = (start..<start + 64).map { sampler.training(1_000_000 + $0) }
      text.append(model.captions(scenes.map { CaptionGrammar.caption($0.description, drawing: &words) }, in: work).feature)
      video.append(model.videos(renderer.render(scenes, in: work), in: work).unit)
    }
    let t = work.concatenated(text, axis: 0), v = work.concatenated(video, axis: 0)
    var task = try OTMapTask(s, folder.config, text: t.slice(0..<s.pairs), video: v.slice(0..<s.pairs), heldOut: (t.slice(s.pairs..<t.shape[0]), v.slice(s.pairs..<v.shape[0])), in: work)
    var last = StepRecord(loss: 0, gradientNorm: 0, learningRate: 0, samples: 0)
    for step in 0..<s.steps { last = try task.step(step, in: work) }
    return (task.trainer.map, last.terms.filter { $0.name.hasPrefix("mknn") || $0.name == "struct_rho" || $0.name.hasPrefix("energy") })
  }

  private static func postTrain(
    _ s: PostSettings, _ models: PostModels, _ captions: [String], _ shape: [Int], _ note: (String) -> Void, in work: borrowing Workspace
  ) throws -> (VideoTransformer, [Curve]) {
    var task = try DirectTask(s, models: models, pool: nil, captions: captions, latentShape: shape, companions: { _ in }, in: work)
    var series: [(name: String, values: [Double])] = [("loss", []), ("grad_norm", [])]
    for step in 0..<s.steps {
      let r = try task.step(step, in: work)
      for (name, value) in [("loss", r.loss), ("grad_norm", r.gradientNorm)] + r.terms.map({ ($0.name, $0.value) }) {
        if let i = series.firstIndex(where: { $0.name == name }) { series[i].values.append(value) } else { series.append((name, [value])) }
      }
      if task.isFinished {
        note("the departure limit is reached after step \(step + 1)")
        break
      }
      if (step + 1) % 20 == 0 { note("step \(step + 1) of \(s.steps)") }
    }
    return (task.result, series.map { Curve($0.name, $0.values) })
  }

  // MARK: the report

  private func report(
    _ before: GeneratorEvaluation, _ after: GeneratorEvaluation, _ control: GeneratorEvaluation?, _ map: [(name: String, value: Double)], _ curves: [Curve], _ captions: [String]
  ) async throws -> JSONObject {
    try createFolder(output)
    let work = Workspace(pool: pool), seed = UInt64(settings.evaluation_seed)
    var page = HTML("PISCES demo: post-training a small text-to-video model with optimal-transport rewards")
    let change = PairedComparison(before: before.judgements, after: after.judgements, seed: seed)
    let over = control.map { PairedComparison(before: $0.judgements, after: after.judgements, seed: seed) }
    var summary: JSONObject = ["seed": .integer(settings.seed), "prompts": .integer(settings.prompts), "guidance": .number(settings.guidance)]

    page.heading("What happened")
    page.paragraph(Self.verdict(change, "the generator before"))
    if let over, let control {
      page.paragraph(Self.verdict(over, "the control (the same training with the rewards switched off)"))
      // Own samples and no consistency: without rewards every gradient is zero, and the control is the generator before.
      if control.drift(from: before, in: work) == 0 { page.paragraph("The control did not move: without the rewards nothing in these settings pulls on the generator.") }
    }
    page.paragraph("\(settings.prompts) held-out prompts, one fixed noise each, \(settings.sampler_steps) Euler steps, guidance \(settings.guidance) on both sides. Brackets are 95 % paired bootstrap intervals over prompts; an interval that holds 0 shows no change.")
    page.heading("Oracle: before and after")
    page.table(["measure", "before", "after", "change"] + (over == nil ? [] : ["control", "after - control"]), Measure.allCases.compactMap { m in
      guard let c = change[m] else { return nil }
      return ["\(m)", Self.f(c.before), Self.f(c.after), Self.interval(c)] + (over?[m].map { [Self.f($0.before), Self.interval($0)] } ?? [])
    })
    for (key, m) in [("semantic", Measure.semantic), ("quality", Measure.quality)] {
      for (name, comparison) in [("change", change)] + (over.map { [("over_control", $0)] } ?? []) {
        if let c = comparison[m] { summary["\(key)_\(name)"] = Self.json(c) }
      }
    }
    page.heading("Rewards on the same samples")
    let kinds: [(name: String, key: String, of: (RewardModel.AllScores) -> [Double]?)] = [
      ("quality (OT map)", "reward_quality", { $0.quality }), ("semantic (token plans)", "reward_semantic", { $0.semantic }),
      ("quality, plain", "vanilla_quality", { $0.vanillaQuality }), ("semantic, plain", "vanilla_semantic", { $0.vanillaSemantic }),
    ]
    page.table(["reward", "before", "after", "change"] + (control == nil ? [] : ["control"]), kinds.compactMap { kind in
      guard let a = before.rewards.flatMap(kind.of), let b = after.rewards.flatMap(kind.of) else { return nil }
      let c = PairedComparison.mean(before: a, after: b, seed: seed)
      summary[kind.key] = Self.json(c)
      return [kind.name, Self.f(c.before), Self.f(c.after), Self.interval(c)] + (control?.rewards.flatMap(kind.of).map { [Self.f($0.reduce(0, +) / Double($0.count))] } ?? [])
    })
    let drift = after.drift(from: before, in: work)
    page.paragraph("Drift (rms difference of the final latents over their standard deviation): \(Self.f(drift)).")
    summary["drift"] = .number(drift)
    page.heading("OT map")
    page.table(["metric", "value"], map.map { [$0.name, Self.f($0.value)] })
    for m in map { summary[m.name] = .number(m.value) }
    page.heading("Training")
    page.charts(curves)
    page.heading("Samples: before (left), after (right)")
    let rows = zip(before.clips, after.clips).map { [$0, $1] }, sheet = ClipSheet.picture(rows)
    page.picture(sheet, "every second frame; prompts below, in order")
    page.list(Array(captions.prefix(rows.count)))
    page.heading("Time and memory")
    page.table(["phase", "seconds", "peak tensor memory, MiB"], phases.map { [$0.name, Self.f($0.seconds), "\($0.bytes >> 20)"] })
    let total = phases.reduce(0) { $0 + $1.seconds }
    page.paragraph("\(Self.f(total)) s in all, \(Machine.threads) threads, \(Machine.current.rawValue) kernels, \(machine).")
    summary["seconds"] = .number(total)
    summary["phases"] = .array(phases.map { ["phase": .string($0.name), "seconds": .number($0.seconds), "peak_tensor_bytes": .integer($0.bytes)] })
    try sheet.write(to: "\(output)/samples.png")
    try await VideoWriter.write(ClipSheet.movie(rows), to: "\(output)/samples.gif", framesPerSecond: 6)
    try OutputFile.write(JSONValue.object(summary).pretty + "\n", to: "\(output)/summary.json")
    try page.write(to: "\(output)/report.html")
    return summary
  }

  /// One sentence that claims no more than the intervals show.
  private static func verdict(_ c: PairedComparison, _ other: String) -> String {
    func part(_ m: Measure, _ name: String) -> String {
      guard let x = c[m] else { return "\(name) could not be measured" }
      let word = x.low > 0 ? "rose" : x.high < 0 ? "fell" : "did not change measurably"
      return "the oracle's \(name) score \(word) (\(f(x.before)) to \(f(x.after)), \(interval(x)))"
    }
    return "Against \(other), \(part(.semantic, "semantic")) and \(part(.quality, "quality"))."
  }
  private static func interval(_ c: PairedComparison.Change) -> String { "\(c.difference >= 0 ? "+" : "")\(f(c.difference)) [\(f(c.low)), \(f(c.high))]" }
  private static func json(_ c: PairedComparison.Change) -> JSONValue {
    ["before": .number(c.before), "after": .number(c.after), "difference": .number(c.difference), "low": .number(c.low), "high": .number(c.high)]
  }
  private static func f(_ x: Double) -> String { "\((x * 10000).rounded() / 10000)" }
}
