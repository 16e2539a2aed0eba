public import TensorRuntime

/// Where a model's parameters come from when it is built: fresh random numbers, or a checkpoint. A model asks for each
/// parameter by its checkpoint name and shape; the source answers or throws, naming it.
public struct ParameterSource {
  /// How a fresh parameter starts.
  public enum Initial: Sendable {
    case zeros, ones
    case constant(Double)
    case normal(deviation: Double)
    /// Uniform in ±bound.
    case uniform(bound: Double)
    case table(Tensor)
    /// ±1/√fanIn: what PyTorch gives Linear and Conv weights and biases.
    public static func fanIn(_ n: Int) -> Initial { .uniform(bound: 1 / Double(max(n, 1)).squareRoot()) }
    /// ±√(6/(fanIn+fanOut)) (Glorot, Bengio 2010).
    public static func xavier(_ fanIn: Int, _ fanOut: Int) -> Initial { .uniform(bound: (6 / Double(fanIn + fanOut)).squareRoot()) }
  }
  private let make: (String, Shape, Initial) throws -> Tensor

  public init(_ make: @escaping (String, Shape, Initial) throws -> Tensor) { self.make = make }

  public func callAsFunction(_ name: String, _ shape: Shape, _ initial: Initial) throws -> Parameter {
    let value = try make(name, shape, initial)
    precondition(value.shape == shape, "\(name): the source gave \(value.shape) for \(shape)")
    return Parameter(name, value)
  }

  /// Fresh parameters; each depends on the seed and its own name alone.
  public static func random(seed: UInt64, type: ElementType = .f32) -> ParameterSource {
    ParameterSource { name, shape, initial in
      let work = Workspace()
      // FNV-1a of the name keys the stream of this parameter.
      let hash = name.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
      let stream = RandomStream(seed: seed ^ hash, .initialisation)
      switch initial {
      case .zeros: return .zeros(shape, type: type)
      case .ones: return .ones(shape, type: type)
      case .constant(let c): return .full(shape, c, type: type)
      case .normal(let deviation): return work.scaled(stream.normal(shape, type, in: work), by: deviation)
      case .uniform(let bound): return work.affineClamp(stream.uniform(shape, type, in: work), alpha: 2 * bound, beta: -bound, to: -bound...bound)
      case .table(let t): return work.converted(t, to: type)
      }
    }
  }
}
