public import TensorRuntime

/// Why a problem cannot be posed: shapes and sizes, or a fault that the C library would find too.
public enum TransportError: Error, Equatable, CustomStringConvertible {
  case costShape([Int])
  case weightShape(name: String, found: [Int], expected: [Int])
  case pointShapes([Int], [Int])
  case startShape([Int], [Int])
  case costsWithin(found: [[Int]], expected: [Int])
  case histogramShapes([Int], cost: [Int])
  case ownCost(found: [Int]?, expected: Int)
  case precision(String)
  case tooLarge(Int, limit: Int)
  case memory(Int)
  case fault(Workspace.TransportFault)

  public var description: String {
    switch self {
    case .costShape(let s):
      "the cost must be a matrix [N, M] or a batch [H, N, M] with N, M >= 1, not \(s)"
    case .weightShape(let name, let found, let expected):
      "\(name) have shape \(found), not \(expected)"
    case .pointShapes(let x, let y):
      "points must be [N, D] and [M, D] with N, M, D >= 1, not \(x) and \(y)"
    case .startShape(let found, let expected):
      "potentials to start from must have \(expected) elements, not \(found)"
    case .costsWithin(let found, let expected):
      """
      the costs within the two measures must be \(expected[0]) x \(expected[0]) and \(expected[1]) \
      x \(expected[1]), not \(found)
      """
    case .histogramShapes(let b, let c):
      """
      histograms must be [K, N] and the cost [N, M] or [K, N, M] with K, N, M >= 1, not \(b) and \
      \(c)
      """
    case .ownCost(let found, let m):
      """
      a debiased barycenter needs the cost [\(m), \(m)] between its \
      atoms\(found.map { ", not \($0)" } ?? "")
      """
    case .precision(let type): "a solver works in f32 or f64, not \(type)"
    case .tooLarge(let n, let limit):
      "\(n) entries are too many for the exact solver: up to \(limit); use an entropic one"
    case .memory(let bytes):
      "not enough memory for the exact solver, about \(bytes >> 20) MiB: use an entropic one"
    case .fault(let fault): fault.text.what
    }
  }
  /// How to mend it.
  public var remedy: String {
    switch self {
    case .costShape, .pointShapes, .startShape, .weightShape, .histogramShapes, .costsWithin:
      "give an array of that shape"
    case .ownCost: "give it with --own-cost"
    case .precision: "correct the option"
    case .tooLarge, .memory: "take a smaller problem"
    case .fault(let fault): fault.text.remedy
    }
  }
  /// The array or side at fault, as it is called in errors; "" where an option is.
  public var name: String {
    switch self {
    case .costShape, .tooLarge, .memory: "cost"
    case .weightShape(let name, _, _): name
    case .startShape: "start"
    case .fault(let fault): fault.name
    case .pointShapes, .costsWithin, .histogramShapes, .ownCost, .precision: ""
    }
  }

  /// `body`, whose fault becomes an error of this type.
  static func from<R>(_ body: () throws(Workspace.TransportFault) -> R) throws(TransportError) -> R
  {
    do throws(Workspace.TransportFault) { return try body() } catch { throw .fault(error) }
  }
  static func notFinite(_ name: String, _ t: Tensor) -> TransportError {
    let x = t.doubles
    let i = x.firstIndex { !$0.isFinite } ?? 0
    return .fault(.init(.notFinite, name: name, index: i, value: x[i]))
  }
}
