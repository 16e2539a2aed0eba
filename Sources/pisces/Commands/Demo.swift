import ArgumentParser
import Diffusion
import Evaluation
import Files
import Pipelines

struct Demo: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      """
      The whole method on the embedded model: sample, fit the OT map, post-train with both \
      rewards, sample again, report.
      """,
    discussion:
      """
      Before and after are sampled alike, on the same held-out prompts and noise, at the same \
      guidance. The report says what happened, even if nothing improved.
      """
  )
  @OptionGroup var common: CommonOptions
  @Option(in: .path, help: "Folder of the report.") var output = "pisces-demo"
  @Option(in: .path, help: "Run file, YAML or JSON; unknown keys are errors.") var config: String?
  @Option(
    name: .customLong("set"), parsing: .singleValue, in: .text,
    help: "Override one key: --set post.steps=50.") var overrides: [String] = []
  @Option(in: .seed, help: "Seed of post-training and map (overrides the run file).") var seed: Int?
  @Option(
    in: .path,
    help:
      """
      Generator directory; short: the embedded one of short video, whose demo distils it to few \
      steps first.
      """) var generator = "embedded:generator"
  @Option(in: .path, help: "Reward-model directory.") var reward = "embedded:reward"
  @Flag(help: "Also run the same post-training with the rewards switched off.") var control = false
  @Flag(help: "The summary as JSON on standard output.") var json = false

  func run() async throws {
    try common.start()
    let folder = GeneratorFolder(generator == "short" ? "embedded:short" : generator)
    if case .diffusion = try folder.process() { return try await runShort(folder) }
    var settings: DemoSettings = try SettingsReader.read(
      file: config, overrides: overrides + (seed.map { ["seed=\($0)"] } ?? []),
      note: { common.note($0) })
    try settings.settle()
    common.use(settings.compute_dtype)
    var demonstration = Demonstration(
      settings, generator: folder, reward: reward, output: output,
      machine: Environment.cpuModel
    ) { common.note($0) }
    let summary = try await demonstration.run(control: control)
    if json { StandardStreams.result(JSONValue.object(summary).line) }
    common.note("the report is \(output)/report.html")
  }
  private func runShort(_ folder: GeneratorFolder) async throws {
    var settings: ShortDemoSettings = try SettingsReader.read(
      file: config, overrides: overrides + (seed.map { ["seed=\($0)"] } ?? []),
      note: { common.note($0) })
    try settings.settle()
    common.use(settings.compute_dtype)
    var demonstration = ShortDemonstration(
      settings, generator: folder, reward: reward, output: output, machine: Environment.cpuModel
    ) { common.note($0) }
    let summary = try await demonstration.run(control: control)
    if json { StandardStreams.result(JSONValue.object(summary).line) }
    common.note("the report is \(output)/report.html")
  }
}
