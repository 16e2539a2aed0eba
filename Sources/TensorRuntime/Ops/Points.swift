internal import CKernels

/// Clouds of points: `pk_points.h`.
extension Workspace {
  /// |x_i - y_j| for x `[n, d]`, y `[m, d]` of type f64; `[n, m]`.
  public func distances(_ x: Tensor, _ y: Tensor) -> Tensor {
    precondition(
      x.shape.rank == 2 && y.shape.rank == 2 && x.shape[1] == y.shape[1] && x.type == .f64
        && y.type == .f64, "distances of \(x.shape) and \(y.shape)")
    let out = tensor(Shape(x.shape[0], y.shape[0]), .f64)
    func reals(_ t: Tensor) -> UnsafeMutablePointer<Double> {
      unsafe t.base.assumingMemoryBound(to: Double.self)
    }
    unsafe check(pk_distances(x.shape[0], y.shape[0], x.shape[1], reals(x), reals(y), reals(out)))
    return out
  }
  /// Ranks (ties averaged) of the distances of n points in the full n x n list. Each pair is given
  /// once. Also the rank of the diagonal.
  public func averageRanks(_ distances: Tensor, points n: Int) -> (ranks: Tensor, diagonal: Double)
  {
    precondition(
      distances.type == .f64 && distances.count == n * (n - 1) / 2,
      "\(distances.count) distances of \(n) points")
    let y = copy(distances)
    let area = tensor(Shape(pk_average_ranks_scratch(distances.count)), .u8)
    var diagonal = 0.0
    unsafe check(
      pk_average_ranks(
        y.count, n, y.base.assumingMemoryBound(to: Double.self), &diagonal, area.base))
    return (y, diagonal)
  }
}
