public import TensorRuntime

/// Which entropic problem is solved between weights a `[N]` and b `[M]` (algorithm.md 4.8; KL(p|q) = Σ p log(p/q) - p + q).
public enum MarginalRule: Sendable, Equatable {
  /// min <P,C> + ε Σ P (log P - 1) with P1 = a, Pᵀ1 = b; a and b are first divided by their sums (Cuturi 2013).
  case balanced
  /// The same plus ρ_source KL(P1|a) + ρ_target KL(Pᵀ1|b) instead of the constraints (Chizat et al. 2018). An infinite ρ keeps
  /// the constraint of its side; with both infinite the sums of a and b must agree.
  case unbalanced(rhoSource: Double, rhoTarget: Double)
  /// The PISCES relaxation: `unbalanced` with ρ = ε M / (1 - M) on both sides, so that the scaling exponent is M; from 0.999 on,
  /// M counts as 1 (hard constraints).
  case relaxed(mass: Double)
  /// P1 <= a, Pᵀ1 <= b, ΣP = mass (Benamou et al. 2015).
  case exactMass(Double)
}

/// Why a problem cannot be posed.
public enum TransportError: Error, Equatable, CustomStringConvertible {
  case costShape([Int]), weightShape(name: String, found: [Int], expected: [Int])
  case notANumber(name: String, index: Int), negativeWeight(name: String, index: Int, value: Double), noWeight(name: String)
  case pointShapes([Int], [Int])
  case epsilon(Double), scale(Double), rho(Double), mass(Double, limit: Double), unequalSums(Double, Double), tolerance(Double), maxIterations(Int)
  public var description: String {
    switch self {
    case .costShape(let s): "the cost must be a matrix [N, M] or a batch [H, N, M] with N, M >= 1, not \(s)"
    case .weightShape(let name, let found, let expected): "\(name) weights have shape \(found), not \(expected)"
    case .notANumber(let name, let index): "\(name): element \(index) is not a finite number"
    case .negativeWeight(let name, let index, let value): "\(name) weights: element \(index) is negative (\(value))"
    case .noWeight(let name): "\(name) weights sum to zero"
    case .pointShapes(let x, let y): "points must be [N, D] and [M, D] of one type, not \(x) and \(y)"
    case .scale(let s): "the cost's divisor must be positive and finite, not \(s)"
    case .epsilon(let e): "epsilon must be positive and finite, not \(e)"
    case .rho(let r): "a marginal strength must be positive, not \(r)"
    case .mass(let m, let limit): "mass must be in (0, \(limit)], not \(m)"
    case .unequalSums(let a, let b): "with both marginals hard the weights must have equal sums, not \(a) and \(b)"
    case .tolerance(let t): "tolerance must be positive, not \(t)"
    case .maxIterations(let n): "max iterations must be positive, not \(n)"
    }
  }
}

/// Solver of entropic transport with a dense cost, in double precision whatever the type of its inputs.
///
/// Block ascent of the dual in the log domain with absorption, a falling sequence of ε where ε is small, Newton steps where that
/// is slow; the contract is `pk_sinkhorn.h`. A batch gives the bits of its items solved one by one, and the bits do not depend on
/// the number of threads or the instruction set.
public struct EntropicTransport: Sendable, Equatable {
  public var rule: MarginalRule
  /// Regularisation, in units of the cost.
  public var epsilon: Double
  /// On the change of the row sums or of the column sums (L1, the larger) over one iteration, relative to ΣP; with hard marginals
  /// this is the L1 error of the marginal before its update.
  public var tolerance: Double
  /// Limit on passes over the matrix: scaling iterations and conjugate-gradient steps alike.
  public var maxIterations: Int

  public init(_ rule: MarginalRule, epsilon: Double, tolerance: Double = 1e-10, maxIterations: Int = 20_000) {
    (self.rule, self.epsilon, self.tolerance, self.maxIterations) = (rule, epsilon, tolerance, maxIterations)
  }

  /// Solves for one cost `[N, M]`. Absent weights are uniform with sum 1; a weight of 0 gives an exactly zero row or column.
  public func solve(cost: Tensor, source: Tensor? = nil, target: Tensor? = nil, in work: borrowing Workspace) throws(TransportError) -> SinkhornResult {
    guard cost.shape.rank == 2, cost.shape[0] > 0, cost.shape[1] > 0 else { throw .costShape(cost.shape.dims) }
    guard work.isFinite(cost) else { throw .notANumber(name: "cost", index: cost.doubles.firstIndex { !$0.isFinite } ?? 0) }
    var a = try Self.weights("source", source, cost.shape[0]), b = try Self.weights("target", target, cost.shape[1])
    let settings = try settings(&a, &b)
    let s = work.sinkhorn(settings, cost: cost, source: a, target: b)
    return SinkhornResult(solver: self, settings: settings, source: a, target: b, costMatrix: cost, solution: s)
  }
  /// Solves a batch `[H, N, M]`; weights `[N]`, `[M]` shared or `[H, N]`, `[H, M]` per item.
  public func solveBatch(cost: Tensor, source: Tensor? = nil, target: Tensor? = nil, in work: borrowing Workspace) throws(TransportError) -> [SinkhornResult] {
    guard cost.shape.rank == 3 else { throw .costShape(cost.shape.dims) }
    var results: [SinkhornResult] = []
    for h in 0..<cost.shape[0] {
      func item(_ name: String, _ w: Tensor?) throws(TransportError) -> Tensor? {
        guard let w, w.shape.rank == 2 else { return w }
        guard w.shape[0] == cost.shape[0] else { throw .weightShape(name: name, found: w.shape.dims, expected: [cost.shape[0], w.shape[1]]) }
        return w[row: h]
      }
      results.append(try solve(cost: cost[row: h], source: item("source", source), target: item("target", target), in: work))
    }
    return results
  }

  private static func weights(_ name: String, _ w: Tensor?, _ count: Int) throws(TransportError) -> [Double] {
    guard let w else { return Array(repeating: 1 / Double(count), count: count) }
    guard w.shape.dims == [count] else { throw .weightShape(name: name, found: w.shape.dims, expected: [count]) }
    return try checked(name, w.doubles)
  }
  /// Weights that are finite, not negative and not all zero.
  static func checked(_ name: String, _ values: [Double]) throws(TransportError) -> [Double] {
    for (i, v) in values.enumerated() {
      if !v.isFinite { throw .notANumber(name: "\(name) weights", index: i) }
      if v < 0 { throw .negativeWeight(name: name, index: i, value: v) }
    }
    if !(values.reduce(0, +) > 0) { throw .noWeight(name: name) }
    return values
  }
  private func settings(_ a: inout [Double], _ b: inout [Double]) throws(TransportError) -> Workspace.SinkhornSettings {
    guard epsilon > 0, epsilon.isFinite else { throw .epsilon(epsilon) }
    guard tolerance > 0 else { throw .tolerance(tolerance) }
    guard maxIterations > 0 else { throw .maxIterations(maxIterations) }
    let sums = (a.reduce(0, +), b.reduce(0, +))
    func side(_ rho: Double) throws(TransportError) -> Workspace.SinkhornSide {
      guard rho > 0 else { throw .rho(rho) }
      return rho.isInfinite ? .hard : .relaxed(rho: rho)
    }
    var s = Workspace.SinkhornSettings(source: .hard, target: .hard, epsilon: epsilon, mass: 0, tolerance: tolerance, maxIterations: maxIterations)
    switch rule {
    case .balanced:
      a = a.map { $0 / sums.0 }
      b = b.map { $0 / sums.1 }
    case .unbalanced(let source, let target):
      (s.source, s.target) = (try side(source), try side(target))
    case .relaxed(let mass):
      guard mass > 0, mass <= 1 else { throw .mass(mass, limit: 1) }
      let rho = mass >= 0.999 ? Double.infinity : epsilon * mass / (1 - mass)
      (s.source, s.target) = (try side(rho), try side(rho))
    case .exactMass(let mass):
      let limit = min(sums.0, sums.1)
      guard mass > 0, mass <= limit * (1 + 1e-12) else { throw .mass(mass, limit: limit) }
      (s.source, s.target, s.mass) = (.capped, .capped, min(mass, limit))
    }
    if s.source == .hard, s.target == .hard, abs(sums.0 - sums.1) > 1e-9 * sums.0, rule != .balanced { throw .unequalSums(sums.0, sums.1) }
    return s
  }
}

/// A solved problem. The caller must look at `status`: a plan is returned whatever happened. Residuals are those of the plan itself.
public struct SinkhornResult: Sendable {
  public enum Status: String, Sendable, CaseIterable {
    case converged, maxIterations = "max_iterations", stalled, nonFinite = "non_finite"
  }
  let solver: EntropicTransport
  let settings: Workspace.SinkhornSettings
  let costMatrix: Tensor
  /// Potentials as the solver left them, for the active sets of exact mass.
  let a, b: Tensor

  public let status: Status
  /// Passes over the matrix.
  public let iterations: Int
  /// P `[N, M]`, f64: P_ij = u_i exp(-C_ij/ε) v_j.
  public let plan: Tensor
  /// log u `[N]`, log v `[M]`, f64; -inf where a weight is 0. Fixed up to a constant with hard marginals on both sides: there
  /// Σ a log u = Σ b log v over positive weights. With exact mass the multiplier of the total is shared equally.
  public let logU, logV: Tensor
  /// The weights of the problem solved (balanced: divided by their sums).
  public let source, target: [Double]
  /// <P, C>.
  public let cost: Double
  /// <P,C> + ε Σ P (log P - 1), plus the KL terms of relaxed marginals.
  public let objective: Double
  /// The dual value: equal to `objective` at the solution, below it at any potentials.
  public let dual: Double
  /// ΣP.
  public let mass: Double
  /// Violation of the marginal conditions by the returned plan: the larger L1 norm of the two sides, and the largest entry. Hard:
  /// |P1 - a|; exact mass: (P1 - a)₊ and |ΣP - mass|; relaxed: |P1 - a exp(-ε log u / ρ)|, the condition of optimality.
  public let marginalErrorL1, marginalErrorLinf: Double
  public let epsilon: Double
  /// What the stopping rule last saw.
  public let residual: Double

  init(solver: EntropicTransport, settings: Workspace.SinkhornSettings, source: [Double], target: [Double], costMatrix: Tensor, solution s: Workspace.SinkhornSolution) {
    (self.solver, self.settings, self.source, self.target, self.costMatrix) = (solver, settings, source, target, costMatrix)
    status = switch s.outcome {
    case .converged: .converged
    case .maxIterations: .maxIterations
    case .stalled: .stalled
    case .nonFinite: .nonFinite
    }
    (a, b, plan, iterations) = (s.a, s.b, s.plan, s.iterations)
    var u = s.a.doubles, v = s.b.doubles, shift = s.z / 2
    if settings.source == .hard && settings.target == .hard {
      func mean(_ w: [Double], _ x: [Double]) -> Double { zip(w, x).reduce(0) { $1.0 > 0 ? $0 + $1.0 * $1.1 : $0 } }
      // Σ a (log u + t) = Σ b (log v - t)
      shift = (mean(target, v) - mean(source, u)) / (source.reduce(0, +) + target.reduce(0, +))
      v = v.map { $0 - shift }
    } else {
      v = v.map { $0 + shift }
    }
    u = u.map { $0 + shift }
    (logU, logV) = (Tensor(u, Shape(u.count)), Tensor(v, Shape(v.count)))
    (cost, mass, dual, residual, epsilon) = (s.cost, s.mass, s.dual, s.residual, solver.epsilon)
    objective = s.cost + solver.epsilon * s.entropy + s.penalties
    (marginalErrorL1, marginalErrorLinf) = (s.errorL1, s.errorLinf)
  }

  /// Gradient with respect to the cost, `[N, M]` f64, of a function of the converged solution whose derivative with respect to the
  /// plan is `plan` `[N, M]`, to `cost` is `cost`, to `objective` is `objective`.
  ///
  /// By implicit differentiation of the optimality conditions: one symmetric system, solved by conjugate gradients
  /// (`pk_sinkhorn_gradient`; algorithm.md 4.8). The gradient of `objective` alone is the plan. `relativeResidual` is that of the system.
  public func gradient(plan upstream: Tensor? = nil, cost dCost: Double = 0, objective dObjective: Double = 0, in work: borrowing Workspace) -> (gradient: Tensor, relativeResidual: Double) {
    precondition(upstream == nil || upstream!.shape == plan.shape, "upstream \(upstream!.shape) for a plan \(plan.shape)")
    if upstream == nil && dCost == 0 { return (work.scaled(plan, by: dObjective), 0) }
    var g = work.scaled(work.converted(costMatrix, to: .f64), by: dCost)
    if let upstream { work.add(work.converted(upstream, to: .f64), to: &g) }
    let (gradient, residual) = work.sinkhornGradient(settings, plan: plan, a: a, b: b, upstream: g, planFactor: dCost + dObjective)
    return (gradient, residual)
  }
}
