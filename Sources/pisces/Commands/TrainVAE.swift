import ArgumentParser
import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import Training

struct TrainVAE: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vae", abstract: "An autoencoder of clips or of single frames.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: TrainingOptions
  @OptionGroup var clips: ClipOptions
  @Option(in: .path, help: "Start from this autoencoder directory instead of random weights.")
  var initial: String?

  func run() async throws {
    try common.startRanks()
    let settings: AutoencoderSettings = try options.settings(common)
    let inputs = try options.inputs("vae", common)
    let clips = try clips.settled(inputs)
    let initial = try inputs.path("initial", initial)
    try options.check(settings.problem)
    try options.check(
      accumulation: settings.accumulation,
      of: min(settings.frames_per_step, settings.clips_per_step))
    let work = try options.workspace()
    let source = try await clips.source(seed: settings.seed, common, in: work)
    try settings.geometry.check(
      frames: source.canvas.frames, height: source.canvas.height, width: source.canvas.width)
    let parameters =
      try initial.map { try WeightHolder.opening($0).source }
      ?? .random(seed: UInt64(settings.seed))
    func make(_ work: borrowing Workspace) throws -> any TrainingTask {
      try settings.task(source: source, parameters: parameters, in: work)
    }
    try MemoryBudget.plan(work.pool) { planned in
      var task = try make(planned)
      for kind in task.kindsOfStep(from: 0) { _ = try task.step(kind, in: planned) }
    }
    func execute(_ fresh: some TrainingTask) async throws {
      var task = fresh
      try await options.execute(
        &task, settings: settings, inputs,
        .init(checkpointEvery: settings.checkpoint_every, sampleEvery: settings.sample_every),
        common, in: work)
    }
    try await execute(try make(work))
  }
}
