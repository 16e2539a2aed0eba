public import TensorRuntime

/// The Sinkhorn divergence of two measures, S = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 + ε / 2 (Σa
/// - Σb)², where OT is the optimal value of <P,C> + ε KL(P | a ⊗ b) + the rule: positive for
/// different measures, 0 for equal ones, and with gradients that vanish there.
///
/// Balanced weights are divided by their sums. The contract is `pk_divergence.h` (Feydy et al.
/// 2019, arXiv:1810.08278; with a finite ρ Sejourne et al. 2019, arXiv:1910.12958). Three solves;
/// the cost between points is never stored.
public struct SinkhornDivergence: Sendable, Equatable {
  /// What each solve is: its rule is `balanced` or `unbalanced` with one ρ for both sides.
  public let solver: EntropicTransport

  /// `rho`: strength of both marginals (KL); infinite: balanced. Tolerance, iterations and
  /// precision as in `EntropicTransport`.
  public init(
    epsilon: Double, rho: Double = .infinity,
    tolerance: Double = Workspace.TransportDefaults.tolerance,
    maxIterations: Int = Workspace.TransportDefaults.maxIterations, precision: ElementType = .f64,
    isPlain: Bool = false
  ) {
    let rule =
      rho == .infinity ? MarginalRule.balanced : .unbalanced(rhoSource: rho, rhoTarget: rho)
    var solver = EntropicTransport(
      rule, epsilon: epsilon, tolerance: tolerance, maxIterations: maxIterations,
      precision: precision)
    solver.isPlain = isPlain
    self.solver = solver
  }

  /// One of the three solves, with what its potentials amount to.
  public struct Term: Sendable {
    public let status: SinkhornResult.Status
    public let iterations: Int
    public let residual: Double
    /// <P,C>; the objective with the product reference and its dual bound; ΣP; the marginals'
    /// errors, as in `SinkhornResult`.
    public let cost, objective, dual, mass, marginalErrorL1, marginalErrorLinf: Double
  }
  public struct Result: Sendable {
    /// From the three duals: with potentials off by d it is off by d². NaN when a solve was
    /// interrupted or left the numbers' range.
    public let value: Double
    /// OT(a, b), OT(a, a), OT(b, b).
    public let terms: [Term]
    /// The worst status of the three: the value is what it should be only if all converged.
    public var status: SinkhornResult.Status {
      let order: [SinkhornResult.Status] = [.interrupted, .nonFinite, .stalled, .maxIterations]
      return order.first { s in terms.contains { $0.status == s } } ?? .converged
    }
    /// Gradients of the value, where they were asked for: with respect to the points `[N, D]`, `[M,
    /// D]` (nil with matrices), and to the weights as they were given (balanced: only differences
    /// along directions that keep a sum mean anything, and those that change it give 0; 0 where a
    /// weight is 0).
    public let points: (source: Tensor, target: Tensor)?
    public let source, target: [Double]?
  }

  /// The divergence for a cost between two measures. `within`: with a matrix the costs `[N, N]` and
  /// `[M, M]` inside each. Absent weights are uniform with sum 1. `progress` is asked in each of
  /// the three solves whether to go on.
  public func evaluate(
    _ cost: EntropicTransport.Cost, within: (source: Tensor, target: Tensor)? = nil,
    source: Tensor? = nil, target: Tensor? = nil, gradients: Bool = false,
    progress: Workspace.SinkhornProgress? = nil, in work: borrowing Workspace
  ) throws(TransportError) -> Result {
    var settings = try solver.settings(cost)
    let costs = try TransportCosts(cost, as: solver.precision, in: work)
    let (n, m) = (costs.cost.rows, costs.cost.columns)
    if costs.hasForbidden, case .matrix(let c) = costs.cost { throw .notFinite("cost", c) }
    let inside = costs.isMatrix ? try checked(within, n, m, in: work) : nil
    let weights = try TransportWeights(
      try TransportWeights.read("source weights", source, n),
      try TransportWeights.read("target weights", target, m), rule: solver.rule,
      settings: &settings)
    try checkRange("source weights", weights.source, settings, work)
    try checkRange("target weights", weights.target, settings, work)
    let v = work.sinkhornDivergence(
      settings, cost: costs.cost, within: inside, source: weights.source, target: weights.target,
      wantsGradients: gradients, progress: progress)
    return Result(
      value: v.value, terms: v.terms.map { Term($0, epsilon: solver.epsilon) },
      points: v.points.map { (source: $0.0, target: $0.1) },
      source: v.source.map {
        solver.undivided($0, weights: weights.source, sum: weights.sums.0)
      },
      target: v.target.map {
        solver.undivided($0, weights: weights.target, sum: weights.sums.1)
      })
  }
  /// The costs inside the two measures.
  private func checked(
    _ within: (source: Tensor, target: Tensor)?, _ n: Int, _ m: Int, in work: borrowing Workspace
  ) throws(TransportError) -> (Tensor, Tensor) {
    guard let within, within.source.shape == Shape(n, n), within.target.shape == Shape(m, m) else {
      throw .costsWithin(
        found: within.map { [$0.source.shape.dims, $0.target.shape.dims] } ?? [], expected: [n, m])
    }
    let (source, target, type) = (within.source, within.target, solver.precision)
    return (
      try TransportCosts.symmetric("cost within the source", source, as: type, in: work),
      try TransportCosts.symmetric("cost within the target", target, as: type, in: work)
    )
  }
  private func checkRange(
    _ name: String, _ w: [Double], _ settings: Workspace.SinkhornSettings,
    _ work: borrowing Workspace
  ) throws(TransportError) {
    guard let i = work.sinkhornOutOfRange(w, settings) else { return }
    throw .fault(.init(.weightRange, name: name, index: i, value: w[i]))
  }

  /// Bytes that an evaluation takes beside its inputs, about.
  public func memoryBytes(
    _ cost: EntropicTransport.Cost, gradients: Bool, in work: borrowing Workspace
  ) throws(TransportError) -> Int {
    let scratch = work.sinkhornDivergenceScratch(
      try solver.settings(cost), cost: cost, type: solver.precision)
    guard case .points(let x, let y, _, _) = cost else { return scratch }
    return scratch + (x.count + y.count) * solver.precision.byteCount * (gradients ? 2 : 1)
  }
}

extension SinkhornDivergence.Term {
  init(_ t: Workspace.SinkhornTerm, epsilon: Double) {
    let c = t.certificate
    (status, iterations, residual) = (SinkhornResult.Status(t.outcome), t.iterations, t.residual)
    (cost, objective, dual, mass) = (
      c.cost, c.cost + epsilon * c.entropy + c.penalties + t.shift, c.dual + t.shift, c.mass
    )
    (marginalErrorL1, marginalErrorLinf) = (c.errorL1, c.errorLinf)
  }
}
