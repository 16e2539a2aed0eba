import ArgumentParser
import Configuration
import Diffusion
import Evaluation
import Files
import FoundationEssentials
import Models
import Pipelines
import PostTraining
import Pretraining
import Report
import Rewards
import TensorRuntime
import Training
import Transport
import World

/// What the demo does by default, chosen before the held-out prompts of its evaluation were first used (README).
struct DemoSettings: Settings {
  var seed = 1
  /// Held-out prompts of both evaluations, and the seed that names them and their noise.
  var prompts = 512, evaluation_seed = 9001
  var sampler_steps = 16, guidance = 2.0
  var map = OTMapSettings()
  var post = PostSettings()
  init() {
    (map.steps, map.batch, map.learning_rate_map, map.learning_rate_potential, map.normalize_text) = (600, 128, 1e-3, 1e-3, true)
    (map.pairs, map.validation, map.hidden_potential, map.eval_every) = (4096, 1024, 128, 600)
    (post.steps, post.batch, post.accumulation, post.learning_rate, post.rate_schedule) = (120, 32, 1, 3e-4, "linear")
    post.lora.rank = 16
    post.lora.alpha = 16
    (post.post.latents, post.post.index_range, post.post.anchor_weight, post.post.pool, post.post.refresh) = (.`self`, [4, 29], 0.3, 512, 0)
    post.schedule.shift = 3
    post.weights.consistency = 0
    post.reward.crop = "center"
    post.post.sampler_guidance = 2
  }
}

struct Demo: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The whole method on the embedded model: sample, fit the OT map, post-train with both rewards, sample again, report.",
    discussion: "Before and after are sampled alike, on the same held-out prompts and noise, at the same guidance. The report says what happened, even if nothing improved.")
  @OptionGroup var common: CommonOptions
  @Option(help: "Folder of the report.") var output = "pisces-demo"
  @Option(help: "Run file, YAML or JSON; unknown keys are errors.") var config: String?
  @Option(name: .customLong("set"), parsing: .singleValue, help: "Override one key: --set post.steps=50.") var overrides: [String] = []
  @Option(help: "Seed of post-training and map (overrides the run file).") var seed: Int?
  @Option(help: "Generator directory.") var generator = "embedded:generator"
  @Option(help: "Reward-model directory.") var reward = "embedded:reward"
  @Flag(help: "Also run the same post-training with the rewards switched off.") var control = false
  @Flag(help: "The summary as JSON on standard output.") var json = false

  func run() async throws {
    try common.start()
    var settings: DemoSettings = try SettingsReader.read(file: config, overrides: overrides + (seed.map { ["seed=\($0)"] } ?? []))
    settings.post.seed = settings.seed
    settings.map.seed = settings.seed
    try settings.post.check(hasRewardModel: true)
    var stage = DemoStage(settings, generator: GeneratorFolder(generator), reward: reward, output: output, common: common)
    let summary = try await stage.run(control: control)
    if json { StandardStreams.result(JSONValue.object(summary).line) }
    common.note("the report is \(output)/report.html")
  }
}
