internal import CExact
public import TensorRuntime

/// Exact optimal transport, the limit ε → 0: min <P, C> over plans with P1 = a, Pᵀ1 = b (`.balanced`: a and b are first divided by
/// their sums), or P1 <= a, Pᵀ1 <= b, ΣP = mass (`.exactMass`; Chapel et al. 2020, arXiv:2002.08276).
///
/// By LEMON's network simplex on weights and costs rounded to 2⁻⁴⁰ of their range, so it always ends; about 70 bytes of memory an entry,
/// one thread. An oracle for the entropic solvers, for a few million entries.
public struct ExactTransport: Sendable, Equatable {
  public enum Rule: Sendable, Equatable { case balanced, exactMass(Double) }
  public var rule: Rule
  public init(_ rule: Rule = .balanced) { self.rule = rule }

  public struct Solution: Sendable {
    /// P `[N, M]`, f64.
    public let plan: Tensor
    /// <P, C>, and its lower bound from the dual potentials: they differ by rounding (2⁻⁴⁰ of the range).
    public let cost, dual: Double
    /// ΣP, and the L1 and largest violation of the marginals and of the mass by the plan.
    public let mass, marginalErrorL1, marginalErrorLinf: Double
    /// Dual potentials `[N]`, `[M]` in units of the cost.
    public let source, target: [Double]
  }

  public func solve(cost: Tensor, source: Tensor? = nil, target: Tensor? = nil) throws(TransportError) -> Solution {
    guard cost.shape.rank == 2, cost.count > 0 else { throw .costShape(cost.shape.dims) }
    let (n, m) = (cost.shape[0], cost.shape[1]), c = cost.doubles
    guard n * m + 3 * (n + m) + 8 < Int(Int32.max) else { throw .tooLarge(n * m, limit: Int(Int32.max)) }
    if let i = c.firstIndex(where: { !$0.isFinite }) { throw .notANumber(name: "cost", index: i) }
    var a = try EntropicTransport.weights("source", source, n), b = try EntropicTransport.weights("target", target, m)
    let sums = (a.reduce(0, +), b.reduce(0, +))
    var mass = 1.0
    switch rule {
    case .balanced: (a, b) = (a.map { $0 / sums.0 }, b.map { $0 / sums.1 })
    case .exactMass(let x):
      let limit = min(sums.0, sums.1)
      guard x > 0, x <= limit * (1 + 1e-12) else { throw .mass(x, limit: limit) }
      mass = min(x, limit)
    }
    // Integers: costs from their least, weights in units of 2⁻⁴⁰ of the larger sum.
    let low = c.min()!, range = max(c.max()! - low, .leastNormalMagnitude), grid = 0x1p40, unit = grid / max(sums.0, sums.1)
    guard range.isFinite else { throw .notANumber(name: "cost's range", index: c.firstIndex(of: low)!) }
    let costs = c.map { Int64((($0 - low) / range * grid).rounded()) }, isPartial = rule != .balanced
    func integers(_ w: [Double]) -> [Int64] {
      if isPartial { return w.map { Int64(($0 * unit).rounded()) } }
      // of the running sums, so that the total is exact and no weight is off by more than one unit
      var sum = 0.0, last = Int64(0)
      return w.indices.map { i in
        sum += w[i]
        let next = i == w.count - 1 ? Int64(grid) : min(Int64((sum * grid).rounded()), Int64(grid)), part = max(next - last, 0)
        last += part
        return part
      }
    }
    let (supply, demand) = (integers(a), integers(b)), scale = isPartial ? unit : grid
    let total = min(Int64((mass * scale).rounded()), supply.reduce(0, +), demand.reduce(0, +))
    var flow = [Int64](repeating: 0, count: n * m), u = [Int64](repeating: 0, count: n), v = [Int64](repeating: 0, count: m)
    switch pisces_exact_transport(n, m, costs, supply, demand, isPartial ? 1 : 0, total, &flow, &u, &v) {
    case 0: break
    case 2: throw .memory(70 * n * m)
    default: throw .mass(mass, limit: min(sums.0, sums.1))
    }
    let plan = flow.map { Double($0) / scale }
    var rows = [Double](repeating: 0, count: n), columns = [Double](repeating: 0, count: m), value = 0.0
    for i in 0..<n { for j in 0..<m where flow[i * m + j] > 0 { rows[i] += plan[i * m + j]; columns[j] += plan[i * m + j]; value += plan[i * m + j] * c[i * m + j] } }
    // Potentials in units of the cost. Partial: those of the two extra nodes are 0 and the price of the mass, by complementary slackness
    // the largest u + v of an arc in use; a cap's price is what its node pays below that.
    let f = u.map { Double($0) / grid * range }, g = v.map { Double($0) / grid * range }, found = plan.reduce(0, +)
    var dual = 0.0
    if isPartial {
      let top = f.max()!, side = g.max()!
      dual = (top + side + low) * found + zip(a, f).reduce(0) { $0 + $1.0 * ($1.1 - top) } + zip(b, g).reduce(0) { $0 + $1.0 * ($1.1 - side) }
    } else {
      dual = low + zip(a, f).reduce(0) { $0 + $1.0 * $1.1 } + zip(b, g).reduce(0) { $0 + $1.0 * $1.1 }
    }
    func excess(_ sums: [Double], _ w: [Double]) -> [Double] { zip(sums, w).map { isPartial ? max($0 - $1, 0) : abs($0 - $1) } }
    let errors = (excess(rows, a), excess(columns, b))
    return Solution(
      plan: Tensor(plan, cost.shape), cost: value, dual: dual, mass: found, marginalErrorL1: max(errors.0.reduce(0, +), errors.1.reduce(0, +), abs(found - mass)),
      marginalErrorLinf: max(errors.0.max()!, errors.1.max()!, abs(found - mass)), source: f.map { $0 + low }, target: g)
  }
}
