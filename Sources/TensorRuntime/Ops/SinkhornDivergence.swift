internal import CKernels

/// Sinkhorn divergence: `pk_divergence.h`.
extension Workspace {
  /// One of the three solves. `shift` is what the reference measure adds to its objective and dual.
  public struct SinkhornTerm: Sendable {
    public let outcome: SinkhornOutcome
    public let iterations: Int
    public let residual, shift: Double
    public let certificate: SinkhornCertificate
  }
  /// The value; the terms (source, target), (source, source), (target, target); gradients if asked
  /// for, those of points in the clouds' type.
  public struct SinkhornDivergenceValue: Sendable {
    public let value: Double
    public let terms: [SinkhornTerm]
    public let points: (Tensor, Tensor)?
    public let source, target: [Double]?
  }
  /// `within`: the costs `[N, N]` and `[M, M]` inside the two measures, for a matrix `cost`; nil
  /// between points.
  public func sinkhornDivergence(
    _ settings: SinkhornSettings, cost: SinkhornCost, within: (Tensor, Tensor)? = nil,
    source: [Double], target: [Double], wantsGradients: Bool = false,
    progress: SinkhornProgress? = nil
  ) -> SinkhornDivergenceValue {
    let (n, m) = (cost.rows, cost.columns)
    precondition(
      source.count == n && target.count == m,
      "divergence: cost [\(n), \(m)], weights \(source.count), \(target.count)")
    var p = settings.problem(cost)
    var r = pk_divergence_result()
    var dx: Tensor?
    var dy: Tensor?
    if case .points(let x, let y, _, _) = cost {
      precondition(within == nil, "divergence: costs beside points")
      if wantsGradients { (dx, dy) = (tensor(x.shape, x.type), tensor(y.shape, y.type)) }
    } else {
      precondition(
        within?.0.shape == Shape(n, n) && within?.1.shape == Shape(m, m)
          && within?.0.type == cost.type && within?.1.type == cost.type, "divergence: costs within")
    }
    let area = unsafe bytes(pk_divergence_scratch(&p))
    var mu = Array(repeating: 0.0, count: wantsGradients ? n : 0)
    var nu = Array(repeating: 0.0, count: wantsGradients ? m : 0)
    var status = PK_OK
    unsafe Self.asking(progress) { ask, context in
      unsafe (p.progress, p.context) = unsafe (ask, context)
      if wantsGradients {
        status = unsafe pk_divergence(
          &p, cost.first, cost.second, within?.0.base, within?.1.base, source, target, &r, dx?.base,
          dy?.base, &mu, &nu, area.base)
      } else {
        status = unsafe pk_divergence(
          &p, cost.first, cost.second, within?.0.base, within?.1.base, source, target, &r, nil, nil,
          nil, nil, area.base)
      }
    }
    check(status, "divergence")
    let terms = [r.terms.0, r.terms.1, r.terms.2].map {
      SinkhornTerm(
        outcome: Self.outcome($0.solve.outcome), iterations: $0.solve.iterations,
        residual: $0.solve.residual, shift: $0.shift, certificate: SinkhornCertificate($0.solve))
    }
    return SinkhornDivergenceValue(
      value: r.value, terms: terms, points: dx.map { ($0, dy!) }, source: wantsGradients ? mu : nil,
      target: wantsGradients ? nu : nil)
  }
  /// Bytes of scratch, for a cost that may still have another type than `type`.
  public func sinkhornDivergenceScratch(
    _ settings: SinkhornSettings, cost: SinkhornCost, type: ElementType
  ) -> Int {
    var p = settings.problem(cost, as: type)
    return unsafe pk_divergence_scratch(&p)
  }
  /// Index of the first weight whose power 1 + ε / ρ leaves the range of double, which a divergence
  /// with relaxed sides cannot use; nil if there is none.
  public func sinkhornOutOfRange(_ weights: [Double], _ settings: SinkhornSettings) -> Int? {
    guard case .relaxed(let rho) = settings.source else { return nil }
    var w = weights
    var shift = 0.0
    let i = unsafe pk_product_refer(PK_SIDE_RELAXED, settings.epsilon, rho, w.count, &w, &shift)
    return i < w.count ? i : nil
  }
}
