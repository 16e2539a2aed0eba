public import TensorRuntime
#if canImport(Glibc)
import Glibc
#endif

/// Balanced entropic transport between two clouds of points, C_ij = |x_i - y_j|² / `scale`, whose cost is never stored.
///
/// A scaling update in the log domain is a row-wise log-sum-exp of (2 x·y - |x|² - |y|²)/(ε scale) + log v, which is what fused attention keeps
/// of its softmax: queries (2 x/(ε scale), 1), keys (y, log v - |y|²/(ε scale)). Memory is O((n + m) d). f32 points reach
/// the default tolerance and say `stalled` where rounding ends their progress; f64 points are solved in f64.
public struct PointTransport: Sendable, Equatable {
  /// In units of the cost, after division by `scale`.
  public var epsilon: Double
  public var scale = 1.0
  /// On the L1 error of the row sums before their update; column sums are exact then.
  public var tolerance: Double
  public var maxIterations: Int

  public init(epsilon: Double, scale: Double = 1, tolerance: Double = 1e-4, maxIterations: Int = 10_000) {
    (self.epsilon, self.scale, self.tolerance, self.maxIterations) = (epsilon, scale, tolerance, maxIterations)
  }

  /// The caller must look at `status`.
  public struct Solution: Sendable {
    public let status: SinkhornResult.Status
    public let iterations: Int
    /// P_ij = exp(logU_i + logV_j - C_ij/ε), f64; -inf where a weight is 0.
    public let logU, logV: [Double]
    /// L1 error of the row sums.
    public let marginalErrorL1: Double
    /// <P, C>.
    public let cost: Double
    /// Barycentric projection of the sources, Σ_j P_ij y_j / Σ_j P_ij, `[N, D]`.
    public let projection: Tensor
  }

  /// x `[N, D]`, y `[M, D]` of one floating type; absent weights are uniform, given ones are divided by their sums.
  public func solve(_ x: Tensor, _ y: Tensor, source: [Double]? = nil, target: [Double]? = nil, in work: borrowing Workspace) throws(TransportError) -> Solution {
    guard x.shape.rank == 2, y.shape.rank == 2, x.shape[1] == y.shape[1], x.type == y.type else { throw .pointShapes(x.shape.dims, y.shape.dims) }
    for (name, t) in [("source points", x), ("target points", y)] where !work.isFinite(t) { throw .notANumber(name: name, index: t.doubles.firstIndex { !$0.isFinite } ?? 0) }
    guard epsilon > 0, epsilon.isFinite else { throw .epsilon(epsilon) }
    guard scale > 0, scale.isFinite else { throw .scale(scale) }
    guard tolerance > 0 else { throw .tolerance(tolerance) }
    guard maxIterations > 0 else { throw .maxIterations(maxIterations) }
    let a = try Self.weights("source", source, x.shape[0]), b = try Self.weights("target", target, y.shape[0])
    // Around the common mean, so that f32 spends its digits on differences.
    let d = x.shape[1], cx = x.doubles, cy = y.doubles, both = Double(x.shape[0] + y.shape[0])
    let mean = (0..<d).map { k in (stride(from: k, to: cx.count, by: d).reduce(0) { $0 + cx[$1] } + stride(from: k, to: cy.count, by: d).reduce(0) { $0 + cy[$1] }) / both }
    let left = Side(cx, mean, a, factor: 1 / (epsilon * scale), type: x.type), right = Side(cy, mean, b, factor: 1 / (epsilon * scale), type: x.type)

    var u = a.map { $0 > 0 ? 0.0 : -.infinity }, v = b.map { $0 > 0 ? 0.0 : -.infinity }
    var error = Double.infinity, best = Double.infinity, sinceBest = 0, iteration = 0, status = SinkhornResult.Status.maxIterations
    var (rows, means) = left.logSumExp(over: right, v, in: work)
    while true {
      if iteration > 0 {
        error = zip(a, zip(u, rows)).reduce(0) { $0 + abs(exp($1.1.0 + $1.1.1) - $1.0) }
        if !error.isFinite { status = .nonFinite }
        if error <= tolerance { status = .converged }
        (best, sinceBest) = error < 0.999 * best ? (error, 0) : (best, sinceBest + 1)
        if status == .maxIterations, sinceBest >= 50 { status = .stalled }
      }
      if status != .maxIterations || iteration == maxIterations { break }
      u = zip(a, rows).map { $0 > 0 ? log($0) - $1 : -.infinity }
      v = zip(b, right.logSumExp(over: left, u, in: work).sums).map { $0 > 0 ? log($0) - $1 : -.infinity }
      (rows, means) = left.logSumExp(over: right, v, in: work)
      iteration += 1
    }
    let width = d + 1, o = means.doubles
    var cost = 0.0, projection = Array(repeating: 0.0, count: cx.count)
    for i in 0..<a.count where a[i] > 0 {
      var dot = 0.0
      for k in 0..<d {
        dot += left.centred[i * d + k] * o[i * width + k]
        projection[i * d + k] = o[i * width + k] + mean[k]
      }
      cost += exp(u[i] + rows[i]) * (left.squares[i] - 2 * dot + o[i * width + d]) / scale
    }
    return Solution(status: status, iterations: iteration, logU: u, logV: v, marginalErrorL1: error, cost: cost, projection: Tensor(projection, x.shape, as: x.type))
  }

  private static func weights(_ name: String, _ w: [Double]?, _ count: Int) throws(TransportError) -> [Double] {
    guard let w else { return Array(repeating: 1 / Double(count), count: count) }
    guard w.count == count else { throw .weightShape(name: name, found: [w.count], expected: [count]) }
    let sum = try EntropicTransport.checked(name, w).reduce(0, +)
    return w.map { $0 / sum }
  }

  /// One cloud: as queries it is constant, as keys its last column is the potential.
  private struct Side {
    let centred, squares: [Double]
    let factor: Double, count, d: Int
    let queries, values: Tensor

    init(_ points: [Double], _ mean: [Double], _ weights: [Double], factor: Double, type: ElementType) {
      let d = mean.count, n = weights.count, width = d + 1, centred = points.indices.map { points[$0] - mean[$0 % d] }
      let squares = (0..<n).map { i in (0..<d).reduce(0) { $0 + centred[i * d + $1] * centred[i * d + $1] } }
      func columns(_ f: Double, _ last: (Int) -> Double) -> Tensor {
        Tensor((0..<n * width).map { $0 % width == d ? last($0 / width) : f * centred[$0 / width * d + $0 % width] }, Shape(1, n, width), as: type)
      }
      (self.centred, self.squares, self.factor, count, self.d) = (centred, squares, factor, n, d)
      (queries, values) = (columns(2 * factor, { _ in 1 }), columns(1) { squares[$0] })
    }
    /// log Σ_j exp(log w_j - C_ij/ε) for every i, and the means of the other cloud's (centred points, squares) under those weights, `[1, N, D + 1]`.
    func logSumExp(over other: Side, _ logWeights: [Double], in work: borrowing Workspace) -> (sums: [Double], means: Tensor) {
      // -1e30 stands for -inf, which attention's running maximum would turn into NaN when a whole tile is absent.
      let potentials = zip(logWeights, other.squares).map { max($0 - factor * $1, -1e30) }
      var keys = work.copy(other.values)
      work.place(Tensor(potentials, Shape(1, other.count, 1), as: keys.type), into: &keys, axis: 2, at: d)
      let (means, lse) = work.attention(q: queries, k: keys, v: other.values, heads: 1, scale: 1)
      return (zip(lse.doubles, squares).map { $0 - factor * $1 }, means)
    }
  }
}
