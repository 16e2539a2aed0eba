public import TensorRuntime

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
  /// What was solved, for gradients and certificates.
  struct Problem: Sendable {
    let solver: EntropicTransport
    let settings: Workspace.SinkhornSettings
    let costs: EntropicTransport.Cost
    let weights: TransportWeights
  }
  let problem: Problem
  /// Potentials as the solver left them, which tell the active caps of exact mass.
  let solution: Workspace.SinkhornSolution

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
  /// |P1 - a|; exact mass: (P1 - a)₊ and |ΣP - mass|; relaxed: |P1 - a exp(-ε log u / ρ)|, the
  /// condition of optimality.
  public let marginalErrorL1, marginalErrorLinf: Double
  public let epsilon: Double
  /// What the stopping rule last saw.
  public let residual: Double

  init(
    _ problem: Problem, _ s: Workspace.SinkhornSolution,
    certificate: Workspace.SinkhornCertificate? = nil
  ) {
    let c = certificate ?? s.certificate
    let weights = problem.weights
    (self.problem, solution) = (problem, s)
    (source, target) = (weights.source, weights.target)
    status = Status(c.outcome)
    (storedPlan, iterations, residual) = (s.plan, s.iterations, s.residual)
    let shifts = Self.shifts(problem, s)
    logU = Tensor(s.a.map { $0 + shifts.u }, Shape(s.a.count))
    logV = Tensor(s.b.map { $0 + shifts.v }, Shape(s.b.count))
    let solver = problem.solver
    (cost, mass, dual, epsilon) = (c.cost, c.mass, c.dual, solver.epsilon)
    objective = c.cost + solver.epsilon * c.entropy + c.penalties
    (marginalErrorL1, marginalErrorLinf) = (c.errorL1, c.errorLinf)
  }
  /// What is added to the solver's potentials: hard marginals on both sides leave a constant free,
  /// chosen so that Σ a log u = Σ b log v; else both share the multiplier of the total.
  private static func shifts(_ problem: Problem, _ s: Workspace.SinkhornSolution) -> (
    u: Double, v: Double
  ) {
    guard problem.settings.source == .hard && problem.settings.target == .hard else {
      let half = s.certificate.z / 2
      return (half, half)
    }
    func mean(_ w: [Double], _ x: [Double]) -> Double {
      zip(w, x).reduce(0) { $1.0 > 0 ? $0 + $1.0 * $1.1 : $0 }
    }
    let (a, b) = (problem.weights.source, problem.weights.target)
    let shift = (mean(b, s.b) - mean(a, s.a)) / (a.reduce(0, +) + b.reduce(0, +))
    return (shift, -shift)
  }

  /// The same solution with every value of the certificate recomputed in f64, from the stored plan
  /// or, where there is none, from the plan that the potentials stand for; the status is judged
  /// again on these values.
  public func certified(in work: borrowing Workspace) -> SinkhornResult {
    let c = work.sinkhornCertificate(
      problem.settings, cost: problem.costs, source: source, target: target, of: solution)
    return SinkhornResult(problem, solution, certificate: c)
  }
}
