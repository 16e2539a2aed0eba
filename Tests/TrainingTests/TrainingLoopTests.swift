import Files
import FoundationEssentials
import Layers
import TensorRuntime
import TestSupport
import Testing

@testable import Training

/// The loop on a regression of a few numbers: stopping, resuming, checkpoints and metrics.
@Suite struct TrainingLoopTests {
  /// Learns y = x Wᵀ + b from examples that depend on the step alone.
  private struct Regression: TrainingTask {
    var training: TrainableModel<Linear>
    let totalSteps: Int
    /// Asks to stop after this many steps; ends after `limit`.
    var stopAt: Int?, limit: Int?
    var done = 0
    var stopReason: String? { done == stopAt ? "enough for today" : nil }
    var isFinished: Bool { done == limit }

    init(_ steps: Int, stopAt: Int? = nil, limit: Int? = nil) throws {
      let work = Workspace()
      var layer = try Linear("l", 3, 2, from: .random(seed: 1))
      layer.makeTrainable(in: work)
      training = TrainableModel(layer, .init(), averageDecay: 0.9, in: work)
      (totalSteps, self.stopAt, self.limit) = (steps, stopAt, limit)
    }
    mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
      let x = RandomStream(seed: 2, .test, step: step).normal(Shape(4, 3), in: work)
      let y = RandomStream(seed: 3, .test, step: step).normal(Shape(4, 2), in: work)
      training.model.zeroGradients(in: work)
      let (p, saved) = training.model.forward(x, in: work)
      let (loss, d) = work.meanSquaredError(p, target: y)
      _ = training.model.backward(d, saved, in: work)
      let norm = try training.update(
        loss: loss, rate: 0.1, maximumNorm: 1, averageDecay: 0.9, step: step, in: work)
      done = step + 1
      return StepRecord(
        loss: loss, terms: [("half", loss / 2)], gradientNorm: norm, learningRate: 0.1, samples: 4)
    }
    func state() -> TrainingState {
      training.state("model.")
    }
    mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws {
      done = try state.integer("step")
      try training.restore("model.", from: &state, in: work)
    }
    func export(to folder: String) throws {}
    var values: [[Float]] {
      [training.model, training.averaged].flatMap {
        [$0.weight.value.floats, $0.bias!.value.floats]
      }
    }
  }
  private let folder: ScratchFolder
  init() throws { folder = try ScratchFolder() }

  private func run(
    _ task: inout Regression, _ name: String, resuming: Bool = false,
    _ options: TrainingLoop.Options = .init(checkpointEvery: 0)
  ) async throws -> TrainingLoop.Outcome {
    let directory = try RunDirectory(
      folder(name), resuming: resuming, configuration: ["seed": 1], environment: [:])
    return try await TrainingLoop.run(
      &task, in: directory, resuming: resuming, options, work: Workspace(), report: { _ in })
  }
  private func metrics(_ name: String) throws -> [JSONValue] {
    try JSONLines.read(folder("\(name)/metrics.jsonl")).map { $0.1 }
  }
  private func checkpoints(_ name: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder("\(name)/checkpoints"))
      .filter { $0.hasPrefix("step-") }.sorted()
  }

  @Test func stoppedAndResumedIsNotStopped() async throws {
    var whole = try Regression(7)
    #expect(try await run(&whole, "whole") == .finished)
    var first = try Regression(7, stopAt: 3)
    #expect(try await run(&first, "cut") == .stopped(step: 3))
    #expect(try checkpoints("cut").count == 1)
    // A run that was killed has metrics of a step that its checkpoint does not have.
    let file = folder("cut/metrics.jsonl")
    let text = try String(contentsOfFile: file, encoding: .utf8)
    try OutputFile.write(text + "{\"step\": 4, \"loss\": -1}\n", to: file)
    var second = try Regression(7)
    #expect(try await run(&second, "cut", resuming: true) == .finished)
    #expect(second.values == whole.values && first.values != whole.values)

    let (a, b) = (try metrics("whole"), try metrics("cut"))
    #expect(a.compactMap { $0["step"]?.integer } == Array(1...7))
    #expect(b.compactMap { $0["step"]?.integer } == Array(1...7))
    for (x, y) in zip(a, b) {
      for key in ["loss", "half", "grad_norm", "learning_rate"] {
        #expect(try #require(x[key]?.number) == y[key]?.number)
      }
      #expect(x["half"]?.number == x["loss"]!.number! / 2)
    }
  }
  /// Every second step and the last; the two newest are kept.
  @Test func checkpointsAreWrittenAndRemoved() async throws {
    var task = try Regression(7)
    let options = TrainingLoop.Options(checkpointEvery: 2, keep: 2)
    #expect(try await run(&task, "run", options) == .finished)
    #expect(try checkpoints("run") == ["step-000006", "step-000007"])
  }
  @Test func aTaskMayEndEarly() async throws {
    var task = try Regression(7, limit: 5)
    #expect(try await run(&task, "run") == .finished)
    #expect(try metrics("run").count == 5 && checkpoints("run") == ["step-000005"])
    // A resumed run that has ended already does nothing.
    var again = try Regression(7, limit: 5)
    #expect(try await run(&again, "run", resuming: true) == .finished)
    #expect(again.values == task.values && task.done == 5)
  }
  @Test func foldersAreNotMixedUp() async throws {
    var task = try Regression(1)
    await #expect(throws: FileError.self) { try await self.run(&task, "none", resuming: true) }
    _ = try await run(&task, "run")
    await #expect(throws: FileError.self) { try await self.run(&task, "run") }
  }
  @Test(arguments: [
    (0.0, "0.0"), (1234, "1234"), (0.5, "0.5"), (-0.012344, "-0.01234"), (.infinity, "inf"),
    (99999.7, "100000"),
  ])
  func fourDigits(_ x: Double, _ text: String) { #expect(TrainingLoop.short(x) == text) }
}
