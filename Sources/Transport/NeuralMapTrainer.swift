public import Layers
public import TensorRuntime

/// Alternating training of a transport map T from text features to video features and its potential
/// f (Neural Optimal Transport, Korotin et al. 2023, algorithm 1; PISCES section 3.1; algorithm.md
/// 3.2-3.4).
///
///     L_T = w · mean (T(y) - y)²  -  mean f(T(y))        minimised over T, several times an outer
///     step L_f = mean f(T(y))  -  mean f(v)                   minimised over f, once
public struct NeuralMapTrainer: Sendable {
  /// Over coordinates: the transport cost is |y - x|² / D, or |y - x|².
  public enum CostReduction: String, Codable, Sendable, CaseIterable { case mean, sum }
  public struct Options: Sendable, Equatable {
    /// Updates of T in an outer step, each with a batch of its own.
    public var mapIterations = 10
    public var mseWeight = 1.0
    public var costReduction = CostReduction.mean
    public var mapLearningRate = 1e-4, potentialLearningRate = 1e-4
    /// Cosine from the rate down to `learningRateFloor` times it over `maxSteps` outer steps.
    public var maxSteps = 160_000
    public var learningRateFloor = 0.05
    /// Added to the gradient (L2 form).
    public var weightDecay = 1e-10
    /// Of the global gradient norm; 0: none.
    public var clipping = 1.0
    public init() {}
  }
  /// What one outer step did. Losses and norms (before clipping) of T are those of its last update,
  /// before it.
  public struct Record: Sendable, Equatable {
    /// Number of the step, from 1.
    public var step = 0
    public var mapLoss = 0.0, mse = 0.0
    /// Mean f(T(y)) over the last map batch.
    public var criticScore = 0.0
    public var potentialLoss = 0.0
    public var mapGradientNorm = 0.0, potentialGradientNorm = 0.0
    public var mapLearningRate = 0.0, potentialLearningRate = 0.0
  }
  public enum TrainingError: Error, Equatable, CustomStringConvertible {
    case nonFiniteGradient(network: String, parameter: String, step: Int)
    case missing(String)
    case shape(String, found: [Int], expected: [Int])
    public var description: String {
      switch self {
      case .nonFiniteGradient(let network, let parameter, let step):
        "step \(step): the gradient of \(network)'s \(parameter) is not finite"
      case .missing(let name): "the saved state has no \(name)"
      case .shape(let name, let found, let expected):
        "saved \(name) has shape \(found), not \(expected)"
      }
    }
  }

  public var options: Options
  public private(set) var map, potential: NeuralMap
  public private(set) var mapOptimizer, potentialOptimizer: AdamW
  /// Completed outer steps.
  public internal(set) var step: Int

  /// `map` and `potential` are made trainable.
  public init(
    _ options: Options, map: NeuralMap, potential: NeuralMap, in work: borrowing Workspace
  ) {
    precondition(
      potential.config.output == 1 && potential.config.input == map.config.output
        && map.config.input == map.config.output,
      "f must read what T writes: \(map.config), \(potential.config)")
    (self.options, self.map, self.potential, step) = (options, map, potential, 0)
    self.map.makeTrainable(in: work)
    self.potential.makeTrainable(in: work)
    mapOptimizer = AdamW(.init(l2: options.weightDecay), for: self.map, in: work)
    potentialOptimizer = AdamW(.init(l2: options.weightDecay), for: self.potential, in: work)
  }
  /// Fresh networks of `dimension` features; every parameter depends on the seed, its network and
  /// its name alone.
  public init(
    _ options: Options, dimension: Int, mapHidden: Int = 1024, potentialHidden: Int = 1024,
    seed: UInt64, type: ElementType = .f32, in work: borrowing Workspace
  ) {
    let random = ParameterSource.random(seed: seed, type: type)
    func source(_ network: String) -> ParameterSource {
      ParameterSource { name, shape, initial, _ in
        try random("\(network).\(name)", shape, initial).value
      }
    }
    // The random source never throws.
    self.init(
      options,
      map: try! NeuralMap(
        .init(input: dimension, hidden: mapHidden, output: dimension), from: source("T")),
      potential: try! NeuralMap(
        .init(input: dimension, hidden: potentialHidden, output: 1), from: source("f")), in: work)
  }

  /// One outer step, in place: after an error the trainer is between two states, to be restored
  /// from a saved one. `text` is asked for `mapIterations` batches `[B, D]`, then `pair` for the
  /// batch (text, video) that updates f.
  public mutating func outerStep(
    text: (_ iteration: Int) throws -> Tensor, pair: () throws -> (text: Tensor, video: Tensor),
    in work: borrowing Workspace
  ) throws -> Record {
    let schedule = LearningRateSchedule.cosine(floor: options.learningRateFloor)
    var record = Record(step: step + 1)
    record.mapLearningRate = schedule.rate(
      options.mapLearningRate, step: step, of: options.maxSteps)
    record.potentialLearningRate = schedule.rate(
      options.potentialLearningRate, step: step, of: options.maxSteps)
    for iteration in 0..<work.rounds(options.mapIterations) {
      try updateMap(text(iteration), &record, in: work)
    }
    let (y, v) = try pair()
    try updatePotential(y, v, &record, in: work)
    step += 1
    return record
  }

  private mutating func updateMap(_ y: Tensor, _ record: inout Record, in work: borrowing Workspace)
    throws(TrainingError)
  {
    let rows = Double(y.shape[0])
    let scale = options.costReduction == .mean ? 1 / Double(y.count) : 1 / rows
    map.zeroGradients(in: work)
    var frozen = potential
    frozen.freeze()
    let (m, saved) = map.forward(y, in: work)
    let (s, savedPotential) = frozen.forward(m, in: work)
    let difference = work.difference(m, y)
    record.mse = work.sumOfSquares(difference) * scale
    record.criticScore = work.total(s) / rows
    record.mapLoss = options.mseWeight * record.mse - record.criticScore
    var dm = frozen.backward(work.full(s.shape, -1 / rows, s.type), savedPotential, in: work)
    work.add(difference, times: 2 * options.mseWeight * scale, to: &dm)
    map.backwardParameters(dm, saved, in: work)
    record.mapGradientNorm = try norm(map, "T", record.step, in: work)
    mapOptimizer.step(
      &map, learningRate: record.mapLearningRate,
      gradientScale: clippingFactor(norm: record.mapGradientNorm, maximum: options.clipping),
      in: work)
  }
  /// The map's learning rate at this step.
  var mapRate: Double {
    LearningRateSchedule.cosine(floor: options.learningRateFloor).rate(
      options.mapLearningRate, step: step, of: options.maxSteps)
  }
  /// One update of the map on a loss of what it makes of `y`.
  mutating func fitMap(
    _ y: Tensor, _ record: inout Record, in work: borrowing Workspace,
    loss: (Tensor, borrowing Workspace) -> (loss: Double, gradient: Tensor)
  ) throws(TrainingError) {
    map.zeroGradients(in: work)
    let (m, saved) = map.forward(y, in: work)
    let (value, dm) = loss(m, work)
    record.mapLoss = value
    map.backwardParameters(dm, saved, in: work)
    record.mapGradientNorm = try norm(map, "T", record.step, in: work)
    mapOptimizer.step(
      &map, learningRate: record.mapLearningRate,
      gradientScale: clippingFactor(norm: record.mapGradientNorm, maximum: options.clipping),
      in: work)
  }
  private mutating func updatePotential(
    _ y: Tensor, _ v: Tensor, _ record: inout Record, in work: borrowing Workspace
  ) throws(TrainingError) {
    let (b, c) = (y.shape[0], v.shape[0])
    potential.zeroGradients(in: work)
    let (s, saved) = potential.forward(work.concatenated([map(y, in: work), v], axis: 0), in: work)
    record.potentialLoss =
      work.total(s.slice(0..<b)) / Double(b) - work.total(s.slice(b..<b + c)) / Double(c)
    let ds = work.concatenated(
      [
        work.full(Shape(b, 1), 1 / Double(b), s.type),
        work.full(Shape(c, 1), -1 / Double(c), s.type),
      ], axis: 0)
    potential.backwardParameters(ds, saved, in: work)
    record.potentialGradientNorm = try norm(potential, "f", record.step, in: work)
    potentialOptimizer.step(
      &potential, learningRate: record.potentialLearningRate,
      gradientScale: clippingFactor(norm: record.potentialGradientNorm, maximum: options.clipping),
      in: work)
  }
  private func norm(_ network: NeuralMap, _ name: String, _ step: Int, in work: borrowing Workspace)
    throws(TrainingError) -> Double
  {
    let n = network.gradientNorm(in: work)
    if !n.isFinite {
      throw .nonFiniteGradient(
        network: name, parameter: network.firstNonFiniteGradient(in: work) ?? "sum", step: step)
    }
    return n
  }
}

/// The whole state: parameters, moments, counters. With the same batches a restored trainer goes on
/// to the same bits.
extension NeuralMapTrainer {
  public struct State: Sendable {
    /// `T.<parameter>`, `f.<parameter>`, `T_opt.first.<parameter>`, `T_opt.second.<parameter>` and
    /// the same for f.
    public var tensors: [(name: String, value: Tensor)]
    /// `step`, `T_opt.steps`, `f_opt.steps`. The schedules are at `step`.
    public var numbers: [(name: String, value: Int)]
    public init(tensors: [(name: String, value: Tensor)], numbers: [(name: String, value: Int)]) {
      (self.tensors, self.numbers) = (tensors, numbers)
    }
  }
  public var state: State {
    var tensors: [(name: String, value: Tensor)] = []
    for (name, network, optimizer) in [
      ("T", map, mapOptimizer), ("f", potential, potentialOptimizer),
    ] {
      network.readParameters { tensors.append(("\(name).\($0.name)", $0.value)) }
      for (i, p) in optimizer.names.enumerated() {
        tensors.append(("\(name)_opt.first.\(p)", optimizer.first[i]))
        tensors.append(("\(name)_opt.second.\(p)", optimizer.second[i]))
      }
    }
    return State(
      tensors: tensors,
      numbers: [
        ("step", step), ("T_opt.steps", mapOptimizer.steps),
        ("f_opt.steps", potentialOptimizer.steps),
      ])
  }
  /// Takes on a state saved from a trainer of the same sizes.
  public mutating func restore(_ state: State) throws(TrainingError) {
    let tensors = Dictionary(
      state.tensors.map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
    let numbers = Dictionary(
      state.numbers.map { ($0.name, $0.value) }, uniquingKeysWith: { a, _ in a })
    func tensor(_ name: String, like t: Tensor) throws(TrainingError) -> Tensor {
      guard let found = tensors[name] else { throw .missing(name) }
      guard found.shape == t.shape, found.type == t.type else {
        throw .shape(name, found: found.shape.dims, expected: t.shape.dims)
      }
      return found
    }
    func number(_ name: String) throws(TrainingError) -> Int {
      guard let found = numbers[name] else { throw .missing(name) }
      return found
    }
    func network(_ name: String, _ old: NeuralMap) throws(TrainingError) -> NeuralMap {
      var copy = old
      var failure: TrainingError?
      copy.forEachParameter { p in
        do throws(TrainingError) { p.value = try tensor("\(name).\(p.name)", like: p.value) } catch
        { failure = failure ?? error }
      }
      if let failure { throw failure }
      return copy
    }
    func optimizer(_ name: String, _ old: AdamW) throws(TrainingError) -> AdamW {
      var first: [Tensor] = []
      var second: [Tensor] = []
      for (i, p) in old.names.enumerated() {
        first.append(try tensor("\(name)_opt.first.\(p)", like: old.first[i]))
        second.append(try tensor("\(name)_opt.second.\(p)", like: old.second[i]))
      }
      return AdamW(
        old.options, steps: try number("\(name)_opt.steps"), names: old.names, first: first,
        second: second)
    }
    let (newMap, newPotential) = (try network("T", map), try network("f", potential))
    let (newMapOptimizer, newPotentialOptimizer) = (
      try optimizer("T", mapOptimizer), try optimizer("f", potentialOptimizer)
    )
    step = try number("step")
    (map, potential, mapOptimizer, potentialOptimizer) = (
      newMap, newPotential, newMapOptimizer, newPotentialOptimizer
    )
  }
}

/// Batches from paired feature arrays `[n, D]`: each epoch in an order of its own, incomplete
/// batches dropped. Batch k depends on the seed and k alone, so a run goes on where it stopped.
public struct FeatureBatches: Sendable {
  public let text, video: Tensor
  public let batch: Int, seed: UInt64

  public init(text: Tensor, video: Tensor, batch: Int, seed: UInt64) {
    precondition(
      text.shape == video.shape && text.shape.rank == 2 && batch > 0 && batch <= text.shape[0],
      "features \(text.shape), \(video.shape), batch \(batch)")
    (self.text, self.video, self.batch, self.seed) = (text, video, batch, seed)
  }
  public func pair(_ k: Int, in work: borrowing Workspace) -> (text: Tensor, video: Tensor) {
    let perEpoch = text.shape[0] / batch
    var stream = RandomStream(seed: seed, .order, step: k / perEpoch)
    let start = k % perEpoch * batch
    let ids = stream.permutation(text.shape[0])[start..<start + batch].map { Int32($0) }
    return (work.gather(text, ids), work.gather(video, ids))
  }
}

extension NeuralMapTrainer {
  /// One outer step on the next `mapIterations + 1` batches.
  public mutating func outerStep(_ batches: FeatureBatches, in work: borrowing Workspace) throws
    -> Record
  {
    let from = step * (options.mapIterations + 1)
    let last = from + options.mapIterations
    // Closures cannot borrow a workspace; batches are few and small.
    var texts: [Tensor] = []
    for k in from..<last { texts.append(batches.pair(k, in: work).text) }
    let final = batches.pair(last, in: work)
    return try outerStep(text: { texts[$0] }, pair: { final }, in: work)
  }
}
