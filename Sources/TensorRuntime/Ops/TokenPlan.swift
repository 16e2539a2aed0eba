internal import CKernels

/// Token-level transport plans: `pk_token_plan.h`.
extension Workspace {
  /// Parameters of a token plan; `pk_token_plan.h` says what each means.
  public struct TokenPlanSettings: Sendable {
    public var gridSide: Int
    public var gamma, eta, epsilon, marginalExponent, mass, tolerance: Double
    public var maxIterations: Int
    public var legacyGeometry, exactMass, translation: Bool
    public init(
      gridSide: Int, gamma: Double, eta: Double, epsilon: Double, marginalExponent: Double,
      mass: Double, tolerance: Double,
      maxIterations: Int, legacyGeometry: Bool, exactMass: Bool, translation: Bool = false
    ) {
      (self.gridSide, self.gamma, self.eta, self.epsilon) = (gridSide, gamma, eta, epsilon)
      (self.marginalExponent, self.mass) = (marginalExponent, mass)
      (self.tolerance, self.maxIterations, self.legacyGeometry, self.exactMass, self.translation) =
        (tolerance, maxIterations, legacyGeometry, exactMass, translation)
    }
  }
  /// Plans `[B, heads, L, M]`, set only in marked rows. The other values are for each pair and
  /// head, `[B * heads]`.
  public struct TokenPlanResult: Sendable {
    public let plan: Tensor
    public let iterations: [Int]
    public let delta, mass: [Double]
    /// Cost and plan before row normalisation, if asked for.
    public let cost, raw: Tensor?
  }

  /// attention `[B, heads, L, M]`; queries `[B, L, D]`, keys `[B, M, D]`. Row i of pair b gets a
  /// plan if `marked[b * L + i]` is not zero.
  public func tokenPlans(
    _ settings: TokenPlanSettings, queries: Tensor, keys: Tensor, attention: Tensor,
    marked: [UInt8], details: Bool
  ) -> TokenPlanResult {
    let (b, l, m) = (attention.shape[0], attention.shape[2], attention.shape[3])
    let (type, width) = (attention.type, queries.shape.last)
    precondition(
      queries.shape == Shape(b, l, width) && keys.shape == Shape(b, m, width)
        && marked.count == b * l && queries.type == type && keys.type == type,
      """
      token plans: queries \(queries.shape), keys \(keys.shape), attention \(attention.shape), \
      \(marked.count) marks
      """
    )
    return tokenPlans(
      settings, features: (queries, keys), attention, marked: marked, details: details)
  }
  /// The same from given finite costs `[B, heads, L, M]`.
  public func tokenPlans(
    _ settings: TokenPlanSettings, costs: Tensor, marked: [UInt8], details: Bool
  ) -> TokenPlanResult {
    precondition(
      marked.count == costs.shape[0] * costs.shape[2],
      "token plans: costs \(costs.shape), \(marked.count) marks")
    return tokenPlans(settings, features: nil, costs, marked: marked, details: details)
  }
  private func tokenPlans(
    _ settings: TokenPlanSettings, features: (queries: Tensor, keys: Tensor)?, _ attention: Tensor,
    marked: [UInt8], details: Bool
  ) -> TokenPlanResult {
    let (b, h, l, m) = (
      attention.shape[0], attention.shape[1], attention.shape[2], attention.shape[3]
    )
    let type = attention.type
    var starts: [Int32] = [0]
    var rowOf: [Int32] = []
    var ids: [Int32] = []
    for p in 0..<b {
      for i in 0..<l where marked[p * l + i] != 0 {
        rowOf.append(Int32(i))
        ids.append(Int32(p * l + i))
      }
      starts.append(Int32(rowOf.count))
    }
    let tokens = rowOf.count
    let plan = tensor(attention.shape, type)
    let cost = details ? zeros(attention.shape, type) : nil
    let raw = details ? zeros(attention.shape, type) : nil
    var iterations = [Int32](repeating: 0, count: b * h)
    var delta = [Double](repeating: 0, count: b * h)
    var total = delta
    if tokens > 0 {
      let semantic = features.map { f in
        semanticCost(
          rows: gather(f.queries.reshaped(Shape(b * l, f.queries.shape.last)), ids), keys: f.keys,
          starts: starts)
      }
      var s = unsafe pk_token_shape(
        pairs: b, heads: h, rows: l, columns: m, side: settings.gridSide, starts: nil, row_of: nil,
        gamma: settings.gamma, eta: settings.eta,
        epsilon: settings.epsilon, marginal_exponent: settings.marginalExponent,
        mass: settings.mass, tolerance: settings.tolerance,
        max_iterations: settings.maxIterations,
        legacy: settings.legacyGeometry ? 1 : 0, exact_mass: settings.exactMass ? 1 : 0,
        translation: settings.translation ? 1 : 0)
      unsafe starts.withUnsafeBufferPointer { start in
        unsafe rowOf.withUnsafeBufferPointer { row in
          unsafe (s.starts, s.row_of) = (start.baseAddress, row.baseAddress)
          let area = unsafe scratch(pk_token_plan_scratch(&s), type)
          unsafe check(
            pk_token_plan(
              type.pk, &s, attention.base, semantic?.base, plan.base, cost?.base, raw?.base,
              &iterations, &delta, &total, area.base), "token plans")
        }
      }
    }
    return TokenPlanResult(
      plan: plan, iterations: iterations.map { Int($0) }, delta: delta, mass: total, cost: cost,
      raw: raw)
  }

  /// 1 - cos between the marked queries and every key of their pair, `[tokens, M]`.
  private func semanticCost(rows: Tensor, keys: Tensor, starts: [Int32]) -> Tensor {
    let (b, m, width, type) = (keys.shape[0], keys.shape[1], keys.shape[2], keys.type)
    let tokens = rows.shape[0]
    let y = tensor(Shape(tokens, m), type)
    let units = tensor(Shape(tokens, width), type)
    let size = type.byteCount
    for p in 0..<b {
      let (lo, n) = (Int(starts[p]), Int(starts[p + 1] - starts[p]))
      if n == 0 { continue }
      unsafe check(
        pk_cosine_cost(
          type.pk, n, m, width, rows.base + lo * width * size, keys.base + p * m * width * size,
          y.base + lo * m * size, units.base))
    }
    return y
  }
}
