public import TensorRuntime

/// Which entropic problem is solved.
public typealias MarginalRule = Workspace.MarginalRule

/// Solver of entropic transport, with a cost matrix or between points whose costs are never stored.
///
/// Block ascent of the dual with scalings that are folded into potentials, a falling sequence of ε
/// where ε is small, over-relaxation, translation and Newton steps where plain iterations are slow;
/// the contract is `pk_sinkhorn.h`. A batch gives the bits of its items solved one by one. The bits
/// do not depend on the number of threads, nor, in f64, on the instruction set.
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
  /// f64; or f32 for kernel, plan and gradients, with potentials and sums in f64: marginals to
  /// about 1e-7 (between points: to the rounding of their costs, 1e-7 |x|² / ε).
  public var precision: ElementType
  /// Only plain iterations.
  public var isPlain = false

  public init(
    _ rule: MarginalRule, epsilon: Double,
    tolerance: Double = Workspace.TransportDefaults.tolerance,
    maxIterations: Int = Workspace.TransportDefaults.maxIterations, precision: ElementType = .f64
  ) {
    self.rule = rule
    self.epsilon = epsilon
    self.tolerance = tolerance
    self.maxIterations = maxIterations
    self.precision = precision
  }

  /// Solves for one cost `[N, M]`, whose infinite elements forbid their pairs. Absent weights are
  /// uniform with sum 1; a weight of 0 gives an exactly zero row or column.
  public func solve(
    cost: Tensor, source: Tensor? = nil, target: Tensor? = nil, in work: borrowing Workspace
  ) throws(TransportError) -> SinkhornResult {
    try solve(.matrix(cost), source: source, target: target, in: work)
  }
  /// The same for either kind of cost, of any floating type. `start`: log u and log v to start
  /// from. Without `wantsPlan`, and always between points, no plan is stored. `progress` is called
  /// after every iteration with their number and the residual, and says whether to go on.
  public func solve(
    _ cost: Cost, source: Tensor? = nil, target: Tensor? = nil,
    start: (logU: [Double], logV: [Double])? = nil, wantsPlan: Bool = true,
    progress: Workspace.SinkhornProgress? = nil, in work: borrowing Workspace
  ) throws(TransportError) -> SinkhornResult {
    var settings = try settings(cost)
    let costs = try TransportCosts(cost, as: precision, in: work)
    let (n, m) = (costs.cost.rows, costs.cost.columns)
    let weights = try TransportWeights(
      try TransportWeights.read("source weights", source, n),
      try TransportWeights.read("target weights", target, m), rule: rule, settings: &settings)
    if costs.hasForbidden { try checkPairs(settings, costs.cost, weights, in: work) }
    try Self.check(start: start, n, m)
    let solution = work.sinkhorn(
      settings, cost: costs.cost, source: weights.source, target: weights.target,
      start: start.map { (a: $0.logU, b: $0.logV) }, wantsPlan: wantsPlan && costs.isMatrix,
      progress: progress)
    let problem = SinkhornResult.Problem(
      solver: self, settings: settings, costs: costs.cost, weights: weights)
    return SinkhornResult(problem, solution)
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
      try settings(cost), cost: cost, type: precision, count: count)
    var bytes = scratch.solve
    if gradients { bytes = max(bytes, scratch.gradient) }
    if certified { bytes = max(bytes, scratch.certificate) }
    for isHeld in [cost.type != precision, wantsPlan, gradients] where isHeld {
      bytes += elements * precision.byteCount
    }
    return bytes
  }

  /// The solver's settings, but for a mass that the weights may bring down.
  func settings(_ cost: Cost? = nil) throws(TransportError) -> Workspace.SinkhornSettings {
    var scale: Double?
    if case .points(_, _, _, let divisor) = cost { scale = divisor }
    do throws(Workspace.TransportFault) {
      return try Workspace.sinkhornSettings(
        rule, epsilon: epsilon, tolerance: tolerance, maxIterations: maxIterations,
        isPlain: isPlain, scale: scale)
    } catch { throw .fault(error) }
  }
  func checkPairs(
    _ settings: Workspace.SinkhornSettings, _ cost: Cost, _ weights: TransportWeights,
    in work: borrowing Workspace
  ) throws(TransportError) {
    do throws(Workspace.TransportFault) {
      try work.checkPairs(settings, cost: cost, source: weights.source, target: weights.target)
    } catch { throw .fault(error) }
  }
  static func check(
    start: (logU: [Double], logV: [Double])?, _ rows: Int, _ columns: Int
  ) throws(TransportError) {
    guard let start, start.logU.count != rows || start.logV.count != columns else { return }
    throw .startShape([start.logU.count, start.logV.count], [rows, columns])
  }
  /// The gradient with respect to weights as they were given.
  func undivided(_ gradient: [Double], weights: [Double], sum: Double) -> [Double] {
    rule == .balanced
      ? Workspace.undivided(gradient, weights: weights, sum: sum) : gradient
  }
}
