public import Layers
public import TensorRuntime

/// A model with what training keeps beside it: the optimiser's moments and, where it is asked for, a
/// moving average of the parameters. One value updates, saves and restores all three.
public struct TrainableModel<Model: Layer> {
  public var model: Model
  public private(set) var optimizer: AdamW
  public private(set) var average: MovingAverage?

  /// `model` has been made trainable. `averageDecay` is the moving average's decay at its longest;
  /// nil or 0: no average.
  public init(
    _ model: Model, _ options: AdamW.Options, averageDecay: Double? = nil,
    in work: borrowing Workspace
  ) {
    self.model = model
    optimizer = AdamW(options, for: model, in: work)
    average = averageDecay.flatMap {
      $0 > 0 ? MovingAverage(decay: $0, of: model, in: work) : nil
    }
  }
  /// The model with its averaged parameters, or as it is where no average is kept.
  public var averaged: Model { average?.applied(to: model) ?? model }

  /// Clips the gradients to `maximumNorm`, takes one AdamW step, and renews the average with `decay`;
  /// nil leaves the average alone. Returns the gradients' norm. Throws `NonFinite` before it changes
  /// anything.
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
  /// Renews the average from the parameters as they are.
  public mutating func updateAverage(in work: borrowing Workspace) {
    average?.update(from: model, in: work)
  }

  /// Parameters under `prefix`, all or the trainable ones; the optimiser under "optimizer.", the
  /// average under "ema.".
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
