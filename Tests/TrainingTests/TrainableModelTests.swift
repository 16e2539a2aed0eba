import Cluster
import Files
import Layers
import TensorRuntime
import TestSupport
import Testing

@testable import Training

/// One update of a model with its training state, and the way of that state to a checkpoint and
/// back.
@Suite struct TrainableModelTests {
  private static let options = AdamW.Options(epsilon: 1, weightDecay: 0.25)
  /// A layer with gradients that depend on the step.
  private static func gradients(_ model: inout Linear, step: Int) {
    model.weight.gradient = randomTensor(Shape(2, 3), seed: UInt64(100 + step))
    model.bias!.gradient = randomTensor(Shape(2), seed: UInt64(200 + step))
  }
  private static func model(in work: borrowing Workspace) throws -> TrainableModel<Linear> {
    var layer = try Linear("l", 3, 2, from: .random(seed: 1, type: .f64))
    layer.makeTrainable(in: work)
    return TrainableModel(layer, options, averageDecay: 0.9, in: work)
  }
  private static func values(_ layer: some Layer) -> [[Double]] {
    var all: [[Double]] = []
    layer.readParameters { all.append($0.value.doubles) }
    return all
  }

  /// The first step of AdamW is w - η (c g / (|c g| + ε) + λ w); c = min(1, max / ‖g‖) clips by the
  /// norm of all gradients together. The average is d θ₀ + (1-d) θ₁.
  @Test(arguments: [0.5, 100]) func firstUpdate(_ most: Double) throws {
    let work = Workspace()
    var training = try Self.model(in: work)
    let before = Self.values(training.model)
    Self.gradients(&training.model, step: 0)
    let g = [training.model.weight.gradient!.doubles, training.model.bias!.gradient!.doubles]
    let norm = g.joined().reduce(0) { $0 + $1 * $1 }.squareRoot()
    #expect(norm > 0.5 && norm < 100)
    let found = try training.update(
      loss: 1, rate: 0.1, maximumNorm: most, averageDecay: 0.8, step: 0, in: work)
    #expect(abs(found - norm) < 1e-12)
    let c = min(1, most / norm)
    for (k, after) in Self.values(training.model).enumerated() {
      let mean = Self.values(training.averaged)[k]
      let expected = zip(before[k], g[k]).map { w, g in
        w - 0.1 * (c * g / (abs(c * g) + 1) + 0.25 * w)
      }
      #expect(zip(after, expected).allSatisfy { abs($0 - $1) < 1e-6 }, "\(after), \(expected)")
      let averages = zip(before[k], after).map { 0.8 * $0 + 0.2 * $1 }
      #expect(zip(mean, averages).allSatisfy { abs($0 - $1) < 1e-12 }, "\(mean), \(averages)")
    }
    // Without a decay the average stays.
    let mean = Self.values(training.averaged)
    _ = try training.update(loss: 1, rate: 0.1, maximumNorm: most, step: 1, in: work)
    #expect(Self.values(training.averaged) == mean)
  }

  @Test func whatIsNotFiniteChangesNothing() throws {
    let work = Workspace()
    var training = try Self.model(in: work)
    let before = Self.values(training.model)
    Self.gradients(&training.model, step: 0)
    func refuse(_ loss: Double, _ words: String) {
      do {
        _ = try training.update(loss: loss, rate: 0.1, maximumNorm: 1, step: 6, in: work)
        Issue.record("no error")
      } catch { #expect("\(error)".hasPrefix(words + " is not finite: step 7"), "\(error)") }
    }
    refuse(.infinity, "the loss")
    training.model.bias!.gradient = Tensor([1, -Double.infinity], Shape(2))
    refuse(1, "the gradient of l.bias")
    #expect(Self.values(training.model) == before && Self.values(training.averaged) == before)
    #expect(training.optimizer.steps == 0)
  }

  /// Updates far below a bf16 step add up in the masters, which are those of a run in f32 with the
  /// same gradients; the parameters are the masters, rounded; a checkpoint holds the masters.
  @Test func roundedParameters() throws {
    let folder = try ScratchFolder()
    let work = Workspace()
    func fresh(_ storage: ParameterStorage) throws -> TrainableModel<Linear> {
      var layer = try Linear("l", 70, 20, from: .random(seed: 1))
      layer.makeTrainable(in: work)
      return TrainableModel(
        layer, .init(epsilon: 1, weightDecay: 0.25), parameters: storage, in: work)
    }
    func steps(_ range: Range<Int>, _ training: inout TrainableModel<Linear>) throws {
      for step in range {
        training.model.weight.gradient = randomTensor(
          Shape(20, 70), seed: UInt64(300 + step), type: .f32)
        training.model.bias!.gradient = randomTensor(
          Shape(20), seed: UInt64(400 + step), type: .f32)
        _ = try training.update(loss: 0, rate: 1e-5, maximumNorm: 1, step: step, in: work)
      }
    }
    func masters(_ training: TrainableModel<Linear>, step: Int) throws -> [[Double]] {
      let directory = try RunDirectory(
        folder("run-\(step)"), resuming: false, configuration: [:], environment: [:])
      let state = training.state("model.")
      #expect(state.entries.allSatisfy { $0.type == .f32 })
      try state.save(step: step, in: directory, keeping: 1, .current)
      var saved = try SavedState(try #require(try directory.latest()))
      return try ["l.weight", "l.bias"].enumerated().map {
        try saved.tensor("model.\($1)", like: $0 == 0 ? Shape(20, 70) : Shape(20), in: work).doubles
      }
    }
    var wide = try fresh(.f32)
    var rounded = try fresh(.bf16)
    try steps(0..<6, &wide)
    try steps(0..<6, &rounded)
    let values = Self.values(wide.model)
    #expect(values != Self.values(try fresh(.f32).model))
    #expect(try masters(rounded, step: 6) == values)
    rounded.model.readParameters { p in #expect(p.value.type == .bf16) }
    var nearest = wide.model
    nearest.forEachParameter { $0.value = work.converted($0.value, to: .bf16) }
    #expect(Self.values(rounded.model) == Self.values(nearest))

    var resumed = try fresh(.bf16)
    var saved = try SavedState("\(folder("run-6"))/checkpoints/step-000006")
    try resumed.restore("model.", from: &saved, in: work)
    #expect(Self.values(resumed.model) == Self.values(nearest))
    try steps(6..<9, &resumed)
    try steps(6..<9, &wide)
    #expect(try masters(resumed, step: 9) == Self.values(wide.model))
  }

  /// Four steps, against two, a checkpoint on disk, and two more: the same bits.
  @Test(arguments: [false, true]) func savedAndRestored(_ onlyTrainable: Bool) throws {
    let folder = try ScratchFolder()
    let work = Workspace()
    func steps(_ range: Range<Int>, _ training: inout TrainableModel<Linear>) throws {
      for step in range {
        Self.gradients(&training.model, step: step)
        if onlyTrainable { training.model.bias!.freeze() }
        _ = try training.update(
          loss: 0, rate: 0.1, maximumNorm: 1, averageDecay: 0.7, step: step, in: work)
      }
    }
    func fresh() throws -> TrainableModel<Linear> {
      var layer = try Self.model(in: work).model
      if onlyTrainable { layer.bias!.freeze() }
      return TrainableModel(layer, Self.options, averageDecay: 0.9, in: work)
    }
    var whole = try fresh()
    try steps(0..<4, &whole)

    var first = try fresh()
    try steps(0..<2, &first)
    let directory = try RunDirectory(
      folder("run"), resuming: false, configuration: [:], environment: [:])
    let state = first.state("model.", onlyTrainable: onlyTrainable)
    let parts = onlyTrainable ? ["l.weight"] : ["l.weight", "l.bias"]
    #expect(
      Set(state.entries.map(\.name))
        == Set(
          parts.flatMap {
            ["model.\($0)", "optimizer.first.\($0)", "optimizer.second.\($0)", "ema.\($0)"]
          }))
    try state.save(step: 2, in: directory, keeping: 1, .current)

    var second = try fresh()
    var saved = try SavedState(try #require(try directory.latest()))
    #expect(try saved.integer("step") == 2)
    try second.restore("model.", onlyTrainable: onlyTrainable, from: &saved, in: work)
    #expect(Self.values(second.model) == Self.values(first.model))
    try steps(2..<4, &second)
    #expect(Self.values(second.model) == Self.values(whole.model))
    #expect(Self.values(second.averaged) == Self.values(whole.averaged))
    #expect(second.optimizer.steps == 4)
  }
}
