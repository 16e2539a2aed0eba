public import Files
public import Models
import Pipelines
public import TensorRuntime
public import Transport

/// The settings of `train ot-map` (algorithm.md 3).
public struct OTMapSettings: TrainingSettings {
  @Setting(.computeType) public var compute_dtype = Machine.ComputeType.f32
  public enum Objective: String, Codable, Sendable, CaseIterable {
    /// Neural optimal transport.
    case ot
    /// For comparison: regression on pairs, and on moments (`MapRegression`).
    case l2, kl
  }
  @Setting(
    .choice(Objective.self),
    """
    Neural optimal transport; or, to compare, regression on pairs, or on the moments of both \
    distributions.
    """
  )
  public var objective = Objective.ot
  @Setting(.seed, "Seed.") public var seed = 0
  @Setting(.steps, "Outer steps: one of the potential, `inner` of the map.") public var steps =
    160_000
  @Setting(.batch, "Features of a batch.") public var batch = 128
  @Setting(.whole(1...1_000_000), "Steps of the map for one of the potential.") public var inner =
    10
  @Setting(.learningRate, "Learning rate of the map.") public var learning_rate_map = 1e-4
  @Setting(.learningRate, "Learning rate of the potential.") public var learning_rate_potential =
    1e-4
  @Setting(.share, "Learning rates at the end, as a share.") public var final_rate = 0.05
  @Setting(.weightDecay, "Weight decay, added to the gradient.") public var weight_decay = 1e-10
  @Setting(.gradientNorm, "Largest norm of a gradient.") public var clip = 1.0
  @Setting(.weight, "Weight of the transport cost.") public var mse_weight = 1.0
  @Setting(
    .choice(NeuralMapTrainer.CostReduction.self),
    """
    The cost over the coordinates of a feature: their sum, as the paper writes it, or their mean, \
    as released, which leaves the cost a weight of 1 / dimension (D-11).
    """
  )
  public var cost_reduction = NeuralMapTrainer.CostReduction.sum
  @Setting(.whole(1...65536), "Hidden width of the potential.") public var hidden_potential = 1024
  @Setting(.toggle, "Train on text features of unit length (the released recipe does not, D-10).")
  public var normalize_text = false
  @Setting(.every, "Steps between evaluations on held-out pairs.") public var eval_every = 2000
  @Setting(.every, "Steps between checkpoints.") public var checkpoint_every = 2000
  @Setting(.whole(1...100_000_000), "Training pairs taken from the world.") public var pairs = 6144
  @Setting(.whole(2...1_000_000), "Held-out pairs taken from the world.") public var validation =
    1024
  public init() {}

  /// Refuses a batch larger than the `pairs` there are.
  public func check(pairs: Int, place: String) throws {
    if pairs < batch {
      throw ConfigurationError(
        "\(pairs) pairs are fewer than a batch of \(batch)", place,
        "lower batch, or give more pairs")
    }
  }
}

/// Outer steps of the alternating training, on fixed arrays of features.
public struct OTMapTask: TrainingTask {
  let settings: OTMapSettings
  let batches: FeatureBatches
  let heldOut: (text: Tensor, video: Tensor)
  public private(set) var trainer: NeuralMapTrainer

  public init(
    _ s: OTMapSettings, _ config: VideoTextConfig, text: Tensor, video: Tensor,
    heldOut: (Tensor, Tensor), in work: borrowing Workspace
  ) throws {
    func input(_ t: Tensor) -> Tensor { s.normalize_text ? L2Normalize.forward(t, in: work).y : t }
    settings = s
    batches = FeatureBatches(text: input(text), video: video, batch: s.batch, seed: UInt64(s.seed))
    self.heldOut = (input(heldOut.0), heldOut.1)
    var o = NeuralMapTrainer.Options()
    (o.mapIterations, o.mseWeight, o.maxSteps, o.learningRateFloor) = (
      s.inner, s.mse_weight, s.steps, s.final_rate
    )
    (o.mapLearningRate, o.potentialLearningRate, o.weightDecay, o.clipping) = (
      s.learning_rate_map, s.learning_rate_potential, s.weight_decay, s.clip
    )
    o.costReduction = s.cost_reduction
    trainer = NeuralMapTrainer(
      o, dimension: config.embedDim, mapHidden: config.otMap.hiddenDim,
      potentialHidden: s.hidden_potential, seed: UInt64(s.seed), in: work)
  }
  public var totalSteps: Int { settings.steps }

  public mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    let r: NeuralMapTrainer.Record
    do {
      switch settings.objective {
      case .ot: r = try trainer.outerStep(batches, in: work)
      case .l2: r = try trainer.regressionStep(batches, .l2, in: work)
      case .kl: r = try trainer.regressionStep(batches, .kl, in: work)
      }
    } catch NeuralMapTrainer.TrainingError.nonFiniteGradient(let network, let parameter, _) {
      throw NonFinite("the gradient of \(network)'s \(parameter)", step: step)
    }
    if !r.mapLoss.isFinite || !r.potentialLoss.isFinite { throw NonFinite("the loss", step: step) }
    var terms: [(name: String, value: Double)] = [
      ("map_loss", r.mapLoss), ("mse", r.mse), ("critic_score", r.criticScore),
      ("potential_loss", r.potentialLoss), ("potential_grad_norm", r.potentialGradientNorm),
    ]
    if settings.eval_every > 0 && (step + 1) % settings.eval_every == 0
      || step + 1 == settings.steps
    {
      let mapped = trainer.map(heldOut.text, in: work)
      let k = min(10, heldOut.text.shape[0] - 1)
      terms.append(
        ("mknn_before", OTMapMetrics.mutualNeighbours(heldOut.text, heldOut.video, k: k, in: work)))
      terms.append(
        ("mknn_after", OTMapMetrics.mutualNeighbours(mapped, heldOut.video, k: k, in: work)))
      terms.append(
        ("struct_rho", OTMapMetrics.structurePreservation(heldOut.text, mapped, in: work)))
      for (name, text) in [("before", heldOut.text), ("after", mapped)] {
        let gap = OTMapMetrics.gap(text, heldOut.video, in: work)
        terms.append(("recall_\(name)", OTMapMetrics.recall(text, heldOut.video, k: k, in: work)))
        terms += [
          ("cosine_\(name)", gap.cosine), ("mean_distance_\(name)", gap.distance),
          ("modality_accuracy_\(name)", gap.accuracy),
        ]
      }
      let unit = L2Normalize.forward(mapped, in: work).y
      terms.append(
        (
          "energy_distance_before",
          OTMapMetrics.energyDistance(
            L2Normalize.forward(heldOut.text, in: work).y, heldOut.video, in: work)
        ))
      terms.append(
        ("energy_distance_after", OTMapMetrics.energyDistance(unit, heldOut.video, in: work)))
    }
    var record = StepRecord(
      loss: r.mapLoss, terms: terms, gradientNorm: r.mapGradientNorm,
      learningRate: r.mapLearningRate, samples: settings.batch * (settings.inner + 1))
    if step + 1 == settings.steps { record.warning = Self.fault(terms) }
    return record
  }
  /// What is wrong with a map at its end: it does not carry text to the videos, or loses what is
  /// near what. A quality reward with such a map does harm (Documentation/evidence.md).
  static func fault(_ terms: [(name: String, value: Double)]) -> String? {
    let value = Dictionary(terms) { _, last in last }
    func change(_ name: String) -> (before: Double, after: Double)? {
      guard let before = value["\(name)_before"], let after = value["\(name)_after"] else {
        return nil
      }
      return (before, after)
    }
    func short(_ x: Double) -> String { "\((x * 1e3).rounded() / 1e3)" }
    let remedy = "lower learning_rate_potential (a tenth of learning_rate_map), or take more steps"
    if let d = change("energy_distance"), d.before > 0.01, d.after > d.before / 2 {
      return
        """
        the map does not reach the videos: energy distance \(short(d.before)) before, \
        \(short(d.after)) after: \(remedy)
        """
    }
    if let n = change("mknn"), n.after < n.before / 2 {
      return
        """
        the map loses what is near what: mutual k-NN \(short(n.before)) before, \(short(n.after)) \
        after: \(remedy)
        """
    }
    return nil
  }
  public func state() -> TrainingState {
    var s = TrainingState()
    for t in trainer.state.tensors { s.add(t.name, t.value) }
    for n in trainer.state.numbers { s.numbers[n.name] = .integer(n.value) }
    return s
  }
  public mutating func restore(_ saved: inout SavedState, in work: borrowing Workspace) throws {
    var state = trainer.state
    for i in state.tensors.indices {
      state.tensors[i].value = try saved.tensor(
        state.tensors[i].name, like: state.tensors[i].value.shape, in: work)
    }
    for i in state.numbers.indices {
      state.numbers[i].value = try saved.integer(state.numbers[i].name)
    }
    try trainer.restore(state)
  }
  /// `ot_map.safetensors`, ready for the rewards, and the potential beside it.
  public func export(to folder: String) throws {
    try createFolder(folder)
    try OTMapFile.write(
      trainer.map, normalizesText: settings.normalize_text, step: settings.steps,
      to: "\(folder)/ot_map.safetensors")
    // Regression has no potential.
    if settings.objective != .ot { return }
    try OTMapFile.write(
      trainer.potential, normalizesText: settings.normalize_text, step: settings.steps,
      to: "\(folder)/potential.safetensors")
  }
}
