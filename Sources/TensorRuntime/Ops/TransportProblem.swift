internal import CKernels

/// What a transport problem means and when it is refused: `pk_problem.h`, which the C library uses
/// too.
extension Workspace {
  /// Which entropic problem is solved between weights a `[N]` and b `[M]` (algorithm.md 4.8;
  /// KL(p|q) = Σ p log(p/q) - p + q).
  public enum MarginalRule: Sendable, Equatable {
    /// min <P,C> + ε Σ P (log P - 1) with P1 = a, Pᵀ1 = b; a and b are first divided by their sums
    /// (Cuturi 2013).
    case balanced
    /// The same with ρ_source KL(P1|a) + ρ_target KL(Pᵀ1|b) instead of the constraints (Chizat et
    /// al. 2018). With an infinite ρ a side keeps its constraint. If both are infinite, the sums of
    /// a and b must agree.
    case unbalanced(rhoSource: Double, rhoTarget: Double)
    /// The PISCES relaxation: `unbalanced` with ρ = ε m / (1 - m) on both sides, so m is the
    /// exponent of the scalings. From 0.999 on, m counts as 1 (hard constraints).
    case relaxed(exponent: Double)
    /// P1 <= a, Pᵀ1 <= b, ΣP = mass (Benamou et al. 2015).
    case exactMass(Double)

    fileprivate var pk: pk_marginals {
      var m = pk_marginals()
      switch self {
      case .balanced: m.rule = PK_RULE_BALANCED
      case .unbalanced(let source, let target):
        (m.rule, m.rho_source, m.rho_target) = (PK_RULE_UNBALANCED, source, target)
      case .relaxed(let exponent): (m.rule, m.marginal_exponent) = (PK_RULE_RELAXED, exponent)
      case .exactMass(let mass): (m.rule, m.mass) = (PK_RULE_EXACT_MASS, mass)
      }
      return m
    }
  }

  /// A fault in a problem, in the words of the C library.
  public struct TransportFault: Error, Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
      case epsilon, tolerance, maxIterations, scale, rho, exponent, mass
      case notFinite, cost, negative, sum, unequalSums, zeroVector, asymmetric, noPartner,
        infeasible
      case weightRange
    }
    public var kind: Kind
    /// The array or side at fault, by the caller's name for it.
    public var name = ""
    public var index = 0, other = 0
    public var value = 0.0, limit = 0.0

    public init(
      _ kind: Kind, name: String = "", index: Int = 0, other: Int = 0, value: Double = 0,
      limit: Double = 0
    ) {
      (self.kind, self.name, self.index, self.other) = (kind, name, index, other)
      (self.value, self.limit) = (value, limit)
    }
    /// Equal in kind, place and numbers. NaN equals NaN here.
    public static func == (x: Self, y: Self) -> Bool {
      func same(_ a: Double, _ b: Double) -> Bool { a == b || (a.isNaN && b.isNaN) }
      return x.kind == y.kind && x.name == y.name && x.index == y.index && x.other == y.other
        && same(x.value, y.value) && same(x.limit, y.limit)
    }
    /// nil if nothing is wrong. `name` is the place if the check does not name a side itself.
    fileprivate init?(_ f: pk_fault, name: String = "") {
      guard let kind = Self.kinds.first(where: { $0.pk == f.kind })?.kind else { return nil }
      self.init(kind, name: name, index: f.index, other: f.other, value: f.value, limit: f.limit)
      if kind == .noPartner, let side = unsafe f.name { self.name = unsafe String(cString: side) }
    }
    private static let kinds: [(kind: Kind, pk: pk_fault_kind)] = [
      (.epsilon, PK_FAULT_EPSILON), (.tolerance, PK_FAULT_TOLERANCE),
      (.maxIterations, PK_FAULT_MAX_ITERATIONS), (.scale, PK_FAULT_SCALE), (.rho, PK_FAULT_RHO),
      (.exponent, PK_FAULT_EXPONENT), (.mass, PK_FAULT_MASS), (.notFinite, PK_FAULT_NOT_FINITE),
      (.cost, PK_FAULT_COST), (.negative, PK_FAULT_NEGATIVE), (.sum, PK_FAULT_SUM),
      (.unequalSums, PK_FAULT_UNEQUAL_SUMS), (.zeroVector, PK_FAULT_ZERO_VECTOR),
      (.asymmetric, PK_FAULT_ASYMMETRIC), (.noPartner, PK_FAULT_NO_PARTNER),
      (.infeasible, PK_FAULT_INFEASIBLE), (.weightRange, PK_FAULT_WEIGHT_RANGE),
    ]
    /// What is wrong, and how to mend it.
    public var text: (what: String, remedy: String) {
      var what = [CChar](repeating: 0, count: 256)
      var remedy = what
      unsafe name.withCString { cName in
        var f = pk_fault()
        unsafe (f.kind, f.name, f.index) = (
          Self.kinds.first { $0.kind == kind }!.pk, unsafe cName, index
        )
        (f.other, f.value, f.limit) = (other, value, limit)
        unsafe pk_fault_text(&f, &what, &remedy, what.count)
      }
      func string(_ c: [CChar]) -> String {
        String(decoding: c.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      }
      return (string(what), string(remedy))
    }
  }

  /// Defaults of the commands and the Swift module. Those of the C library stand beside them in
  /// `pk_problem.h`.
  public enum TransportDefaults {
    public static let tolerance = PK_TOLERANCE
    public static let toleranceF32 = PK_TOLERANCE_F32
    public static let toleranceOfBarycenter = PK_TOLERANCE_BARYCENTER
    public static let toleranceOfDebiased = PK_TOLERANCE_DEBIASED
    public static let maxIterations = Int(PK_MAX_ITERATIONS_DEFAULT)
    /// Relative difference above which two sums of weights count as different.
    public static let sumTolerance = PK_SUM_TOLERANCE
  }

  private static func pass(_ f: pk_fault, name: String = "") throws(TransportFault) {
    if let fault = TransportFault(f, name: name) { throw fault }
  }

  /// The solver's settings for a rule. `scale`: the divisor of distances between points.
  public static func sinkhornSettings(
    _ rule: MarginalRule, epsilon: Double, tolerance: Double, maxIterations: Int,
    isPlain: Bool = false, scale: Double? = nil
  ) throws(TransportFault) -> SinkhornSettings {
    var p = pk_sinkhorn_problem()
    (p.epsilon, p.tolerance, p.max_iterations) = (epsilon, tolerance, maxIterations)
    if let scale { (p.cost, p.scale) = (PK_COST_SQUARED, scale) }
    var m = rule.pk
    try unsafe pass(pk_check_options(&p))
    try unsafe pass(pk_set_marginals(&m, &p))
    return SinkhornSettings(
      source: SinkhornSide(p.side_source, rho: p.rho_source),
      target: SinkhornSide(p.side_target, rho: p.rho_target),
      epsilon: epsilon, mass: p.mass, tolerance: tolerance, maxIterations: maxIterations,
      isPlain: isPlain)
  }

  /// The sum of weights, which must be finite, not negative and not all zero.
  public static func sum(ofWeights w: [Double], named name: String) throws(TransportFault) -> Double
  {
    var sum = 0.0
    try unsafe pass(pk_check_weights(nil, w.count, w, &sum), name: name)
    return sum
  }

  /// Weights as the solver takes them. Balanced sides are divided by their sums. Two other hard
  /// sides are made to agree to the last bit. Sets the mass in `settings`.
  public static func posed(
    _ rule: MarginalRule, source: [Double], target: [Double], sums: (Double, Double),
    in settings: inout SinkhornSettings
  ) throws(TransportFault) -> (source: [Double], target: [Double]) {
    var (a, b, m) = (source, target, rule.pk)
    var p = settings.problem(rows: a.count, columns: b.count)
    var fault = pk_fault()
    unsafe a.withUnsafeMutableBufferPointer { a in
      unsafe b.withUnsafeMutableBufferPointer { b in
        var w = pk_weights()
        unsafe (w.source, w.target, w.sums, w.divides_always) = (
          a.baseAddress, b.baseAddress, sums, 1
        )
        fault = unsafe pk_pose_weights(&m, &p, &w)
      }
    }
    try pass(fault)
    settings.mass = p.mass
    return (a, b)
  }

  /// The gradient with respect to the given weights, from the gradient with respect to the divided
  /// ones.
  public static func undivided(_ gradient: [Double], weights w: [Double], sum: Double) -> [Double] {
    var g = gradient
    unsafe pk_undivide_gradient(w.count, w, sum, &g)
    return g
  }

  /// Checks that no row of points `[N, D]` is a zero vector, whose cosine is not defined.
  public func checkDirections(_ t: Tensor, named name: String) throws(TransportFault) {
    try unsafe Self.pass(
      pk_check_directions(nil, t.type.pk, t.shape[0], t.shape[1], t.base), name: name)
  }
  /// Checks that a cost `[N, N]` is symmetric to 1e-6 of its largest element.
  public func checkSymmetric(_ t: Tensor, named name: String) throws(TransportFault) {
    let wide = converted(t, to: .f64)
    try unsafe Self.pass(pk_check_symmetric(nil, PK_F64, t.shape.last, wide.base), name: name)
  }
  /// Checks that some plan with these weights avoids the infinite elements of a matrix.
  public func checkPairs(
    _ settings: SinkhornSettings, cost: SinkhornCost, source: [Double], target: [Double]
  ) throws(TransportFault) {
    var p = settings.problem(cost)
    let area = unsafe bytes(pk_sinkhorn_feasible_scratch(&p))
    try unsafe Self.pass(pk_check_pairs(&p, cost.first, source, target, area.base))
  }
}
