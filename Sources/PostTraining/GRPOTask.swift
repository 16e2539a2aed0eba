import Diffusion
import Files
import Layers
public import Models
import Pipelines
import Rewards
public import TensorRuntime
public import Training

/// `train post --objective grpo`: rewards are scores within a group. No gradient goes through the
/// decoder or the encoders (algorithm.md 9).
public struct GRPOTask<Model: VideoDenoiser>: PostTask {
  public let settings: PostSettings
  var models: PostModels<Model>
  var training: TrainableModel<Model>
  public internal(set) var student: Model {
    get { training.model }
    _modify { yield &training.model }
  }
  let captions: [String], latentShape: [Int]
  /// Data latents, for the single-step mode and the consistency term.
  let pool: LatentPool?
  let schedule: any DistillationSchedule, phases: PhaseSchedule
  var contexts = CaptionCache()
  let components: @Sendable (String) throws -> Void

  public init(
    _ settings: PostSettings, models: PostModels<Model>, pool: LatentPool?, captions: [String],
    latentShape: [Int], components: @escaping @Sendable (String) throws -> Void,
    in work: borrowing Workspace
  ) throws {
    (self.settings, self.models, self.pool, self.captions, self.latentShape, self.components) = (
      settings, models.atFrameRate(of: settings), pool, captions, latentShape, components
    )
    schedule = settings.schedule(models.process)
    phases = PhaseSchedule(settings.schedule.phases)!
    training = try settings.trainableStudent(of: models.teacher, averageDecay: nil, in: work)
  }
  public var totalSteps: Int { settings.steps }
  public var result: Model { student }

  /// In rollout mode a step takes the groups of a few prompts, with an optimiser step after every G
  /// kept samples. In single-step mode it takes G groups of one sample each.
  public mutating func step(_ step: Int, phases: StepPhases?, in work: borrowing Workspace) throws
    -> StepRecord
  {
    phases?.begin(in: work)
    return settings.grpo.mode == .rollout
      ? try rolloutStep(step, phases, in: work) : try singleStep(step, in: work)
  }
  /// Rewards of clean predictions: quality, then semantic, if enabled.
  static func score(
    _ clean: Tensor, _ models: PostModels<Model>, _ context: CaptionBatch, frames: [Int]?,
    in work: borrowing Workspace
  ) -> [[Double]] {
    let s = models.reward!.forward(
      models.decoder.forward(clean, frames: frames, in: work).frames, context,
      checkpointing: true, in: work
    ).scores
    return [s.quality, s.semantic].filter { !$0.isEmpty }
  }
  /// The latent frames that rewards see, the same for all samples of a step.
  func rewardFrames(_ step: Int) -> [Int]? {
    models.rewardFrames(
      of: latentShape[1], settings,
      drawing: RandomStream(seed: UInt64(settings.seed), .dropout, step: step))
  }
  var coefficients: [Double] {
    (settings.weights.quality > 0 ? [settings.grpo.quality] : [])
      + (settings.weights.semantic > 0 ? [settings.grpo.semantic] : [])
  }
  func means(_ rewards: [[Double]]) -> [(name: String, value: Double)] {
    let names =
      (settings.weights.quality > 0 ? ["reward_quality"] : [])
      + (settings.weights.semantic > 0 ? ["reward_semantic"] : [])
    return zip(names, rewards).map { (name: $0, value: $1.reduce(0, +) / Double(max($1.count, 1))) }
  }

  public func state() -> TrainingState {
    training.state("student.", onlyTrainable: true)
  }
  public mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws {
    try training.restore("student.", onlyTrainable: true, from: &state, in: work)
  }
  public func samples(step: Int, in work: borrowing Workspace) throws -> [[Tensor]] {
    models.preview(
      student, settings, captions: pool?.captions ?? captions, latentShape: latentShape, in: work)
  }
  public func export(to folder: String) throws {
    try GeneratorExport.write(student, settings, to: folder, components)
  }
}
