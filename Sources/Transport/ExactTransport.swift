internal import CExact
public import TensorRuntime

/// Exact optimal transport, the limit ε → 0: min <P, C> over plans with P1 = a, Pᵀ1 = b
/// (`.balanced`: a and b are first divided by their sums), or P1 <= a, Pᵀ1 <= b, ΣP = mass
/// (`.exactMass`; Chapel et al. 2020, arXiv:2002.08276).
///
/// By LEMON's network simplex on integers, so it always ends: weights in units of 2⁻⁶⁰ of their
/// sum, costs of about 2⁻⁴⁷ of their range or, where the gap then does not bear the plan out (masks
/// of 1e12 beside costs in [0, 1]), of 2⁻⁹⁶. An infinite cost forbids its pair. About 80 bytes of
/// memory an entry (2⁻⁹⁶: 100), one thread. An oracle for the entropic solvers, for a few million
/// entries.
public struct ExactTransport: Sendable, Equatable {
  public enum Rule: Sendable, Equatable {
    case balanced
    case exactMass(Double)
  }
  public var rule: Rule
  public init(_ rule: Rule = .balanced) { self.rule = rule }

  public struct Solution: Sendable {
    /// `converged` when the gap, recomputed from the costs as given, is below 1e-9 of the cost, and
    /// the marginals hold; else `stalled`.
    public let status: SinkhornResult.Status
    /// P `[N, M]`, f64.
    public let plan: Tensor
    /// <P, C>, and the lower bound that the dual potentials give for the marginals of P.
    public let cost, dual: Double
    /// ΣP, and the L1 and largest violation of the marginals and of the mass by the plan.
    public let mass, marginalErrorL1, marginalErrorLinf: Double
    /// Dual potentials `[N]`, `[M]` in units of the cost.
    public let source, target: [Double]
  }

  /// Σ w to its last digit (Neumaier), so that divided by it many weights still sum to 1.
  private static func sum(_ w: [Double]) -> Double {
    var sum = 0.0
    var rest = 0.0
    for x in w {
      let next = sum + x
      rest += abs(sum) >= abs(x) ? (sum - next) + x : (x - next) + sum
      sum = next
    }
    return sum + rest
  }
  /// Infinite costs forbid their pairs; anything else that is no number is refused, and so is a
  /// range beyond f64.
  private static func check(_ c: [Double]) throws(TransportError) {
    var low = Double.infinity
    var high = -Double.infinity
    for (i, x) in c.enumerated() where x != .infinity {
      if !x.isFinite { throw .fault(.init(.cost, name: "cost", index: i, value: x)) }
      (low, high) = (min(low, x), max(high, x))
    }
    guard low.isFinite else { throw .fault(.init(.infeasible)) }
    guard (high - low).isFinite else {
      throw .fault(
        .init(.notFinite, name: "cost's range", index: c.firstIndex(of: low)!, value: high - low))
    }
  }

  public func solve(cost: Tensor, source: Tensor? = nil, target: Tensor? = nil)
    throws(TransportError) -> Solution
  {
    guard cost.shape.rank == 2, cost.count > 0 else { throw .costShape(cost.shape.dims) }
    let (n, m) = (cost.shape[0], cost.shape[1])
    let c = cost.doubles
    guard n * m + 3 * (n + m) + 8 < Int(Int32.max) else {
      throw .tooLarge(n * m, limit: Int(Int32.max))
    }
    try Self.check(c)
    var a = try TransportWeights.read("source weights", source, n).values
    var b = try TransportWeights.read("target weights", target, m).values
    let sums = (Self.sum(a), Self.sum(b))
    var mass = 1.0
    switch rule {
    case .balanced: (a, b) = (a.map { $0 / sums.0 }, b.map { $0 / sums.1 })
    case .exactMass(let x):
      let limit = min(sums.0, sums.1)
      guard x > 0, x <= limit * (1 + 1e-12) else {
        throw .fault(.init(.mass, value: x, limit: limit))
      }
      mass = min(x, limit)
    }
    var plan = [Double](repeating: 0, count: n * m)
    var f = [Double](repeating: 0, count: n)
    var g = [Double](repeating: 0, count: m)
    var r = pisces_exact_result()
    switch unsafe pisces_exact_transport(
      n, m, c, a, b, rule == .balanced ? 0 : 1, mass, &plan, &f, &g, &r)
    {
    case 0: break
    case 2: throw .memory(100 * n * m)
    default: throw .fault(.init(.infeasible))
    }
    return Solution(
      status: r.is_optimal != 0 ? .converged : .stalled, plan: Tensor(plan, cost.shape),
      cost: r.cost, dual: r.cost - r.gap, mass: r.mass,
      marginalErrorL1: r.error_l1, marginalErrorLinf: r.error_linf, source: f, target: g)
  }
}
