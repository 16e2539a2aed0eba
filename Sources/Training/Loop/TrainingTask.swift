public import Files
public import Layers
public import TensorRuntime

/// What one step reports (interfaces.md 10).
public struct StepRecord: Sendable {
  public var loss: Double
  /// Every loss term and reward mean by name, in a fixed order.
  public var terms: [(name: String, value: Double)]
  public var gradientNorm, learningRate: Double
  public var samples: Int
  /// A message for the user, written at once to the log and later to the report.
  public var warning: String?
  public init(
    loss: Double, terms: [(name: String, value: Double)] = [], gradientNorm: Double,
    learningRate: Double, samples: Int
  ) {
    (self.loss, self.terms, self.gradientNorm, self.learningRate, self.samples) = (
      loss, terms, gradientNorm, learningRate, samples
    )
  }
}

/// A state read back from a checkpoint.
public struct SavedState {
  private var table: WeightTable
  public let numbers: JSONValue

  init(_ folder: String) throws(FileError) {
    table = try WeightTable(opening: "\(folder)/state.safetensors")
    numbers = try JSONValue(contentsOf: "\(folder)/state.json")
  }
  public func integer(_ key: String) throws(FileError) -> Int {
    guard let n = numbers[key]?.integer else {
      throw FileError(
        .badData, "the checkpoint has no \(key)", in: table.path,
        mend: "resume from another checkpoint")
    }
    return n
  }
  public mutating func tensor(_ name: String, like shape: Shape, in work: borrowing Workspace)
    throws(FileError) -> Tensor
  { work.copy(try table.take(name, shape: shape)) }
  public mutating func restore(
    _ prefix: String, parametersOf model: inout some Layer, in work: borrowing Workspace
  ) throws {
    try model.forEachParameter {
      $0.value = try tensor("\(prefix)\($0.name)", like: $0.value.shape, in: work)
    }
  }
  /// `shapes` are those of the parameters. With `owned`, only these elements of each are kept.
  mutating func optimizer(
    _ prefix: String, like old: AdamW, shapes: [Shape], owned: [Range<Int>]?,
    in work: borrowing Workspace
  ) throws(FileError) -> AdamW {
    var first: [Tensor] = []
    var second: [Tensor] = []
    for (i, name) in old.names.enumerated() {
      first.append(try piece("\(prefix)first.\(name)", shapes[i], owned?[i], in: work))
      second.append(try piece("\(prefix)second.\(name)", shapes[i], owned?[i], in: work))
    }
    return AdamW(
      old.options, steps: try integer("\(prefix)steps"), names: old.names, first: first,
      second: second)
  }
  /// The same of a moving average.
  mutating func average(
    _ prefix: String, like old: MovingAverage, shapes: [Shape], owned: [Range<Int>]?,
    in work: borrowing Workspace
  ) throws(FileError) -> MovingAverage {
    var values: [(name: String, value: Tensor)] = []
    for (i, (name, _)) in old.values.enumerated() {
      values.append((name, try piece("\(prefix)\(name)", shapes[i], owned?[i], in: work)))
    }
    return MovingAverage(decay: old.decay, values: values)
  }
  private mutating func piece(
    _ name: String, _ shape: Shape, _ owned: Range<Int>?, in work: borrowing Workspace
  ) throws(FileError) -> Tensor {
    let whole = try table.take(name, shape: shape)
    return work.copy(owned.map { whole.flat($0) } ?? whole)
  }
}

/// One kind of training: what a step does, and what its state is.
public protocol TrainingTask {
  var totalSteps: Int { get }
  /// Whether training ends before `totalSteps`.
  var isFinished: Bool { get }
  /// The reason to write a checkpoint and stop early (status 75); nil to continue.
  var stopReason: String? { get }
  /// Takes step `step` (0-based). It depends only on the state and `step`. Throws `NonFinite`
  /// before it changes any parameter.
  mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord
  /// The parts of a step that ranks can share out (`LeafSum`); nil if a step can keep any number of
  /// ranks busy, or if every rank computes all of it.
  var leaves: Int? { get }
  /// Steps, from `step` on, whose use of memory differs and which are planned one by one. By
  /// default `step` alone.
  func kindsOfStep(from step: Int) -> [Int]
  /// The state as it is saved. Each rank's holds what that rank writes of it.
  func state() -> TrainingState
  mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws
  /// A copy whose state is complete where only the first rank goes on, for `export` and `samples`.
  /// Every rank calls this.
  func collected(in work: borrowing Workspace) throws -> Self
  /// Writes the trained model into a folder that exists.
  func export(to folder: String) throws
  /// Clips `[T, 3, H, W]` in [0, 1], in rows, that show the progress of training; empty if the task
  /// has nothing to show.
  func samples(step: Int, in work: borrowing Workspace) throws -> [[Tensor]]
}
extension TrainingTask {
  public var leaves: Int? { nil }
  public var isFinished: Bool { false }
  public var stopReason: String? { nil }
  public func collected(in work: borrowing Workspace) throws -> Self { self }
  public func kindsOfStep(from step: Int) -> [Int] { [step] }
  public func samples(step: Int, in work: borrowing Workspace) throws -> [[Tensor]] { [] }
}

/// A non-finite value stops training at once with exit status 3. The last checkpoint stays.
public struct NonFinite: Error, CustomStringConvertible, Sendable {
  public let what: String, step: Int
  public var sample: Int?
  public init(_ what: String, step: Int, sample: Int? = nil) {
    (self.what, self.step, self.sample) = (what, step, sample)
  }
  public var description: String {
    let place = sample.map { "step \(step + 1), sample \($0)" } ?? "step \(step + 1)"
    return
      """
      \(what) is not finite: \(place): lower the learning rate, or resume from the last checkpoint \
      with another seed
      """
  }
}

extension TrainingTask {
  /// Peak resident bytes of this process in the steps from `step` on, computed before they are
  /// taken; nil if a step throws when it runs without its arithmetic.
  public func plannedResidentBytes(_ step: Int, in pool: BufferPool) -> Int? {
    var copy = self
    return MemoryPlan(pool) {
      for kind in kindsOfStep(from: step) { _ = try copy.step(kind, in: $0) }
    }.map { ProcessMemory.resident + $0.bytes }
  }
}
