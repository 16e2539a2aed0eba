internal import CKernels

/// Entropic transport in double precision: `pk_sinkhorn.h`.
extension Workspace {
  /// How the marginal of one side is enforced.
  public enum SinkhornSide: Sendable, Equatable {
    case hard, capped
    case relaxed(rho: Double)
    var pk: pk_side {
      switch self {
      case .hard: PK_SIDE_HARD
      case .capped: PK_SIDE_CAPPED
      case .relaxed: PK_SIDE_RELAXED
      }
    }
    var rho: Double { if case .relaxed(let rho) = self { rho } else { 0 } }
  }
  public struct SinkhornSettings: Sendable {
    public var source, target: SinkhornSide
    public var epsilon, mass, tolerance: Double
    public var maxIterations: Int
    public init(source: SinkhornSide, target: SinkhornSide, epsilon: Double, mass: Double, tolerance: Double, maxIterations: Int) {
      (self.source, self.target, self.epsilon, self.mass, self.tolerance, self.maxIterations) = (source, target, epsilon, mass, tolerance, maxIterations)
    }
    fileprivate func problem(_ n: Int, _ m: Int) -> pk_sinkhorn_problem {
      pk_sinkhorn_problem(
        n: n, m: m, ld: (m + 7) / 8 * 8, side_a: source.pk, side_b: target.pk, epsilon: epsilon, rho_a: source.rho, rho_b: target.rho, mass: mass,
        tolerance: tolerance, max_iterations: maxIterations)
    }
  }
  public enum SinkhornOutcome: Sendable { case converged, maxIterations, stalled, nonFinite }
  /// One solved problem: plan `[N, M]`, potentials a `[N]`, b `[M]` (-inf where the weight is 0), all f64.
  public struct SinkhornSolution: Sendable {
    public let outcome: SinkhornOutcome
    public let plan, a, b: Tensor
    public let iterations: Int
    public let z, residual, mass, cost, entropy, dual, errorL1, errorLinf, penalties: Double
  }

  /// cost `[N, M]`; weights f64.
  public func sinkhorn(_ settings: SinkhornSettings, cost: Tensor, source: [Double], target: [Double]) -> SinkhornSolution {
    let (n, m) = (cost.shape[0], cost.shape[1])
    precondition(source.count == n && target.count == m, "sinkhorn: cost \(cost.shape), weights \(source.count), \(target.count)")
    var p = settings.problem(n, m)
    let c = padded(cost, p.ld, with: 1e300), plan = tensor(Shape(n, p.ld), .f64)
    let a = tensor(Shape(n), .f64), b = tensor(Shape(p.ld), .f64), area = scratch(pk_sinkhorn_scratch(&p), .f64)
    var r = pk_sinkhorn_result()
    check(
      pk_sinkhorn_solve(&p, reals(c), source, target, reals(plan), reals(a), reals(b), &r, reals(area)), "sinkhorn")
    let outcome: SinkhornOutcome =
      switch r.outcome {
      case PK_CONVERGED: .converged
      case PK_MAX_ITERATIONS: .maxIterations
      case PK_STALLED: .stalled
      default: .nonFinite
      }
    return SinkhornSolution(
      outcome: outcome, plan: p.ld == m ? plan : narrowed(plan, axis: 1, 0..<m), a: potentials(a, n), b: potentials(b, m), iterations: r.iterations,
      z: r.z, residual: r.residual, mass: r.mass, cost: r.cost, entropy: r.entropy, dual: r.dual, errorL1: r.error_l1, errorLinf: r.error_linf,
      penalties: r.penalty_a + r.penalty_b)
  }
  /// dC `[N, M]` f64, given the upstream `[N, M]` on the plan and a factor of the plan added to the result.
  public func sinkhornGradient(_ settings: SinkhornSettings, plan: Tensor, a: Tensor, b: Tensor, upstream: Tensor, planFactor: Double) -> (gradient: Tensor, residual: Double) {
    let (n, m) = (plan.shape[0], plan.shape[1])
    var p = settings.problem(n, m)
    let stored = padded(plan, p.ld, with: 0), g = padded(upstream, p.ld, with: 0)
    let out = tensor(Shape(n, p.ld), .f64), area = scratch(pk_sinkhorn_scratch(&p), .f64)
    var residual = 0.0
    check(
      pk_sinkhorn_gradient(&p, reals(stored), reals(a), reals(b), reals(g), planFactor, reals(out), &residual, reals(area)), "sinkhorn gradient")
    return (p.ld == m ? out : narrowed(out, axis: 1, 0..<m), residual)
  }

  private func reals(_ t: Tensor) -> UnsafeMutablePointer<Double> { t.base.assumingMemoryBound(to: Double.self) }
  private func padded(_ x: Tensor, _ ld: Int, with value: Double) -> Tensor {
    let wide = converted(x, to: .f64)
    if x.shape[1] == ld { return wide }
    var y = full(Shape(x.shape[0], ld), value, .f64)
    copyStrided([x.shape[0], x.shape[1]], from: wide, strides: [x.shape[1], 1], to: &y, toStrides: [ld, 1])
    return y
  }
  private func potentials(_ x: Tensor, _ count: Int) -> Tensor {
    Tensor(x.doubles.prefix(count).map { $0 > PK_LOG_ZERO / 2 ? $0 : -.infinity }, Shape(count))
  }
}
