public import TensorRuntime

extension EntropicTransport {
  /// Solves a batch `[H, N, M]`; weights `[N]`, `[M]` shared or `[H, N]`, `[H, M]` per item.
  /// `start`: log u `[H, N]` and log v `[H, M]` to start from.
  public func solveBatch(
    cost: Tensor, source: Tensor? = nil, target: Tensor? = nil,
    start: (logU: [Double], logV: [Double])? = nil, wantsPlan: Bool = true,
    progress: (@Sendable (_ iterations: Int, _ residual: Double) -> Bool)? = nil,
    in work: borrowing Workspace
  ) throws(TransportError) -> [SinkhornResult] {
    guard cost.shape.rank == 3, cost.shape[0] > 0, cost.shape[1] > 0, cost.shape[2] > 0 else {
      throw .costShape(cost.shape.dims)
    }
    let (h, n, m) = (cost.shape[0], cost.shape[1], cost.shape[2])
    let shared = try settings()
    let whole = try TransportCosts(
      .matrix(cost.reshaped(Shape(h * n, m))), as: precision, in: work)
    guard case .matrix(let stored) = whole.cost else { preconditionFailure() }
    let costs = stored.reshaped(cost.shape)
    let problems = try problems(
      shared, costs, try Self.items("source weights", source, h, n),
      try Self.items("target weights", target, h, m))
    for p in problems where whole.hasForbidden {
      try checkPairs(p.settings, p.costs, p.weights, in: work)
    }
    try Self.check(start: start, h * n, h * m)
    let first = problems[0].weights
    func isShared(_ side: (TransportWeights) -> [Double]) -> Bool {
      problems.allSatisfy { side($0.weights) == side(first) }
    }
    let solutions = work.sinkhornBatch(
      problems[0].settings, cost: costs,
      source: isShared(\.source) ? first.source : problems.flatMap(\.weights.source),
      target: isShared(\.target) ? first.target : problems.flatMap(\.weights.target),
      start: start.map { (a: $0.logU, b: $0.logV) }, wantsPlan: wantsPlan, progress: progress)
    return zip(problems, solutions).map { SinkhornResult($0, $1) }
  }

  /// One problem an item; one set of weights may serve all items.
  private func problems(
    _ settings: Workspace.SinkhornSettings, _ costs: Tensor,
    _ sources: [(values: [Double], sum: Double)], _ targets: [(values: [Double], sum: Double)]
  ) throws(TransportError) -> [SinkhornResult.Problem] {
    var problems: [SinkhornResult.Problem] = []
    for k in 0..<costs.shape[0] {
      var own = settings
      let weights = try TransportWeights(
        sources[min(k, sources.count - 1)], targets[min(k, targets.count - 1)], rule: rule,
        settings: &own)
      problems.append(
        .init(solver: self, settings: own, costs: .matrix(costs[row: k]), weights: weights))
    }
    return problems
  }
  private static func items(
    _ name: String, _ w: Tensor?, _ items: Int, _ count: Int
  ) throws(TransportError) -> [(values: [Double], sum: Double)] {
    guard let w, w.shape.rank == 2 else { return [try TransportWeights.read(name, w, count)] }
    guard w.shape[0] == items else {
      throw .weightShape(name: name, found: w.shape.dims, expected: [items, count])
    }
    var rows: [(values: [Double], sum: Double)] = []
    for k in 0..<items { rows.append(try TransportWeights.read(name, w[row: k], count)) }
    return rows
  }
}
