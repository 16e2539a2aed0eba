public import Layers
public import TensorRuntime

/// A model with its training state: the optimiser's moments and, if asked for, a moving average of
/// the parameters. This one type updates, saves and restores all three.
public struct TrainableModel<Model: Layer> {
  public var model: Model
  public private(set) var optimizer: AdamW
  public private(set) var average: MovingAverage?

  /// `model` must be trainable already. `averageDecay` is the largest decay of the moving average;
  /// nil: no average.
  public init(
    _ model: Model, _ options: AdamW.Options, averageDecay: Double? = nil,
    in work: borrowing Workspace
  ) {
    self.model = model
    optimizer = AdamW(options, for: model, in: work)
    average = averageDecay.map { MovingAverage(decay: $0, of: model, in: work) }
  }
  /// The model with averaged parameters, or the model itself if no average is kept.
  public var averaged: Model { average?.applied(to: model) ?? model }

  /// Clips the gradients to `maximumNorm`, takes one AdamW step, and updates the average with
  /// `decay` (nil: not). Returns the norm of the gradients. Throws `NonFinite` before anything is
  /// changed.
  public mutating func update(
    loss: Double, rate: Double, maximumNorm: Double, averageDecay decay: Double? = nil, step: Int,
    in work: borrowing Workspace
  ) throws -> Double {
    let norm = model.gradientNorm(in: work)
    if !norm.isFinite {
      throw NonFinite(
        "the gradient of \(model.firstNonFiniteGradient(in: work) ?? "all parameters together")",
        step: step)
    }
    if !loss.isFinite { throw NonFinite("the loss", step: step) }
    let scale = clippingFactor(norm: norm, maximum: maximumNorm)
    if let decay {
      optimizer.step(
        &model, learningRate: rate, gradientScale: scale, averaging: &average, decay: decay,
        in: work)
    } else {
      var none: MovingAverage?
      optimizer.step(
        &model, learningRate: rate, gradientScale: scale, averaging: &none, decay: 0, in: work)
    }
    return norm
  }
  /// Updates the average from the current parameters.
  public mutating func updateAverage(in work: borrowing Workspace) {
    average?.update(from: model, in: work)
  }

  /// The tensors of a checkpoint: parameters under `prefix` (all, or only the trainable ones),
  /// optimiser under "optimizer.", average under "ema.".
  public func state(_ prefix: String, onlyTrainable: Bool = false) -> TrainingState {
    var s = TrainingState()
    if onlyTrainable {
      for p in model.trainableParameters() { s.tensors.append(("\(prefix)\(p.name)", p.value)) }
    } else {
      s.add(prefix, parametersOf: model)
    }
    s.add("optimizer.", optimizer)
    if let average { s.add("ema.", average) }
    return s
  }
  /// The inverse of `state`.
  public mutating func restore(
    _ prefix: String, onlyTrainable: Bool = false, from state: inout SavedState,
    in work: borrowing Workspace
  ) throws {
    try model.forEachParameter { p in
      if !onlyTrainable || p.isTrainable {
        p.value = try state.tensor("\(prefix)\(p.name)", like: p.value.shape, in: work)
      }
    }
    optimizer = try state.optimizer("optimizer.", like: optimizer, in: work)
    if let old = average { average = try state.average("ema.", like: old, in: work) }
  }
}
