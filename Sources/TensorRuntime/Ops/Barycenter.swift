internal import CKernels

/// Entropic barycenters of histograms: `pk_barycenter.h`.
extension Workspace {
  public struct BarycenterSettings: Sendable {
    public var epsilon, tolerance: Double
    public var maxIterations: Int
    public var isDebiased, isPlain: Bool
    public init(
      epsilon: Double, tolerance: Double, maxIterations: Int, isDebiased: Bool, isPlain: Bool
    ) {
      (self.epsilon, self.tolerance, self.maxIterations, self.isDebiased, self.isPlain) = (
        epsilon, tolerance, maxIterations, isDebiased, isPlain
      )
    }
    fileprivate func problem(_ cost: Tensor, count: Int) -> pk_barycenter_problem {
      let rank = cost.shape.rank
      let n = cost.shape[rank - 2]
      let m = cost.shape[rank - 1]
      return unsafe pk_barycenter_problem(
        count: count, n: n, m: m, cost_stride: rank == 3 ? n * m : 0, debiased: isDebiased ? 1 : 0,
        epsilon: epsilon, tolerance: tolerance, max_iterations: maxIterations,
        plain: isPlain ? 1 : 0, progress: nil, context: nil)
    }
  }
  /// barycenter `[M]`; potentials f `[K, N]`, g `[K, M]` of the plans exp(f + g - C/ε), -inf where
  /// a histogram is 0; for each plan the larger of the L1 errors of its two marginals.
  public struct BarycenterSolution: Sendable {
    public let outcome: SinkhornOutcome
    public let barycenter, f, g: Tensor
    public let errors: [Double]
    public let iterations: Int
    public let residual, mass, cost, objective, dual, errorL1, errorLinf: Double
  }
  /// cost `[N, M]` or `[K, N, M]`, f64; `own` `[M, M]` for debiased settings if the cost is not
  /// square and shared; histograms, K * N numbers with equal sums; K weights with the sum 1.
  public func barycenter(
    _ settings: BarycenterSettings, cost: Tensor, own: Tensor? = nil, histograms: [Double],
    weights: [Double], progress: SinkhornProgress? = nil
  ) -> BarycenterSolution {
    let count = weights.count
    var p = settings.problem(cost, count: count)
    var r = pk_barycenter_result()
    precondition(
      histograms.count == count * p.n && cost.type == .f64
        && (cost.shape.rank == 2 || cost.shape[0] == count),
      "barycenter: cost \(cost.shape), histograms \(histograms.count)")
    precondition(
      own == nil || own!.shape == Shape(p.m, p.m) && own!.type == .f64,
      "barycenter: own cost \(own!.shape)")
    let area = unsafe bytes(pk_barycenter_scratch(&p))
    func reals(_ t: Tensor) -> UnsafeMutablePointer<Double> {
      unsafe t.base.assumingMemoryBound(to: Double.self)
    }
    var a = Array(repeating: 0.0, count: p.m)
    var f = Array(repeating: 0.0, count: count * p.n)
    var g = Array(repeating: 0.0, count: count * p.m)
    var errors = Array(repeating: 0.0, count: count)
    var status = PK_OK
    unsafe Self.asking(progress) { ask, context in
      unsafe (p.progress, p.context) = unsafe (ask, context)
      status = unsafe pk_barycenter(
        &p, reals(cost), own.map { unsafe reals($0) }, histograms, weights, &a, &f, &g, &errors, &r,
        unsafe area.base)
    }
    check(status, "barycenter")
    return BarycenterSolution(
      outcome: Self.outcome(r.outcome), barycenter: Tensor(a, Shape(p.m)),
      f: Tensor(f.map { $0 > PK_LOG_ZERO / 2 ? $0 : -.infinity }, Shape(count, p.n)),
      g: Tensor(g, Shape(count, p.m)), errors: errors, iterations: r.iterations,
      residual: r.residual, mass: r.mass, cost: r.cost, objective: r.objective, dual: r.dual,
      errorL1: r.error_l1, errorLinf: r.error_linf)
  }
  /// Largest number of bytes of scratch that a solve may touch. While a shared kernel suffices it
  /// touches fewer.
  public func barycenterScratch(_ settings: BarycenterSettings, cost: Tensor, count: Int) -> Int {
    var p = settings.problem(cost, count: count)
    return unsafe pk_barycenter_scratch(&p)
  }
}
