public import TensorRuntime

/// Which entropic problem is solved between weights a `[N]` and b `[M]` (algorithm.md 4.8; KL(p|q)
/// = Σ p log(p/q) - p + q).
public enum MarginalRule: Sendable, Equatable {
  /// min <P,C> + ε Σ P (log P - 1) with P1 = a, Pᵀ1 = b; a and b are first divided by their sums
  /// (Cuturi 2013).
  case balanced
  /// The same plus ρ_source KL(P1|a) + ρ_target KL(Pᵀ1|b) instead of the constraints (Chizat et al.
  /// 2018). An infinite ρ keeps the constraint of its side; with both infinite the sums of a and b
  /// must agree.
  case unbalanced(rhoSource: Double, rhoTarget: Double)
  /// The PISCES relaxation: `unbalanced` with ρ = ε M / (1 - M) on both sides, so that the scaling
  /// exponent is M; from 0.999 on, M counts as 1 (hard constraints).
  case relaxed(mass: Double)
  /// P1 <= a, Pᵀ1 <= b, ΣP = mass (Benamou et al. 2015).
  case exactMass(Double)
}

/// Why a problem cannot be posed.
public enum TransportError: Error, Equatable, CustomStringConvertible {
  case costShape([Int])
  case weightShape(name: String, found: [Int], expected: [Int])
  case notANumber(name: String, index: Int)
  case negativeWeight(name: String, index: Int, value: Double)
  case noWeight(name: String)
  case tooLarge(Int, limit: Int)
  case memory(Int)
  case infeasible
  case noPartner(name: String, index: Int)
  case asymmetric(name: String, row: Int, column: Int)
  case pointShapes([Int], [Int])
  case precision(String)
  case startShape([Int], [Int])
  case costsWithin(found: [[Int]], expected: [Int])
  case weightRange(name: String, index: Int, value: Double)
  case zeroVector(name: String, index: Int)
  case histogramShapes([Int], cost: [Int])
  case ownCost(found: [Int]?, expected: Int)
  case epsilon(Double)
  case scale(Double)
  case rho(Double)
  case mass(Double, limit: Double)
  case unequalSums(Double, Double)
  case tolerance(Double)
  case maxIterations(Int)
  public var description: String {
    switch self {
    case .costShape(let s):
      "the cost must be a matrix [N, M] or a batch [H, N, M] with N, M >= 1, not \(s)"
    case .weightShape(let name, let found, let expected):
      "\(name) weights have shape \(found), not \(expected)"
    case .notANumber(let name, let index): "\(name): element \(index) is not a finite number"
    case .negativeWeight(let name, let index, let value):
      "\(name) weights: element \(index) is negative (\(value))"
    case .noWeight(let name): "\(name) weights sum to zero"
    case .pointShapes(let x, let y):
      "points must be [N, D] and [M, D] with N, M, D >= 1, not \(x) and \(y)"
    case .precision(let type): "a solver works in f32 or f64, not \(type)"
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
    case .weightRange(let name, let index, let value):
      """
      \(name) weights: element \(index), \(value), to the power 1 + epsilon / rho leaves the range \
      of f64
      """
    case .zeroVector(let name, let index):
      "\(name): row \(index) is the zero vector, whose cosine is not defined"
    case .tooLarge(let n, let limit):
      "\(n) entries are too many for the exact solver: up to \(limit); use an entropic one"
    case .memory(let bytes):
      "not enough memory for the exact solver, about \(bytes >> 20) MiB: use an entropic one"
    case .infeasible: "no plan with these weights avoids the forbidden pairs (infinite costs)"
    case .noPartner(let name, let index):
      "\(name) \(index) has weight, but only forbidden pairs (infinite costs)"
    case .asymmetric(let name, let row, let column):
      "the \(name) is not symmetric: elements [\(row), \(column)] and [\(column), \(row)] differ"
    case .scale(let s): "the cost's divisor must be positive and finite, not \(s)"
    case .epsilon(let e): "epsilon must be positive and finite, not \(e)"
    case .rho(let r): "a marginal strength must be positive, not \(r)"
    case .mass(let m, let limit): "mass must be in (0, \(limit)], not \(m)"
    case .unequalSums(let a, let b):
      "with both marginals hard the weights must have equal sums, not \(a) and \(b)"
    case .tolerance(let t): "tolerance must be 0 or positive, not \(t)"
    case .maxIterations(let n): "max iterations must be positive, not \(n)"
    }
  }
}

/// Solver of entropic transport, with a cost matrix or between points whose costs are never stored.
///
/// Block ascent of the dual with absorption, a falling sequence of ε where ε is small,
/// over-relaxation, translation and Newton steps where plain iterations are slow; the contract is
/// `pk_sinkhorn.h`. A batch gives the bits of its items solved one by one, and the bits do not
/// depend on the number of threads, in f64 not on the instruction set either.
public struct EntropicTransport: Sendable, Equatable {
  public typealias Metric = Workspace.SinkhornMetric
  public typealias Cost = Workspace.SinkhornCost

  public var rule: MarginalRule
  /// Regularisation, in units of the cost.
  public var epsilon: Double
  /// On the error of the row sums or of the column sums before their update (L1, the larger),
  /// relative to ΣP. 0: exactly `maxIterations` plain iterations, without a test.
  public var tolerance: Double
  /// Limit on passes over the costs: scaling iterations and conjugate-gradient steps alike.
  public var maxIterations: Int
  /// f64; or f32 for kernel, plan and gradients, with potentials and folded sums in f64: marginals
  /// to about 1e-7 (between points: to the rounding of their costs, 1e-7 |x|² / ε).
  public var precision: ElementType
  /// Only plain iterations.
  public var isPlain = false

  public init(
    _ rule: MarginalRule, epsilon: Double, tolerance: Double = 1e-10, maxIterations: Int = 20_000,
    precision: ElementType = .f64
  ) {
    (self.rule, self.epsilon, self.tolerance, self.maxIterations, self.precision) = (
      rule, epsilon, tolerance, maxIterations, precision
    )
  }

  /// Solves for one cost `[N, M]`, whose infinite elements forbid their pairs. Absent weights are
  /// uniform with sum 1; a weight of 0 gives an exactly zero row or column.
  public func solve(
    cost: Tensor, source: Tensor? = nil, target: Tensor? = nil, in work: borrowing Workspace
  ) throws(TransportError) -> SinkhornResult {
    try solve(.matrix(cost), source: source, target: target, in: work)
  }
  /// The same for either kind of cost, of any floating type. `start`: log u and log v to go on
  /// from. Without `wantsPlan`, and always between points, no plan is stored. `progress` is called
  /// after every iteration with their number and the residual, and says whether to go on.
  public func solve(
    _ cost: Cost, source: Tensor? = nil, target: Tensor? = nil,
    start: (logU: [Double], logV: [Double])? = nil, wantsPlan: Bool = true,
    progress: Workspace.SinkhornProgress? = nil, in work: borrowing Workspace
  ) throws(TransportError) -> SinkhornResult {
    let (cost, isMatrix, hasForbidden) = try checked(cost, in: work)
    let given = (
      try Self.weights("source", source, cost.rows),
      try Self.weights("target", target, cost.columns)
    )
    let a = posed(given.0)
    let sums = (given.0.reduce(0, +), given.1.reduce(0, +))
    let settings = try settings(sums)
    let b = matched(posed(given.1), sums, settings)
    if hasForbidden { try ForbiddenPairs.check(settings, cost, source: a, target: b, in: work) }
    if let start, start.logU.count != cost.rows || start.logV.count != cost.columns {
      throw .startShape([start.logU.count, start.logV.count], [cost.rows, cost.columns])
    }
    let s = work.sinkhorn(
      settings, cost: cost, source: a, target: b, start: start.map { (a: $0.logU, b: $0.logV) },
      wantsPlan: wantsPlan && isMatrix, progress: progress)
    return SinkhornResult(
      solver: self, settings: settings, source: a, target: b, sums: sums, costs: cost, solution: s)
  }
  /// Solves a batch `[H, N, M]`; weights `[N]`, `[M]` shared or `[H, N]`, `[H, M]` per item.
  /// `start`: log u `[H, N]` and log v `[H, M]` to go on from.
  public func solveBatch(
    cost: Tensor, source: Tensor? = nil, target: Tensor? = nil,
    start: (logU: [Double], logV: [Double])? = nil, wantsPlan: Bool = true,
    progress: (@Sendable (_ iterations: Int, _ residual: Double) -> Bool)? = nil,
    in work: borrowing Workspace
  ) throws(TransportError) -> [SinkhornResult] {
    guard cost.shape.rank == 3, cost.shape[0] > 0, cost.shape[1] > 0, cost.shape[2] > 0 else {
      throw .costShape(cost.shape.dims)
    }
    let (h, n, m) = (cost.shape[0], cost.shape[1], cost.shape[2])
    let whole = try checked(.matrix(cost.reshaped(Shape(h * n, m))), in: work)
    guard case .matrix(let stored) = whole.cost else { preconditionFailure() }
    func items(_ name: String, _ w: Tensor?, _ count: Int) throws(TransportError) -> [[Double]] {
      guard let w, w.shape.rank == 2 else { return [try Self.weights(name, w, count)] }
      guard w.shape[0] == h else {
        throw .weightShape(name: name, found: w.shape.dims, expected: [h, count])
      }
      var rows: [[Double]] = []
      for k in 0..<h { rows.append(try Self.weights(name, w[row: k], count)) }
      return rows
    }
    let given = (try items("source", source, n), try items("target", target, m))
    let a = given.0.map(posed)
    let sums = (0..<h).map { k in
      (given.0[min(k, a.count - 1)].reduce(0, +), given.1[min(k, given.1.count - 1)].reduce(0, +))
    }
    var settings: [Workspace.SinkhornSettings] = []
    for s in sums { settings.append(try self.settings(s)) }
    // shared target weights become one set an item where items' source weights differ in sum
    let isShared = given.0.count == 1 || sums.allSatisfy { $0.0 == $0.1 }
    let b = (0..<(isShared ? given.1.count : h)).map { k in
      matched(posed(given.1[min(k, given.1.count - 1)]), sums[k], settings[k])
    }
    for k in 0..<(whole.hasForbidden ? h : 0) {
      try ForbiddenPairs.check(
        settings[k], .matrix(stored.reshaped(cost.shape)[row: k]), source: a[min(k, a.count - 1)],
        target: b[min(k, b.count - 1)], in: work)
    }
    if let start, start.logU.count != h * n || start.logV.count != h * m {
      throw .startShape([start.logU.count, start.logV.count], [h * n, h * m])
    }
    let solutions = work.sinkhornBatch(
      settings[0], cost: stored.reshaped(cost.shape), source: a.flatMap { $0 },
      target: b.flatMap { $0 }, start: start.map { (a: $0.logU, b: $0.logV) }, wantsPlan: wantsPlan,
      progress: progress)
    return (0..<h).map { k in
      SinkhornResult(
        solver: self, settings: settings[k], source: a[min(k, a.count - 1)],
        target: b[min(k, b.count - 1)], sums: sums[k],
        costs: .matrix(stored.reshaped(cost.shape)[row: k]), solution: solutions[k])
    }
  }

  /// Bytes that a solve of this cost (a batch `[H, N, M]` too) takes beside it, about: a copy in
  /// the solver's precision, scratch, plan, gradients, certificate in f64.
  public func memoryBytes(
    _ cost: Cost, wantsPlan: Bool, gradients: Bool = false, certified: Bool = false,
    in work: borrowing Workspace
  ) throws(TransportError) -> Int {
    var count = 1
    var elements = cost.rows * cost.columns
    if case .matrix(let c) = cost, c.shape.rank == 3 { (count, elements) = (c.shape[0], c.count) }
    if case .points(let x, let y, _, _) = cost { elements = x.count + y.count }
    let scratch = work.sinkhornScratch(
      try settings((.infinity, .infinity)), cost: cost, type: precision, count: count)
    var bytes = max(
      scratch.solve, gradients ? scratch.gradient : 0, certified ? scratch.certificate : 0)
    for isHeld in [cost.type != precision, wantsPlan, gradients] where isHeld {
      bytes += elements * precision.byteCount
    }
    return bytes
  }

  /// The cost in the solver's precision, shapes and values checked, and whether it forbids pairs.
  func checked(_ cost: Cost, in work: borrowing Workspace) throws(TransportError) -> (
    cost: Cost, isMatrix: Bool, hasForbidden: Bool
  ) {
    guard precision == .f32 || precision == .f64 else { throw .precision("\(precision)") }
    func finite(_ name: String, _ t: Tensor) throws(TransportError) -> Tensor {
      guard work.isFinite(t) else {
        throw .notANumber(name: name, index: t.doubles.firstIndex { !$0.isFinite } ?? 0)
      }
      let c = work.converted(t, to: precision)
      guard c.type == t.type || work.isFinite(c) else {
        throw .notANumber(
          name: "\(name) as \(precision)", index: c.doubles.firstIndex { !$0.isFinite } ?? 0)
      }
      return c
    }
    switch cost {
    case .matrix(let c):
      guard c.shape.rank == 2, c.shape[0] > 0, c.shape[1] > 0 else {
        throw .costShape(c.shape.dims)
      }
      let (matrix, any) = try ForbiddenPairs.checked(c, as: precision, in: work)
      return (.matrix(matrix), true, any)
    case .points(let x, let y, let metric, let scale):
      guard x.shape.rank == 2, y.shape.rank == 2, x.shape[1] == y.shape[1], x.count > 0, y.count > 0
      else { throw .pointShapes(x.shape.dims, y.shape.dims) }
      guard scale > 0, scale.isFinite else { throw .scale(scale) }
      let points = (try finite("source points", x), try finite("target points", y))
      for (name, t) in [("source points", points.0), ("target points", points.1)]
      where metric == .cosine {
        if let row = (0..<t.shape[0]).first(where: { t[row: $0].doubles.allSatisfy { $0 == 0 } }) {
          throw .zeroVector(name: name, index: row)
        }
      }
      return (.points(points.0, points.1, metric, scale: scale), false, false)
    }
  }

  static func weights(_ name: String, _ w: Tensor?, _ count: Int) throws(TransportError) -> [Double]
  {
    guard let w else { return Array(repeating: 1 / Double(count), count: count) }
    guard w.shape.dims == [count] else {
      throw .weightShape(name: name, found: w.shape.dims, expected: [count])
    }
    return try checked(name, w.doubles)
  }
  /// Weights that are finite, not negative and not all zero.
  static func checked(_ name: String, _ values: [Double]) throws(TransportError) -> [Double] {
    for (i, v) in values.enumerated() {
      if !v.isFinite { throw .notANumber(name: "\(name) weights", index: i) }
      if v < 0 { throw .negativeWeight(name: name, index: i, value: v) }
    }
    let sum = values.reduce(0, +)
    if !(sum > 0) { throw .noWeight(name: name) }
    if !sum.isFinite {
      throw .notANumber(name: "sum of the \(name) weights", index: values.count - 1)
    }
    return values
  }
  /// Target weights whose sum is the source's to the last digits where two hard sides need that:
  /// those of f32 files agree to six.
  private func matched(_ b: [Double], _ sums: (Double, Double), _ s: Workspace.SinkhornSettings)
    -> [Double]
  {
    s.source == .hard && s.target == .hard && rule != .balanced && sums.0 != sums.1
      ? b.map { $0 * (sums.0 / sums.1) } : b
  }
  /// The weights of the problem solved.
  func posed(_ w: [Double]) -> [Double] {
    guard rule == .balanced else { return w }
    let sum = w.reduce(0, +)
    return w.map { $0 / sum }
  }
  /// The gradient with respect to weights as they were given, of that with respect to the posed
  /// ones `w`: through a / Σa it is (g - Σ a g / Σ a) / Σ a.
  func raw(_ g: [Double], _ w: [Double], _ sum: Double) -> [Double] {
    guard rule == .balanced else { return g }
    let mean = zip(g, w).reduce(0) { $0 + $1.0 * $1.1 }
    return zip(g, w).map { $1 > 0 ? ($0 - mean) / sum : 0 }
  }
  func settings(_ sums: (Double, Double)) throws(TransportError) -> Workspace.SinkhornSettings {
    guard epsilon > 0, epsilon.isFinite else { throw .epsilon(epsilon) }
    guard tolerance >= 0 else { throw .tolerance(tolerance) }
    guard maxIterations > 0 else { throw .maxIterations(maxIterations) }
    func side(_ rho: Double) throws(TransportError) -> Workspace.SinkhornSide {
      guard rho > 0 else { throw .rho(rho) }
      return rho.isInfinite ? .hard : .relaxed(rho: rho)
    }
    var s = Workspace.SinkhornSettings(
      source: .hard, target: .hard, epsilon: epsilon, mass: 0, tolerance: tolerance,
      maxIterations: maxIterations, isPlain: isPlain)
    switch rule {
    case .balanced: break
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
    if s.source == .hard, s.target == .hard, abs(sums.0 - sums.1) > 1e-6 * sums.0, rule != .balanced
    {
      throw .unequalSums(sums.0, sums.1)
    }
    return s
  }
}

/// A solved problem. The caller must look at `status`: a plan is returned whatever happened.
/// Residuals are those of the plan itself.
public struct SinkhornResult: Sendable {
  public enum Status: String, Sendable, CaseIterable {
    case converged
    case maxIterations = "max_iterations"
    case stalled
    case nonFinite = "non_finite"
    case interrupted
    init(_ outcome: Workspace.SinkhornOutcome) {
      self =
        switch outcome {
        case .converged: .converged
        case .maxIterations: .maxIterations
        case .stalled: .stalled
        case .nonFinite: .nonFinite
        case .interrupted: .interrupted
        }
    }
  }
  let solver: EntropicTransport
  let settings: Workspace.SinkhornSettings
  let costs: EntropicTransport.Cost
  /// Potentials as the solver left them, for the active sets of exact mass; sums of the weights as
  /// given.
  let a, b: [Double]
  let z, sourceSum, targetSum: Double

  public let status: Status
  /// Passes over the matrix.
  public let iterations: Int
  /// P `[N, M]` of the solver's precision: P_ij = u_i exp(-C_ij/ε) v_j; nil when it was not wanted,
  /// and between points.
  public let storedPlan: Tensor?
  public var plan: Tensor {
    guard let storedPlan else {
      preconditionFailure("no plan was stored: give a matrix, and leave wantsPlan")
    }
    return storedPlan
  }
  /// log u `[N]`, log v `[M]`, f64; -inf where a weight is 0. Fixed up to a constant with hard
  /// marginals on both sides: there Σ a log u = Σ b log v over positive weights. With exact mass
  /// the multiplier of the total is shared equally.
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
  /// Violation of the marginal conditions by the returned plan: the larger L1 norm of the two
  /// sides, and the largest entry. Hard:
  /// |P1 - a|; exact mass: (P1 - a)₊ and |ΣP - mass|; relaxed: |P1 - a exp(-ε log u / ρ)|, the condition of optimality.
  public let marginalErrorL1, marginalErrorLinf: Double
  public let epsilon: Double
  /// What the stopping rule last saw.
  public let residual: Double

  init(
    solver: EntropicTransport, settings: Workspace.SinkhornSettings, source: [Double],
    target: [Double], sums: (Double, Double), costs: EntropicTransport.Cost,
    solution s: Workspace.SinkhornSolution, certificate: Workspace.SinkhornCertificate? = nil
  ) {
    let c = certificate ?? s.certificate
    (self.solver, self.settings, self.source, self.target, self.costs, (sourceSum, targetSum)) = (
      solver, settings, source, target, costs, sums
    )
    status = Status(c.outcome)
    (a, b, z, storedPlan, iterations, solution) = (
      s.a, s.b, s.certificate.z, s.plan, s.iterations, s
    )
    var u = s.a
    var v = s.b
    var shift = z / 2
    if settings.source == .hard && settings.target == .hard {
      func mean(_ w: [Double], _ x: [Double]) -> Double {
        zip(w, x).reduce(0) { $1.0 > 0 ? $0 + $1.0 * $1.1 : $0 }
      }
      // Σ a (log u + t) = Σ b (log v - t)
      shift = (mean(target, v) - mean(source, u)) / (source.reduce(0, +) + target.reduce(0, +))
      v = v.map { $0 - shift }
    } else {
      v = v.map { $0 + shift }
    }
    u = u.map { $0 + shift }
    (logU, logV) = (Tensor(u, Shape(u.count)), Tensor(v, Shape(v.count)))
    (cost, mass, dual, residual, epsilon) = (c.cost, c.mass, c.dual, s.residual, solver.epsilon)
    objective = c.cost + solver.epsilon * c.entropy + c.penalties
    (marginalErrorL1, marginalErrorLinf) = (c.errorL1, c.errorLinf)
  }
  private let solution: Workspace.SinkhornSolution

  /// The same solution with every value of the certificate recomputed in f64, from the stored plan
  /// or, where there is none, from the plan that the potentials stand for; the status is judged
  /// again on these values.
  public func certified(in work: borrowing Workspace) -> SinkhornResult {
    let c = work.sinkhornCertificate(
      settings, cost: costs, source: source, target: target, of: solution)
    return SinkhornResult(
      solver: solver, settings: settings, source: source, target: target,
      sums: (sourceSum, targetSum), costs: costs, solution: solution, certificate: c)
  }

  /// Derivatives of a function of the converged solution.
  public struct Gradient: Sendable {
    /// With respect to the cost matrix `[N, M]`; nil between points.
    public let cost: Tensor?
    /// With respect to both clouds; nil with a matrix.
    public let points: (source: Tensor, target: Tensor)?
    /// With respect to the weights as they were given, f64. With hard marginals on both sides only
    /// differences along directions that keep the sums equal mean anything (balanced: the weights
    /// are divided by their sums, so any direction does).
    public let source, target: [Double]
    /// Relative residual of the linear system.
    public let relativeResidual: Double
  }
  /// Gradients of a function whose derivative with respect to the plan is `plan` `[N, M]` (not
  /// between points), to `cost` is `cost`, to `objective` is `objective`.
  ///
  /// By implicit differentiation of the optimality conditions: one symmetric system, solved by
  /// conjugate gradients (`pk_sinkhorn_gradient`; algorithm.md 4.8). The gradient of `objective`
  /// with respect to the cost is the plan.
  public func gradients(
    plan upstream: Tensor? = nil, cost dCost: Double = 0, objective dObjective: Double = 0,
    in work: borrowing Workspace
  ) -> Gradient {
    precondition(
      upstream == nil || upstream!.shape == Shape(costs.rows, costs.columns),
      "upstream \(upstream!.shape) for a plan [\(costs.rows), \(costs.columns)]")
    let g = work.sinkhornGradient(
      settings, cost: costs, source: source, target: target, a: a, b: b, z: z,
      upstream: upstream.map { work.converted($0, to: costs.type) }, onCost: dCost,
      onObjective: dObjective)
    return Gradient(
      cost: g.cost, points: g.points.map { (source: $0.0, target: $0.1) },
      source: solver.raw(g.source, source, sourceSum),
      target: solver.raw(g.target, target, targetSum), relativeResidual: g.residual)
  }
  /// Gradient with respect to the cost matrix alone.
  public func gradient(
    plan upstream: Tensor? = nil, cost dCost: Double = 0, objective dObjective: Double = 0,
    in work: borrowing Workspace
  ) -> (gradient: Tensor, relativeResidual: Double) {
    let g = gradients(plan: upstream, cost: dCost, objective: dObjective, in: work)
    return (g.cost!, g.relativeResidual)
  }
  /// Barycentric projection of the source points, Σ_j P_ij y_j / Σ_j P_ij `[N, D]`; with cosine
  /// costs of y at unit length. Points only.
  public func projection(in work: borrowing Workspace) -> Tensor {
    work.sinkhornProjection(settings, cost: costs, a: a, b: b, z: z)
  }
}
