import TensorRuntime

/// Costs and points in a solver's precision, their shapes and values checked.
struct TransportCosts {
  let cost: Workspace.SinkhornCost
  /// Whether a matrix has infinite elements, which forbid their pairs.
  let hasForbidden: Bool
  var isMatrix: Bool { if case .matrix = cost { true } else { false } }

  init(
    _ given: Workspace.SinkhornCost, as precision: ElementType, in work: borrowing Workspace
  ) throws(TransportError) {
    guard precision == .f32 || precision == .f64 else { throw .precision("\(precision)") }
    switch given {
    case .matrix(let c):
      guard c.shape.rank == 2, c.shape[0] > 0, c.shape[1] > 0 else {
        throw .costShape(c.shape.dims)
      }
      let (matrix, any) = try Self.matrix(c, as: precision, in: work)
      (cost, hasForbidden) = (.matrix(matrix), any)
    case .points(let x, let y, let metric, let scale):
      guard x.shape.rank == 2, y.shape.rank == 2, x.shape[1] == y.shape[1], x.count > 0, y.count > 0
      else { throw .pointShapes(x.shape.dims, y.shape.dims) }
      cost = .points(
        try Self.points("source points", x, metric, as: precision, in: work),
        try Self.points("target points", y, metric, as: precision, in: work), metric, scale: scale)
      hasForbidden = false
    }
  }

  /// A tensor of finite numbers in `type`. A number that only `type` makes infinite is refused too.
  static func finite(
    _ name: String, _ t: Tensor, as type: ElementType, in work: borrowing Workspace
  ) throws(TransportError) -> Tensor {
    guard work.isFinite(t) else { throw .notFinite(name, t) }
    let c = work.converted(t, to: type)
    guard c.type == t.type || work.isFinite(c) else { throw .notFinite("\(name) as \(type)", c) }
    return c
  }

  /// Costs within one measure, which debiasing needs to be the same in both directions.
  static func symmetric(
    _ name: String, _ t: Tensor, as type: ElementType, in work: borrowing Workspace
  ) throws(TransportError) -> Tensor {
    guard work.isFinite(t) else { throw .notFinite(name, t) }
    do { try work.checkSymmetric(t, named: name) } catch { throw .fault(error) }
    return work.converted(t, to: type)
  }

  /// A cost matrix of finite numbers and +inf in `type`, and whether it has any +inf.
  private static func matrix(
    _ t: Tensor, as type: ElementType, in work: borrowing Workspace
  ) throws(TransportError) -> (cost: Tensor, any: Bool) {
    let c = work.converted(t, to: type)
    if work.isFinite(c) { return (c, false) }
    let given = t.doubles
    if let i = given.firstIndex(where: { !$0.isFinite && $0 != .infinity }) {
      throw .fault(.init(.cost, name: "cost", index: i, value: given[i]))
    }
    let overflow = zip(given, c.doubles).enumerated().first { $1.0.isFinite && !$1.1.isFinite }
    if let i = overflow?.offset {
      throw .fault(.init(.notFinite, name: "cost as \(type)", index: i, value: .infinity))
    }
    return (c, true)
  }

  private static func points(
    _ name: String, _ t: Tensor, _ metric: Workspace.SinkhornMetric, as type: ElementType,
    in work: borrowing Workspace
  ) throws(TransportError) -> Tensor {
    let points = try finite(name, t, as: type, in: work)
    if metric == .cosine {
      do { try work.checkDirections(points, named: name) } catch { throw .fault(error) }
    }
    return points
  }
}
