public import TensorRuntime

/// Exponential moving average of the trainable parameters: θ⁻ ← d θ⁻ + (1 - d) θ.
public struct MovingAverage: Sendable {
  public internal(set) var values: [(name: String, value: Tensor)]
  public let decay: Double

  /// Starts at the current values. Of parameters in bf16 it is kept in f32. With `owned` it is that
  /// of a shard: of elements `owned[i]` of trainable parameter i, `[elements]`.
  public init(
    decay: Double, of model: some Layer, owned: [Range<Int>]? = nil, in work: borrowing Workspace
  ) {
    self.decay = decay
    values = []
    for (i, p) in model.trainableParameters().enumerated() {
      let own = owned.map { p.value.flat($0[i]) } ?? p.value
      values.append((p.name, work.copy(own, as: p.gradient!.type)))
    }
  }
  public init(decay: Double, values: [(name: String, value: Tensor)]) {
    (self.decay, self.values) = (decay, values)
  }

  /// `decay` may be lower in the first steps.
  public mutating func update(
    from model: some Layer, decay: Double? = nil, in work: borrowing Workspace
  ) {
    let d = decay ?? self.decay
    for (i, p) in model.trainableParameters().enumerated() {
      work.blend(d, &values[i].value, with: work.widened(p.value))
    }
  }
  /// `model` with its trainable parameters replaced by the averaged values.
  public func applied<Model: Layer>(to model: Model) -> Model {
    var copy = model
    var i = 0
    copy.forEachParameter { p in
      guard p.isTrainable else { return }
      precondition(values[i].name == p.name, "\(p.name): the average was made for other parameters")
      p.value = values[i].value.reshaped(p.value.shape)
      i += 1
    }
    return copy
  }
}
