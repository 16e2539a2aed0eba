public import TensorRuntime

/// The source of a model's parameters when it is built: random numbers or a checkpoint. A model
/// asks for each parameter by checkpoint name and shape. The source returns it, or throws an error
/// with the name.
public struct ParameterSource {
  /// Initial values of a fresh parameter.
  public enum Initial: Sendable {
    case zeros, ones
    case constant(Double)
    case normal(deviation: Double)
    /// Uniform in ±bound.
    case uniform(bound: Double)
    /// Made only where it is used.
    case table(@Sendable () -> Tensor)
    /// ±1/√fanIn: what PyTorch gives Linear and Conv weights and biases.
    public static func fanIn(_ n: Int) -> Initial {
      .uniform(bound: 1 / Double(max(n, 1)).squareRoot())
    }
    /// ±√(6/(fanIn+fanOut)) (Glorot, Bengio 2010).
    public static func xavier(_ fanIn: Int, _ fanOut: Int) -> Initial {
      .uniform(bound: (6 / Double(fanIn + fanOut)).squareRoot())
    }
  }
  /// How a parameter must match.
  public enum Need: Sendable {
    /// Must have exactly this shape.
    case exact
    /// May have any number of rows on axis 1 (position tables of another length).
    case anyRows
    /// May be absent.
    case optional
  }
  private let find: (String, Shape, Initial, Need) throws -> Tensor?

  /// `find` returns nil only for an optional parameter that is absent.
  public init(
    _ find:
      @escaping (_ name: String, _ shape: Shape, _ initial: Initial, _ need: Need) throws -> Tensor?
  ) { self.find = find }

  public func callAsFunction(_ name: String, _ shape: Shape, _ initial: Initial) throws -> Parameter
  {
    let value = try find(name, shape, initial, .exact)!
    precondition(value.shape == shape, "\(name): the source gave \(value.shape) for \(shape)")
    return Parameter(name, value)
  }
  public func table(_ name: String, _ shape: Shape, _ initial: Initial) throws -> Parameter {
    Parameter(name, try find(name, shape, initial, .anyRows)!)
  }
  public func optional(_ name: String, _ shape: Shape, _ initial: Initial) throws -> Parameter? {
    try find(name, shape, initial, .optional).map { Parameter(name, $0) }
  }

  /// Parameters without elements, for a model of which only names and shapes are asked: it must not
  /// be run.
  public static var shapes: ParameterSource {
    ParameterSource { _, shape, _, need in need == .optional ? nil : .withoutElements(shape) }
  }

  /// Fresh parameters. Each depends only on the seed and its own name.
  public static func random(seed: UInt64, type: ElementType = .f32) -> ParameterSource {
    ParameterSource { name, shape, initial, _ in
      let work = Workspace()
      // FNV-1a of the name selects the random stream of this parameter.
      let hash = name.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) {
        ($0 ^ UInt64($1)) &* 0x100_0000_01b3
      }
      let stream = RandomStream(seed: seed ^ hash, .initialisation)
      switch initial {
      case .zeros: return .zeros(shape, type: type)
      case .ones: return .ones(shape, type: type)
      case .constant(let c): return .full(shape, c, type: type)
      case .normal(let deviation):
        return work.scaled(stream.normal(shape, type, in: work), by: deviation)
      case .uniform(let bound):
        return work.affineClamp(
          stream.uniform(shape, type, in: work), alpha: 2 * bound, beta: -bound, to: -bound...bound)
      case .table(let t): return work.converted(t(), to: type)
      }
    }
  }
}
