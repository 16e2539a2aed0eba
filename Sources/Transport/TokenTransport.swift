public import TensorRuntime

/// Token transport: for each pair of a text and a video and for each attention head, a plan from
/// the lexical rows of the text to all tokens of the video. Its rows are normalised, and it is
/// fused into the attention as a constant prior.
///
/// Source: PISCES (arXiv:2602.01624) section 3.2, algorithm 3, with the released code's conventions
/// (algorithm.md 4).
public struct TokenTransport: Sendable {
  public struct Options: Sendable, Equatable {
    /// Weights of the temporal and the spatial distance.
    public var gamma = 0.2, eta = 0.2
    /// Entropic regularisation, in units of the cost (scaled to [0, 1] with normalised geometry).
    public var epsilon = 0.05
    /// `.unbalanced`: the exponent of the scaling of a relaxed marginal, in (0, 1]; it counts as 1
    /// from 0.999 on. Run files call it `reward.mass`.
    public var marginalExponent = 0.9
    /// `.exactMass`: ΣP, in (0, 1].
    public var mass = 0.9
    public var maxIterations = 200
    /// On the largest change of a log-potential; with `.exactMass`, on the Frobenius change of the
    /// plan.
    public var tolerance = 1e-3
    /// With relaxed marginals, the dual's best translation after every iteration: about half as
    /// many iterations for the same rule, not the published iteration (which is the default).
    public var translation = false
    /// Whether [CLS] counts as lexical. Read by whoever marks the rows.
    public var includeCLS = false
    public var geometry = Geometry.normalised
    public var solver = Solver.unbalanced
    /// Indices of the text encoder's layers that get a prior; nil: every fusion layer.
    public var layers: [Int]?
    public init() {}

    /// The settings of the exact-mass solver in earlier releases: at most 1000 iterations,
    /// tolerance 1e-7.
    public static var exactMass: Options {
      var o = Options()
      (o.solver, o.maxIterations, o.tolerance) = (.exactMass, 1000, 1e-7)
      return o
    }
  }
  /// Coordinates in [0, 1] and a cost scaled to [0, 1]; or, as earlier releases had it, integer
  /// grid coordinates, unscaled.
  public enum Geometry: String, Sendable, CaseIterable { case normalised, legacy }
  public enum Solver: String, Sendable, CaseIterable {
    case unbalanced
    case exactMass = "exact_mass"
  }

  public enum OptionError: Error, Equatable, CustomStringConvertible {
    case notPositive(String, Double)
    case exponentOutOfRange(Double)
    case massOutOfRange(Double)
    case patchesNotSquare(Int)
    public var description: String {
      switch self {
      case .notPositive(let name, let value):
        "token transport: \(name) must be positive, not \(value)"
      case .exponentOutOfRange(let m):
        "token transport: the marginal exponent (mass) must be in (0, 1], not \(m)"
      case .massOutOfRange(let m): "token transport: mass must be in (0, 1], not \(m)"
      case .patchesNotSquare(let n): "token transport: \(n) patches a frame are not a square grid"
      }
    }
  }

  public let options: Options
  /// g: a frame has g x g patches.
  public let gridSide: Int

  /// `patchesPerFrame` = (image size / patch size)², a square number.
  public init(_ options: Options = Options(), patchesPerFrame: Int) throws(OptionError) {
    let side = Int(Double(max(patchesPerFrame, 0)).squareRoot().rounded())
    guard side > 0, side * side == patchesPerFrame else { throw .patchesNotSquare(patchesPerFrame) }
    for (name, value) in [
      ("epsilon", options.epsilon), ("tolerance", options.tolerance),
      ("max_iterations", Double(options.maxIterations)),
    ] where !(value > 0 && value.isFinite) {
      throw .notPositive(name, value)
    }
    for (name, value) in [("gamma", options.gamma), ("eta", options.eta)]
    where !(value >= 0 && value.isFinite) { throw .notPositive(name, value) }
    let exponent = options.marginalExponent
    guard exponent > 0, exponent <= 1 else { throw .exponentOutOfRange(exponent) }
    guard options.mass > 0, options.mass <= 1 else { throw .massOutOfRange(options.mass) }
    (self.options, gridSide) = (options, side)
  }

  /// Whether layer `index` gets a prior.
  public func acts(onLayer index: Int) -> Bool { options.layers.map { $0.contains(index) } ?? true }

  /// Plans for a batch of independent pairs.
  ///
  /// - Parameters: `queries` `[B, L, D]` and `keys` `[B, M, D]`, projected, before the split into
  ///   heads; `attention` `[B, heads, L, M]` after the softmax, M = 1 + frames · g²; `lexical` `[B
  ///   · L]`, nonzero marks the rows that get a plan.
  ///   All tensors of one type, f32 or f64. `details` asks for cost and raw plan.
  /// - Returns: plans `[B, heads, L, M]` of which only the lexical rows are set. Pairs without
  ///   lexical rows are skipped.
  public func plans(
    queries: Tensor, keys: Tensor, attention: Tensor, lexical: [UInt8], details: Bool = false,
    in work: borrowing Workspace
  ) -> TokenPlans {
    precondition(attention.shape.rank == 4, "attention is [B, heads, L, M], not \(attention.shape)")
    let m = attention.shape[3]
    precondition(
      m >= 1 && (m - 1) % (gridSide * gridSide) == 0,
      "\(m) video tokens are not 1 + frames of \(gridSide) x \(gridSide)")
    return TokenPlans(
      work.tokenPlans(
        settings, queries: queries, keys: keys, attention: attention, marked: lexical,
        details: details), heads: attention.shape[1])
  }
  /// Plans for finite costs `[B, heads, L, M]`, f32 or f64, taken as they are: no semantic,
  /// temporal or spatial part is computed, nothing is rescaled.
  public func plans(
    costs: Tensor, lexical: [UInt8], details: Bool = false, in work: borrowing Workspace
  ) -> TokenPlans {
    TokenPlans(
      work.tokenPlans(settings, costs: costs, marked: lexical, details: details),
      heads: costs.shape[1])
  }
  private var settings: Workspace.TokenPlanSettings {
    .init(
      gridSide: gridSide, gamma: options.gamma, eta: options.eta, epsilon: options.epsilon,
      marginalExponent: options.marginalExponent, mass: options.mass,
      tolerance: options.tolerance, maxIterations: options.maxIterations,
      legacyGeometry: options.geometry == .legacy,
      exactMass: options.solver == .exactMass,
      translation: options.translation)
  }
}

/// Plans of a batch and how they were reached. Per pair and head: element b · heads + h.
public struct TokenPlans: Sendable {
  /// P* `[B, heads, L, M]`, rows summing to 1; only lexical rows are set.
  public let plan: Tensor
  public let heads: Int
  /// Iterations done; 0 for a pair without lexical rows. Equal to the limit when the last change
  /// was not below the tolerance.
  public let iterations: [Int]
  /// The last change that the stopping rule saw.
  public let delta: [Double]
  /// ΣP before row normalisation (with relaxed marginals it is not the exponent).
  public let mass: [Double]
  /// Cost C and P before row normalisation `[B, heads, L, M]`, zero outside lexical rows; nil
  /// unless asked for.
  public let cost, raw: Tensor?

  fileprivate init(_ r: Workspace.TokenPlanResult, heads: Int) {
    (plan, self.heads, iterations, delta, mass, cost, raw) = (
      r.plan, heads, r.iterations, r.delta, r.mass, r.cost, r.raw
    )
  }
}
