internal import CKernels

/// Entropic transport: `pk_sinkhorn.h`.
extension Workspace {
  /// How the marginal of one side is enforced.
  public enum SinkhornSide: Sendable, Equatable {
    case hard, capped
    case relaxed(rho: Double)
    fileprivate var pk: pk_side {
      switch self {
      case .hard: PK_SIDE_HARD
      case .capped: PK_SIDE_CAPPED
      case .relaxed: PK_SIDE_RELAXED
      }
    }
    fileprivate var rho: Double { if case .relaxed(let rho) = self { rho } else { 0 } }
    init(_ side: pk_side, rho: Double) {
      self = side == PK_SIDE_HARD ? .hard : side == PK_SIDE_CAPPED ? .capped : .relaxed(rho: rho)
    }
  }
  /// Costs between points that are never stored, each divided by a scale.
  public enum SinkhornMetric: String, Sendable, CaseIterable {
    case squaredEuclidean = "sqeuclidean"
    case euclidean, cosine
    fileprivate var pk: pk_cost {
      switch self {
      case .squaredEuclidean: PK_COST_SQUARED
      case .euclidean: PK_COST_EUCLIDEAN
      case .cosine: PK_COST_COSINE
      }
    }
  }
  /// A matrix `[N, M]` (batches `[H, N, M]`), or points `[N, D]` and `[M, D]`, all f32 or all f64.
  public enum SinkhornCost: Sendable {
    case matrix(Tensor)
    case points(Tensor, Tensor, SinkhornMetric, scale: Double)
    public var rows: Int {
      switch self {
      case .matrix(let c): c.shape[c.shape.rank - 2]
      case .points(let x, _, _, _): x.shape[0]
      }
    }
    public var columns: Int {
      switch self {
      case .matrix(let c): c.shape[c.shape.rank - 1]
      case .points(_, let y, _, _): y.shape[0]
      }
    }
    public var type: ElementType {
      switch self {
      case .matrix(let c): c.type
      case .points(let x, _, _, _): x.type
      }
    }
    var first: UnsafeMutableRawPointer {
      switch self {
      case .matrix(let c): unsafe c.base
      case .points(let x, _, _, _): unsafe x.base
      }
    }
    var second: UnsafeMutableRawPointer? {
      if case .points(_, let y, _, _) = self { unsafe y.base } else { nil }
    }
  }
  public struct SinkhornSettings: Sendable {
    public var source, target: SinkhornSide
    public var epsilon, mass, tolerance: Double
    public var maxIterations: Int
    /// No translation, over-relaxation or Newton steps.
    public var isPlain: Bool
    public init(
      source: SinkhornSide, target: SinkhornSide, epsilon: Double, mass: Double, tolerance: Double,
      maxIterations: Int, isPlain: Bool = false
    ) {
      (
        self.source, self.target, self.epsilon, self.mass, self.tolerance, self.maxIterations,
        self.isPlain
      ) = (source, target, epsilon, mass, tolerance, maxIterations, isPlain)
    }
    /// `type`: the type of the arithmetic, if the cost still has another.
    func problem(_ cost: SinkhornCost, as type: ElementType? = nil) -> pk_sinkhorn_problem {
      var p = problem(rows: cost.rows, columns: cost.columns)
      p.type = (type ?? cost.type).pk
      if case .points(let x, _, let metric, let scale) = cost {
        (p.d, p.cost, p.scale) = (x.shape[1], metric.pk, scale)
      }
      return p
    }
    func problem(rows: Int, columns: Int) -> pk_sinkhorn_problem {
      var p = pk_sinkhorn_problem()
      (p.n, p.m) = (rows, columns)
      (p.side_source, p.side_target) = (source.pk, target.pk)
      (p.rho_source, p.rho_target) = (source.rho, target.rho)
      (p.epsilon, p.mass, p.tolerance, p.max_iterations) = (epsilon, mass, tolerance, maxIterations)
      p.plain = isPlain ? 1 : 0
      return p
    }
  }
  public enum SinkhornOutcome: Sendable {
    case converged, maxIterations, stalled, nonFinite, interrupted
    fileprivate var pk: pk_outcome {
      switch self {
      case .converged: PK_CONVERGED
      case .maxIterations: PK_MAX_ITERATIONS
      case .stalled: PK_STALLED
      case .nonFinite: PK_NON_FINITE
      case .interrupted: PK_INTERRUPTED
      }
    }
  }
  /// The properties of a plan, recomputed from it.
  public struct SinkhornCertificate: Sendable {
    public let z, mass, cost, entropy, dual, errorL1, errorLinf, penalties: Double
    /// Judged on these values.
    public let outcome: SinkhornOutcome
    init(_ r: pk_sinkhorn_result) {
      outcome = Workspace.outcome(r.outcome)
      (z, mass, cost, entropy, dual) = (r.z, r.mass, r.cost, r.entropy, r.dual)
      (errorL1, errorLinf) = (r.error_l1, r.error_linf)
      penalties = r.penalty_source + r.penalty_target
    }
  }
  /// One solved problem: the plan `[N, M]` in the cost's type, if it was asked for; potentials,
  /// which are -inf where the weight is 0.
  public struct SinkhornSolution: Sendable {
    public let outcome: SinkhornOutcome
    public let plan: Tensor?
    public let a, b: [Double]
    public let iterations: Int
    public let residual: Double
    public let certificate: SinkhornCertificate
  }
  public typealias SinkhornProgress = (_ iterations: Int, _ residual: Double) -> Bool

  /// `start`: potentials to start from. `progress` is called after every iteration and returns
  /// whether to continue.
  public func sinkhorn(
    _ settings: SinkhornSettings, cost: SinkhornCost, source: [Double], target: [Double],
    start: (a: [Double], b: [Double])? = nil, wantsPlan: Bool = true,
    progress: SinkhornProgress? = nil
  ) -> SinkhornSolution {
    let (n, m) = (cost.rows, cost.columns)
    precondition(
      source.count == n && target.count == m,
      "sinkhorn: cost [\(n), \(m)], weights \(source.count), \(target.count)")
    var p = settings.problem(cost)
    var r = pk_sinkhorn_result()
    let plan = wantsPlan ? tensor(Shape(n, m), cost.type) : nil
    let area = unsafe bytes(pk_sinkhorn_scratch(&p))
    var a = start?.a ?? Array(repeating: 0, count: n)
    var b = start?.b ?? Array(repeating: 0, count: m)
    p.warm = start == nil ? 0 : 1
    unsafe Self.asking(progress) { ask, context in
      unsafe (p.progress, p.context) = unsafe (ask, context)
      unsafe check(
        pk_sinkhorn_solve(
          &p, cost.first, cost.second, source, target, plan?.base, &a, &b, &r, area.base),
        "sinkhorn")
    }
    return Self.solution(r, plan, a, b)
  }
  /// Runs `body` with the function and context through which C calls `progress`; both are nil if
  /// there is no `progress`.
  static func asking(
    _ progress: SinkhornProgress?,
    _ body: (
      (@convention(c) (UnsafeMutableRawPointer?, Int, Double) -> Int32)?, UnsafeMutableRawPointer?
    ) -> Void
  ) {
    guard let progress else { return body(nil, nil) }
    withoutActuallyEscaping(progress) { ask in
      let asked = Asked(ask)
      withExtendedLifetime(asked) {
        unsafe body(
          { unsafe Unmanaged<Asked>.fromOpaque($0!).takeUnretainedValue().ask($1, $2) ? 0 : 1 },
          unsafe Unmanaged.passUnretained(asked).toOpaque())
      }
    }
  }
  private final class Asked {
    let ask: SinkhornProgress
    init(_ ask: @escaping SinkhornProgress) { self.ask = ask }
  }
  /// `count` problems. Cost `[H, N, M]`. Weights `[N]`, `[M]` for all problems, or one row for each
  /// problem. `start`: potentials `[H, N]`, `[H, M]` to start from.
  public func sinkhornBatch(
    _ settings: SinkhornSettings, cost: Tensor, source: [Double], target: [Double],
    start: (a: [Double], b: [Double])? = nil, wantsPlan: Bool = true,
    progress: (@Sendable (_ iterations: Int, _ residual: Double) -> Bool)? = nil
  ) -> [SinkhornSolution] {
    let (count, n, m) = (cost.shape[0], cost.shape[1], cost.shape[2])
    precondition(
      [n, count * n].contains(source.count) && [m, count * m].contains(target.count),
      "sinkhorn: cost \(cost.shape), weights \(source.count), \(target.count)")
    var p = settings.problem(.matrix(cost))
    var strides = pk_sinkhorn_strides(
      x: n * m, y: 0, mu: source.count == n ? 0 : n, nu: target.count == m ? 0 : m, plan: n * m,
      a: n, b: m)
    let plans = wantsPlan ? tensor(cost.shape, cost.type) : nil
    let area = unsafe bytes(pk_sinkhorn_batch_scratch(&p, count))
    precondition(
      start == nil || start!.a.count == count * n && start!.b.count == count * m,
      "sinkhorn: \(start!.a.count) and \(start!.b.count) potentials to start from")
    p.warm = start == nil ? 0 : 1
    var a = start?.a ?? Array(repeating: 0.0, count: count * n)
    var b = start?.b ?? Array(repeating: 0.0, count: count * m)
    var results = Array(repeating: pk_sinkhorn_result(), count: count)
    let asked = progress.map { ask in Asked { ask($0, $1) } }
    if let asked {
      unsafe p.context = unsafe Unmanaged.passUnretained(asked).toOpaque()
      unsafe p.progress = {
        unsafe Unmanaged<Asked>.fromOpaque($0!).takeUnretainedValue().ask($1, $2) ? 0 : 1
      }
    }
    defer { withExtendedLifetime(asked) {} }
    unsafe check(
      pk_sinkhorn_solve_batch(
        &p, count, &strides, cost.base, nil, source, target, plans?.base, &a, &b, &results,
        area.base), "sinkhorn batch")
    return (0..<count).map { k in
      Self.solution(
        results[k], plans?[row: k], Array(a[k * n..<(k + 1) * n]), Array(b[k * m..<(k + 1) * m]))
    }
  }
  static func outcome(_ o: pk_outcome) -> SinkhornOutcome {
    switch o {
    case PK_CONVERGED: .converged
    case PK_MAX_ITERATIONS: .maxIterations
    case PK_STALLED: .stalled
    case PK_INTERRUPTED: .interrupted
    default: .nonFinite
    }
  }
  private static func solution(
    _ r: pk_sinkhorn_result, _ plan: Tensor?, _ a: [Double], _ b: [Double]
  ) -> SinkhornSolution {
    func potentials(_ x: [Double]) -> [Double] { x.map { $0 > PK_LOG_ZERO / 2 ? $0 : -.infinity } }
    return SinkhornSolution(
      outcome: outcome(r.outcome), plan: plan, a: potentials(a), b: potentials(b),
      iterations: r.iterations, residual: r.residual, certificate: SinkhornCertificate(r))
  }
  /// A solution's certificate with every sum in f64, from its plan if it has one, otherwise from
  /// its potentials. The outcome is judged again.
  public func sinkhornCertificate(
    _ settings: SinkhornSettings, cost: SinkhornCost, source: [Double], target: [Double],
    of s: SinkhornSolution
  ) -> SinkhornCertificate {
    var p = settings.problem(cost)
    var r = pk_sinkhorn_result()
    r.outcome = s.outcome.pk
    let area = unsafe bytes(pk_sinkhorn_certify_scratch(&p))
    let (a, b, z) = (Self.finite(s.a), Self.finite(s.b), s.certificate.z)
    unsafe check(
      pk_sinkhorn_certify(
        &p, cost.first, cost.second, source, target, s.plan?.base, a, b, z, &r, area.base),
      "sinkhorn certificate")
    return SinkhornCertificate(r)
  }
  /// Derivatives of <upstream, P> + onCost <P, C> + onObjective objective with respect to the
  /// matrix `[N, M]` or to both clouds, and with respect to the weights.
  public struct SinkhornGradient: Sendable {
    public let cost: Tensor?
    public let points: (Tensor, Tensor)?
    public let source, target: [Double]
    public let residual: Double
  }
  public func sinkhornGradient(
    _ settings: SinkhornSettings, cost: SinkhornCost, source: [Double], target: [Double],
    a: [Double], b: [Double], z: Double, upstream: Tensor?, onCost: Double, onObjective: Double
  ) -> SinkhornGradient {
    var p = settings.problem(cost)
    var residual = 0.0
    let area = unsafe bytes(pk_sinkhorn_gradient_scratch(&p))
    let dx: Tensor
    let dy: Tensor?
    switch cost {
    case .matrix(let c): (dx, dy) = (tensor(Shape(c.shape[0], c.shape[1]), c.type), nil)
    case .points(let x, let y, _, _): (dx, dy) = (tensor(x.shape, x.type), tensor(y.shape, y.type))
    }
    precondition(
      upstream == nil || upstream!.type == cost.type,
      "sinkhorn gradient: upstream of another type than the cost")
    var mu = Array(repeating: 0.0, count: cost.rows)
    var nu = Array(repeating: 0.0, count: cost.columns)
    unsafe check(
      pk_sinkhorn_gradient(
        &p, cost.first, cost.second, source, target, Self.finite(a), Self.finite(b), z,
        upstream?.base, onCost, onObjective, dx.base, dy?.base, &mu, &nu, &residual, area.base),
      "sinkhorn gradient")
    return SinkhornGradient(
      cost: dy == nil ? dx : nil, points: dy.map { (dx, $0) }, source: mu, target: nu,
      residual: residual)
  }
  /// Σ_j P_ij y_j / Σ_j P_ij `[N, D]`; with cosine costs y of unit length.
  public func sinkhornProjection(
    _ settings: SinkhornSettings, cost: SinkhornCost, a: [Double], b: [Double], z: Double
  ) -> Tensor {
    guard case .points(let x, _, _, _) = cost else {
      preconditionFailure("a projection needs points")
    }
    var p = settings.problem(cost)
    let area = unsafe bytes(pk_sinkhorn_gradient_scratch(&p))
    let out = tensor(x.shape, x.type)
    unsafe check(
      pk_sinkhorn_project(
        &p, cost.first, cost.second, Self.finite(a), Self.finite(b), z, out.base, area.base),
      "sinkhorn projection")
    return out
  }

  /// Bytes of scratch of a solve (`count` problems in one batch), of its gradient and of its
  /// certificate in f64, for a cost that may still have another type than `type`.
  public func sinkhornScratch(
    _ settings: SinkhornSettings, cost: SinkhornCost, type: ElementType, count: Int = 1
  ) -> (solve: Int, gradient: Int, certificate: Int) {
    var p = settings.problem(cost, as: type)
    return unsafe (
      count == 1 ? pk_sinkhorn_scratch(&p) : pk_sinkhorn_batch_scratch(&p, count),
      pk_sinkhorn_gradient_scratch(&p), pk_sinkhorn_certify_scratch(&p)
    )
  }

  private static func finite(_ x: [Double]) -> [Double] { x.map { max($0, PK_LOG_ZERO) } }
  func bytes(_ count: Int) -> Tensor { scratch((count + 7) / 8, .f64) }
}
