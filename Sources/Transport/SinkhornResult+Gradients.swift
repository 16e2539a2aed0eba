public import TensorRuntime

extension SinkhornResult {
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
      upstream == nil || upstream!.shape == Shape(problem.costs.rows, problem.costs.columns),
      "upstream \(upstream!.shape) for a plan [\(problem.costs.rows), \(problem.costs.columns)]")
    let costs = problem.costs
    let g = work.sinkhornGradient(
      problem.settings, cost: costs, source: source, target: target, a: solution.a, b: solution.b,
      z: solution.certificate.z, upstream: upstream.map { work.converted($0, to: costs.type) },
      onCost: dCost, onObjective: dObjective)
    let (sums, solver) = (problem.weights.sums, problem.solver)
    return Gradient(
      cost: g.cost, points: g.points.map { (source: $0.0, target: $0.1) },
      source: solver.undivided(g.source, weights: source, sum: sums.0),
      target: solver.undivided(g.target, weights: target, sum: sums.1),
      relativeResidual: g.residual)
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
    work.sinkhornProjection(
      problem.settings, cost: problem.costs, a: solution.a, b: solution.b,
      z: solution.certificate.z)
  }
}
