import ArgumentParser
import Benchmarking
import Evaluation
import Files
import FoundationEssentials
import Models
import Pipelines
import PostTraining
import TensorRuntime
import Training
import World

struct BenchEncoder: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "encoder", abstract: "One block of the full-size encoders, forward.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(
    in: .choice(EncoderBenchmark.Preset.self),
    help:
      """
      vit-block, bert-fusion, or bert-fusion-again: a second caption of a video, whose keys and \
      values are there.
      """
  ) var preset = EncoderBenchmark.Preset.vitBlock
  @Option(in: .choice(StorageType.self), help: "bf16: weights are stored so.") var dtype =
    StorageType.f32
  func run() async throws {
    try await options.execute(
      [{ try EncoderBenchmark(preset: preset, storage: dtype).prepare() }], common)
  }
}

struct BenchGenerator: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generator",
    abstract: "A small velocity network: forward, with backward, or a training step.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .choice(GeneratorBenchmark.Preset.self)) var preset = GeneratorBenchmark.Preset
    .mmdit384
  @Option(in: .choice(StorageType.self), help: "bf16: weights are stored so.") var dtype =
    StorageType.f32
  @Option(in: .choice(["forward", "both", "step"])) var pass = BenchmarkPass.forward
  func run() async throws {
    try await options.execute(
      [{ try GeneratorBenchmark(preset: preset, storage: dtype, pass: pass).prepare() }], common)
  }
}

struct BenchVAE: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vae",
    abstract: "Decoding latents: forward, backward to the latents, or to everything.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .choice(AutoencoderBenchmark.Preset.self)) var preset = AutoencoderBenchmark.Preset
    .decoderSmall
  @Option(in: .choice(StorageType.self), help: "bf16: weights are stored so.") var dtype =
    StorageType.f32
  @Option(in: .choice(["forward", "latents", "both"])) var pass = BenchmarkPass.forward
  func run() async throws {
    try await options.execute(
      [{ try AutoencoderBenchmark(preset: preset, storage: dtype, pass: pass).prepare() }], common)
  }
}

struct BenchStep: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "step",
    abstract: "The demo's whole post-training step, direct or GRPO's, and its parts.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  enum Preset: String, CaseIterable, Sendable {
    case demo
    case demoGRPO = "demo-grpo"
  }
  @Option(in: .choice(Preset.self)) var preset = Preset.demo
  @Option(in: .path, help: "Generator directory.") var generator = "embedded:generator"
  @Option(in: .path, help: "Reward-model directory, with an OT map.") var reward = "embedded:reward"
  func run() async throws {
    try await options.execute([{ try Self.prepare(preset, generator, reward) }], common)
  }

  static func prepare(_ preset: Preset, _ generator: String, _ reward: String) throws
    -> BenchmarkCase
  {
    var settings = DemoSettings()
    try settings.settle()
    if preset == .demoGRPO { settings.useGroups() }
    let folder = GeneratorFolder(generator)
    settings.post.post.pool = settings.post.batch
    let captions = settings.captions(count: settings.post.post.pool)
    let post = settings.post
    func prepare(_ teacher: some VideoDenoiser) throws -> BenchmarkCase {
      let models = PostModels(
        teacher: teacher, process: try folder.process(),
        decoder: try folder.autoencoder.decoder(),
        reward: try RewardFolder(reward, frames: 9).reward(post.rewardOptions),
        prompts: try folder.promptEncoder())
      let shape = models.decoder.geometry.latentShape(batch: 1, frames: 9, height: 32, width: 32)
      return try StepBenchmark(
        post, models: models, captions: captions, latentShape: Array(shape.dropFirst()),
        preset: preset.rawValue
      ).prepare()
    }
    return try prepare(try folder.denoiser())
  }
}

struct BenchStartup: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "startup",
    abstract: "From the start of a process to the first score of the embedded model.",
    discussion: "A program without embedded models prints its version instead, and says so.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  func run() async throws {
    try await Self.withClip { clip in
      try await options.execute([{ Self.benchmark(clip).prepare() }], common)
    }
  }

  static func benchmark(_ clip: String) -> StartupBenchmark {
    if EmbeddedFiles.paths.isEmpty {
      return StartupBenchmark(
        program: "/proc/self/exe", arguments: ["--version"], until: "version printed")
    }
    return StartupBenchmark(
      program: "/proc/self/exe",
      arguments: [
        "score", "--model", "embedded:reward", "--frames", "9", "--video", clip, "--prompt",
        "a red circle moving left", "--quiet",
      ], until: "first score printed")
  }
  /// Writes a clip of the built-in world to a file that exists while `body` runs.
  static func withClip(_ body: (String) async throws -> Void) async throws {
    let folder =
      FileManager.default.temporaryDirectory.path + "/pisces-bench-\(UInt64.random(in: 0 ... .max))"
    let clip = "\(folder)/clip.safetensors"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try SafetensorsWriter.write(
      [
        (
          "pixels",
          Renderer().render([SceneSampler(.standard, seed: 1).training(0)], in: Workspace())[row: 0]
        )
      ], to: clip)
    try await body(clip)
  }
}
