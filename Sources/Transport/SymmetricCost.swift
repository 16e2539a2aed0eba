import TensorRuntime

/// The costs within one measure, of which debiasing needs that they are the same in both
/// directions.
enum SymmetricCost {
  /// A square matrix of finite numbers in `type` whose elements [i, j] and [j, i] differ by no more
  /// than 1e-6 of the largest.
  static func checked(
    _ name: String, _ t: Tensor, as type: ElementType, in work: borrowing Workspace
  ) throws(TransportError) -> Tensor {
    guard work.isFinite(t) else {
      throw .notANumber(name: name, index: t.doubles.firstIndex { !$0.isFinite } ?? 0)
    }
    let c = t.doubles
    let n = t.shape.last
    let most = c.reduce(0) { max($0, abs($1)) }
    for i in 0..<n {
      for j in 0..<i where abs(c[i * n + j] - c[j * n + i]) > 1e-6 * most {
        throw .asymmetric(name: name, row: j, column: i)
      }
    }
    return work.converted(t, to: type)
  }
}
