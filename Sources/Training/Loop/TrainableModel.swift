import Cluster
import Files
public import Layers
public import TensorRuntime

/// A model with its training state: the optimiser's moments and, if asked for, a moving average of
/// the parameters. This one type updates, saves and restores all three.
///
/// Every rank holds the values of all parameters. Of the moments it holds those of its shard, whole
/// grains (`Grains`), and updates these; new values are then exchanged. An average that no step
/// reads is shared out in the same way. With parameters in bf16 the values that a step reads are
/// rounded from f32 masters, of which a rank holds those of its shard (Micikevicius et al. 2018,
/// arXiv:1710.03740, section 3.1).
public struct TrainableModel<Model: Layer> {
  public var model: Model
  public private(set) var optimizer: AdamW
  public private(set) var average: MovingAverage?
  /// Whether ranks share the average out. It then follows the values before they are rounded.
  private let sharesAverage: Bool
  /// Of this rank's shard, `[elements]` of each parameter; nil where parameters are not rounded.
  private var masters: [Tensor]?
  /// How the trainable parameters are shared out over the ranks.
  let shards: Shards
  /// The summed gradient of this rank's shard, `[elements]`; nil with one rank, where it lies in
  /// the parameters, and where every rank has all of it (`LeafSum`).
  var shardGradient: Tensor?

  /// `model` must be trainable already. `averageDecay` is the largest decay of the moving average;
  /// nil: no average. If steps read the average, every rank has all of it, and it follows the
  /// values that a step reads.
  public init(
    _ model: Model, _ options: AdamW.Options, parameters: ParameterStorage = .f32,
    averageDecay: Double? = nil, stepsReadAverage: Bool = false, in work: borrowing Workspace
  ) {
    self.model = model
    let shards = Shards(of: model, .current)
    self.shards = shards
    sharesAverage = averageDecay != nil && !stepsReadAverage
    optimizer =
      shards.areOne
      ? AdamW(options, for: model, in: work)
      : AdamW(options, for: model, owned: shards.owned, in: work)
    let isWhole = shards.areOne || stepsReadAverage
    average = averageDecay.map {
      MovingAverage(decay: $0, of: model, owned: isWhole ? nil : shards.owned, in: work)
    }
    if parameters == .bf16 {
      masters = shards.values(of: model, in: work)
      self.model.forEachParameter { p in
        if p.isTrainable && p.value.type != .bf16 {
          p.value = work.converted(p.value, to: .bf16)
        }
      }
    }
  }
  /// The model with averaged parameters, or the model itself if no average is kept. Where ranks
  /// share the average out, `collected` comes first.
  public var averaged: Model { average?.applied(to: model) ?? model }
  /// A copy that has the whole average on the first rank, collected from all ranks, which must all
  /// call this.
  public func collected(in work: borrowing Workspace) throws -> Self {
    guard let average, sharesAverage, !shards.areOne else { return self }
    var copy = self
    let whole = try shards.collect(average.values.map(\.value), like: model, in: work)
    copy.average = MovingAverage(
      decay: average.decay, values: zip(average.values, whole).map { ($0.name, $1) })
    return copy
  }

  /// Clips the gradients to `maximumNorm`, takes one AdamW step, and updates the average with
  /// `decay` (nil: not). Returns the norm of the gradients. Throws `NonFinite` before anything is
  /// changed.
  public mutating func update(
    loss: Double, rate: Double, maximumNorm: Double, averageDecay decay: Double? = nil, step: Int,
    in work: borrowing Workspace
  ) throws -> Double {
    var gradients: [Tensor] = []
    let squares: [Double]
    if !shards.areOne || masters != nil { gradients = shards.pieces(of: shardGradient, model) }
    if shards.areOne {
      squares = model.trainableParameters().flatMap {
        Grains.squares(of: $0.gradient!, in: work)
      }
    } else {
      shardGradient = nil
      squares = try shards.gather(
        gradients.flatMap { Grains.squares(of: $0, in: work) }, in: work)
    }
    let norm = squares.reduce(0, +).squareRoot()
    if !norm.isFinite {
      let grain = squares.firstIndex { !$0.isFinite }
      let name = grain.map {
        model.trainableParameters()[shards.grains.parameter(ofGrain: $0)].name
      }
      throw NonFinite("the gradient of \(name ?? "all parameters together")", step: step)
    }
    if !loss.isFinite { throw NonFinite("the loss", step: step) }
    let scale = clippingFactor(norm: norm, maximum: maximumNorm)
    if !gradients.isEmpty {
      var values = masters ?? shards.values(of: model, in: work)
      let isRounded = masters != nil
      masters = nil
      var own: MovingAverage?
      if sharesAverage && decay != nil { swap(&own, &average) }
      optimizer.step(
        &values, gradients, owned: shards.owned, learningRate: rate, gradientScale: scale,
        averaging: &own, decay: decay, in: work)
      if own != nil { swap(&own, &average) }
      gradients = []
      if isRounded {
        let rounded = values.map { work.converted($0, to: .bf16) }
        (masters, values) = (values, [])
        try shards.distribute(rounded, to: &model, in: work)
      } else {
        try shards.distribute(values, to: &model, in: work)
      }
      if let decay, !sharesAverage { average?.update(from: model, decay: decay, in: work) }
    } else if let decay {
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
  public func state(
    _ prefix: String, onlyTrainable: Bool = false
  ) -> TrainingState {
    var s = TrainingState()
    var shapes: [Shape] = []
    model.readParameters { p in
      if p.isTrainable {
        let i = shapes.count
        s.add("\(prefix)\(p.name)", masters?[i] ?? p.value, shards.owned[i], of: p.value.shape)
        shapes.append(p.value.shape)
      } else if !onlyTrainable {
        s.add("\(prefix)\(p.name)", p.value)
      }
    }
    s.numbers["optimizer.steps"] = .integer(optimizer.steps)
    for (i, name) in optimizer.names.enumerated() {
      s.add("optimizer.first.\(name)", optimizer.first[i], shards.owned[i], of: shapes[i])
      s.add("optimizer.second.\(name)", optimizer.second[i], shards.owned[i], of: shapes[i])
    }
    for (i, (name, value)) in (average?.values ?? []).enumerated() {
      s.add("ema.\(name)", value, shards.owned[i], of: shapes[i])
    }
    return s
  }
  /// The inverse of `state`.
  public mutating func restore(
    _ prefix: String, onlyTrainable: Bool = false, from state: inout SavedState,
    in work: borrowing Workspace
  ) throws {
    let (isRounded, owned) = (masters != nil, shards.owned)
    var values: [Tensor] = []
    try model.forEachParameter { p in
      if onlyTrainable && !p.isTrainable { return }
      p.value = try state.tensor("\(prefix)\(p.name)", like: p.value.shape, in: work)
      if p.isTrainable && isRounded {
        values.append(work.copy(p.value.flat(owned[values.count])))
        p.value = work.converted(p.value, to: .bf16)
      }
    }
    if isRounded { masters = values }
    let shapes = model.trainableParameters().map(\.value.shape)
    let mine = shards.areOne ? nil : owned
    optimizer = try state.optimizer(
      "optimizer.", like: optimizer, shapes: shapes, owned: mine, in: work)
    if let old = average {
      average = try state.average(
        "ema.", like: old, shapes: shapes, owned: sharesAverage ? mine : nil, in: work)
    }
  }
}
