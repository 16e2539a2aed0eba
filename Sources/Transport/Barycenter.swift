public import TensorRuntime

/// The entropic barycenter of histograms on a fixed support, min over a of Σ w_k OT(b_k, a) with OT
/// the optimal value of <P,C> + ε Σ P (log P - 1); debiased, of Σ w_k S(b_k, a) with the Sinkhorn
/// divergence S.
///
/// The first is blurred: of Gaussians on a line with one variance and the cost (x - y)² it is the
/// Gaussian at their weighted mean with the variance larger by ε / 2. The debiased one has no blur,
/// and asks to undo one: a large ε needs many iterations. Histograms and weights are divided by
/// their sums. Double precision, stable for any ε. The contract is `pk_barycenter.h` (Benamou et
/// al. 2015, arXiv:1412.5154; Janati et al. 2020, arXiv:2006.02575).
public struct Barycenter: Sendable, Equatable {
  /// Regularisation, in units of the cost.
  public var epsilon: Double
  public var isDebiased: Bool
  /// On the L1 error of the plans' marginals before their update, relative to Σa; 0: exactly
  /// `maxIterations` plain iterations, without a test.
  public var tolerance: Double
  public var maxIterations: Int
  /// No over-relaxation.
  public var isPlain = false

  public init(
    epsilon: Double, isDebiased: Bool = false,
    tolerance: Double = Workspace.TransportDefaults.toleranceOfBarycenter,
    maxIterations: Int = Workspace.TransportDefaults.maxIterations
  ) {
    (self.epsilon, self.isDebiased, self.tolerance, self.maxIterations) = (
      epsilon, isDebiased, tolerance, maxIterations
    )
  }
  var settings: Workspace.BarycenterSettings {
    Workspace.BarycenterSettings(
      epsilon: epsilon, tolerance: tolerance, maxIterations: maxIterations, isDebiased: isDebiased,
      isPlain: isPlain)
  }

  /// The caller must look at `status`: a barycenter is returned whatever happened. Errors and
  /// values are those of the plans of the potentials.
  public struct Result: Sendable {
    public let status: SinkhornResult.Status
    /// a `[M]`, of sum 1 where the solve converged.
    public let barycenter: Tensor
    /// log u `[K, N]` (-inf where a histogram is 0) and log v `[K, M]` of the plans P_k = exp(log
    /// u_k + log v_k - C/ε).
    public let logU, logV: Tensor
    public let iterations: Int
    /// What the stopping rule last saw; Σa; Σ w_k <P_k,C_k>.
    public let residual, mass, cost: Double
    /// The value that is minimised, debiased without the constant of the histograms with
    /// themselves; a lower bound of it, nil when debiased.
    public let objective: Double, dual: Double?
    /// Of each plan, the larger L1 error of its two marginals; the largest of them, debiased of the
    /// plan of a with itself too; the largest element.
    public let errors: [Double]
    public let marginalErrorL1, marginalErrorLinf: Double
  }

  /// The barycenter of histograms `[K, N]`; cost `[N, M]` from their support to the barycenter's,
  /// or `[K, N, M]`, one each. `own`: debiased, the symmetric cost `[M, M]` between the
  /// barycenter's atoms, by default the cost where that is square and shared. Absent weights `[K]`
  /// are equal.
  public func solve(
    histograms: Tensor, cost: Tensor, own: Tensor? = nil, weights: Tensor? = nil,
    progress: Workspace.SinkhornProgress? = nil, in work: borrowing Workspace
  ) throws(TransportError) -> Result {
    do throws(Workspace.TransportFault) {
      _ = try Workspace.sinkhornSettings(
        .balanced, epsilon: epsilon, tolerance: tolerance, maxIterations: maxIterations)
    } catch { throw .fault(error) }
    let rank = cost.shape.rank
    guard histograms.shape.rank == 2, histograms.count > 0, rank == 2 || rank == 3, cost.count > 0,
      cost.shape[rank - 2] == histograms.shape[1],
      rank == 2 || cost.shape[0] == histograms.shape[0]
    else { throw .histogramShapes(histograms.shape.dims, cost: cost.shape.dims) }
    let count = histograms.shape[0]
    let n = histograms.shape[1]
    let m = cost.shape[rank - 1]
    if isDebiased, own.map({ $0.shape != Shape(m, m) }) ?? (rank == 3 || n != m) {
      throw .ownCost(found: own?.shape.dims, expected: m)
    }
    func divided(_ name: String, _ w: [Double]) throws(TransportError) -> [Double] {
      let sum = try TransportWeights.sum(name, w)
      return w.map { $0 / sum }
    }
    let cost = try TransportCosts.finite("cost", cost, as: .f64, in: work)
    var inner: Tensor?
    if isDebiased, let own {
      inner = try TransportCosts.symmetric("own cost", own, as: .f64, in: work)
    } else if isDebiased {
      _ = try TransportCosts.symmetric("cost", cost, as: .f64, in: work)
    }
    var b: [Double] = []
    for k in 0..<count { b += try divided("histogram \(k)", histograms[row: k].doubles) }
    let w = try divided(
      "barycentric weights",
      try TransportWeights.read("barycentric weights", weights, count).values)
    let s = work.barycenter(
      settings, cost: cost, own: inner, histograms: b, weights: w, progress: progress)
    return Result(
      status: SinkhornResult.Status(s.outcome), barycenter: s.barycenter, logU: s.f, logV: s.g,
      iterations: s.iterations, residual: s.residual, mass: s.mass, cost: s.cost,
      objective: s.objective, dual: isDebiased ? nil : s.dual, errors: s.errors,
      marginalErrorL1: s.errorL1, marginalErrorLinf: s.errorLinf)
  }
  /// Bytes that a solve takes beside its inputs while one kernel serves a shared cost, about. (At a
  /// small ε each histogram may come to have one.)
  public func memoryBytes(cost: Tensor, count: Int, in work: borrowing Workspace) -> Int {
    let m = cost.shape.last
    let kernels = (count + (isDebiased ? 1 : 0)) * (cost.shape[cost.shape.rank - 2] * m * 8)
    let whole =
      work.barycenterScratch(settings, cost: cost, count: count)
      + (cost.type == .f64 ? 0 : cost.count * 8)
    return cost.shape.rank == 2 ? whole - kernels : whole
  }
}
