public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// Adam with decoupled weight decay (Loshchilov, Hutter 2019, arXiv:1711.05101) or, with `l2`, with
/// decay in the gradient (Kingma, Ba 2015). The state is in the order of the trainable parameters
/// in `forEachParameter`.
public struct AdamW: Sendable {
  /// Storage of the moments of f32 parameters: f32, or bf16 with stochastic rounding in half the
  /// memory.
  public enum Moments: String, Codable, Sendable, CaseIterable { case f32, bf16 }
  public struct Options: Sendable, Equatable {
    public var beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.0, l2 = 0.0
    public var moments = Moments.f32
    public init(
      beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8, weightDecay: Double = 0,
      l2: Double = 0, moments: Moments = .f32
    ) {
      (self.beta1, self.beta2, self.epsilon, self.weightDecay, self.l2) = (
        beta1, beta2, epsilon, weightDecay, l2
      )
      self.moments = moments
    }
  }
  public var options: Options
  public private(set) var steps: Int
  /// Names of the parameters, and their first and second moments: all of them, or those of a shard,
  /// `[elements]`.
  public private(set) var names: [String]
  public private(set) var first, second: [Tensor]

  /// Zero moments for the trainable parameters of `model`.
  public init(_ options: Options, for model: some Layer, in work: borrowing Workspace) {
    self.init(options, of: model.trainableParameters().map { ($0, $0.value.shape) }, in: work)
  }
  /// The same for elements `owned[i]` of trainable parameter i.
  public init(
    _ options: Options, for model: some Layer, owned: [Range<Int>], in work: borrowing Workspace
  ) {
    let parts = zip(model.trainableParameters(), owned).map { ($0, Shape($1.count)) }
    self.init(options, of: parts, in: work)
  }
  private init(_ options: Options, of parts: [(Parameter, Shape)], in work: borrowing Workspace) {
    self.options = options
    (steps, names, first, second) = (0, [], [], [])
    for (p, shape) in parts {
      names.append(p.name)
      let gradient = p.gradient!.type
      let type = options.moments == .bf16 && gradient == .f32 ? ElementType.bf16 : gradient
      first.append(work.zeros(shape, type))
      second.append(work.zeros(shape, type))
    }
  }
  /// A state read from a checkpoint.
  public init(_ options: Options, steps: Int, names: [String], first: [Tensor], second: [Tensor]) {
    precondition(
      names.count == first.count && names.count == second.count,
      "\(names.count) names for \(first.count) and \(second.count) moments")
    (self.options, self.steps, self.names, self.first, self.second) = (
      options, steps, names, first, second
    )
  }

  /// One update of every trainable parameter. Each gradient is first multiplied by `gradientScale`.
  public mutating func step(
    _ model: inout some Layer, learningRate: Double, gradientScale: Double = 1,
    in work: borrowing Workspace
  ) {
    var none: MovingAverage?
    step(
      &model, learningRate: learningRate, gradientScale: gradientScale, averaging: &none, in: work)
  }
  /// As above, with a moving average that is updated in the same pass. The bits are those of
  /// `MovingAverage.update` afterwards. `decay` may be lower in the first steps.
  public mutating func step(
    _ model: inout some Layer, learningRate: Double, gradientScale: Double = 1,
    averaging average: inout MovingAverage?, decay: Double? = nil, in work: borrowing Workspace
  ) {
    steps += 1
    var i = 0
    model.forEachParameter { p in
      guard let gradient = p.gradient else { return }
      precondition(
        i < names.count && names[i] == p.name,
        "\(p.name): the optimiser was made for other parameters")
      let update = update(i, learningRate, gradientScale)
      if average == nil {
        work.adam(update, gradient: gradient, value: &p.value, first: &first[i], second: &second[i])
      } else {
        precondition(
          average!.values[i].name == p.name, "\(p.name): the average was made for other parameters")
        work.adam(
          update, gradient: gradient, value: &p.value, first: &first[i], second: &second[i],
          average: &average!.values[i].value, decay: decay ?? average!.decay)
      }
      i += 1
    }
  }
  /// One update of a shard: elements `owned[i]` of parameter i, whose values, gradients and average
  /// are given as `[elements]`. The bits are those of an update of whole parameters.
  public mutating func step(
    _ values: inout [Tensor], _ gradients: [Tensor], owned: [Range<Int>], learningRate: Double,
    gradientScale: Double, averaging average: inout MovingAverage?, decay: Double? = nil,
    in work: borrowing Workspace
  ) {
    steps += 1
    for i in values.indices where !owned[i].isEmpty {
      var update = update(i, learningRate, gradientScale)
      update.firstElement = owned[i].lowerBound
      if average == nil {
        work.adam(
          update, gradient: gradients[i], value: &values[i], first: &first[i], second: &second[i])
      } else {
        work.adam(
          update, gradient: gradients[i], value: &values[i], first: &first[i], second: &second[i],
          average: &average!.values[i].value, decay: decay ?? average!.decay)
      }
    }
  }
  /// The numbers of the update under way, for parameter `i`.
  private func update(_ i: Int, _ learningRate: Double, _ gradientScale: Double) -> AdamUpdate {
    var update = AdamUpdate(
      learningRate: learningRate, beta1: options.beta1, beta2: options.beta2,
      epsilon: options.epsilon, weightDecay: options.weightDecay, l2: options.l2,
      correction1: 1 - pow(options.beta1, Double(steps)),
      correction2: 1 - pow(options.beta2, Double(steps)), gradientScale: gradientScale)
    update.salt =
      UInt32(truncatingIfNeeded: steps) &* 0x9e37_79b1 &+ UInt32(truncatingIfNeeded: i)
      &* 0x85eb_ca77
    return update
  }
}

extension Layer {
  /// ‖g‖₂ over all trainable parameters: the sum of one number a grain.
  public func gradientNorm(in work: borrowing Workspace) -> Double {
    var squares = 0.0
    for p in trainableParameters() {
      squares = Grains.squares(of: p.gradient!, in: work).reduce(squares, +)
    }
    return squares.squareRoot()
  }
  /// The first trainable parameter whose gradient is not finite.
  public func firstNonFiniteGradient(in work: borrowing Workspace) -> String? {
    for p in trainableParameters() where !work.isFinite(p.gradient!) { return p.name }
    return nil
  }
}

/// min(1, max / (norm + 1e-6)): the factor for clipping by the global norm (PyTorch's
/// `clip_grad_norm_`).
public func clippingFactor(norm: Double, maximum: Double) -> Double {
  maximum > 0 ? min(1, maximum / (norm + 1e-6)) : 1
}
