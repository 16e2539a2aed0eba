public import Models
public import TensorRuntime
public import Training

/// A task that measures the time of the parts of its step.
public protocol PhasedTask: TrainingTask {
  mutating func step(_ step: Int, phases: StepPhases?, in work: borrowing Workspace) throws
    -> StepRecord
}
/// A task that trains a generator.
public protocol PostTask<Model>: PhasedTask {
  associatedtype Model: VideoDenoiser
  /// The generator as it would be used: with averaged parameters if an average is kept.
  var result: Model { get }
  /// `pool` holds data latents; nil: what the task needs of them is sampled from the generator. The
  /// captions are for own samples. `components` copies the other parts of the generator directory.
  init(
    _ settings: PostSettings, models: PostModels<Model>, pool: LatentPool?, captions: [String],
    latentShape: [Int], components: @escaping @Sendable (String) throws -> Void,
    in work: borrowing Workspace
  ) throws
}
extension PostSettings.Objective {
  public func task<Model: VideoDenoiser>(for _: Model.Type) -> any PostTask<Model>.Type {
    self == .grpo ? GRPOTask<Model>.self : DirectTask<Model>.self
  }
}
extension PhasedTask {
  public mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    try self.step(step, phases: nil, in: work)
  }
}

/// Time and peak tensor memory of the parts of a step, summed over steps, in the order in which
/// they first occur.
public final class StepPhases {
  public private(set) var list: [(name: String, seconds: Double, peakBytes: Int)] = []
  private let clock = ContinuousClock()
  private var mark: ContinuousClock.Instant
  public init() { mark = clock.now }

  /// Starts the clock and resets the memory peak for the next phase.
  public func begin(in work: borrowing Workspace) {
    work.pool.resetPeak()
    mark = clock.now
  }
  public func end(_ name: String, in work: borrowing Workspace) {
    let seconds = (clock.now - mark) / .seconds(1)
    let bytes = work.pool.statistics.peakBytes
    if let i = list.firstIndex(where: { $0.name == name }) {
      list[i].seconds += seconds
      list[i].peakBytes = max(list[i].peakBytes, bytes)
    } else {
      list.append((name, seconds, bytes))
    }
    begin(in: work)
  }
}
