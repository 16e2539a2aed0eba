import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

/// Every transport family against its plain reference (Reference), in both types and on every
/// instruction set. A failure names the family.
extension TransportSuite {
  @Suite struct ReferenceTests {
    /// Of f32: sums of products of entries that are good to 1e-7, over potentials up to C / ε = 20.
    static func tolerance(_ type: ElementType) -> Double { type == .f64 ? 1e-9 : 2e-5 }
    static let types = [ElementType.f64, .f32]

    static func rows(_ t: Tensor) -> Reference.Matrix {
      (0..<t.shape[0]).map { t[row: $0].doubles }
    }
    static func relativeError(_ plan: Tensor, _ expected: Reference.Matrix) -> Double {
      let e = expected.flatMap { $0 }
      return largestDifference(plan.doubles, e) / e.max()!
    }
    static let problem = (
      cost: uniform(Shape(13, 21), seed: 81), a: simplex(13, seed: 82), b: simplex(21, seed: 83)
    )
    static let epsilon = 0.05

    func check(
      _ family: String, _ rule: MarginalRule, _ source: Reference.Side, _ target: Reference.Side,
      mass: Double = 0, iterations: Int = 3000
    ) throws {
      let (c, a, b) = Self.problem
      let expected = Reference.plan(
        Self.rows(c), a.doubles, b.doubles, epsilon: Self.epsilon, source, target, mass: mass,
        iterations: iterations)
      for type in Self.types {
        let solver = EntropicTransport(
          rule, epsilon: Self.epsilon, tolerance: type == .f64 ? 1e-11 : 1e-6, precision: type)
        for r in try withEachInstructionSet({
          try solver.solve(cost: c, source: a, target: b, in: Workspace())
        }) {
          let error = Self.relativeError(r.plan, expected)
          #expect(error < Self.tolerance(type), "dense, \(family), \(type): \(error)")
          let cost = zip(expected.flatMap { $0 }, c.doubles).reduce(0) { $0 + $1.0 * $1.1 }
          #expect(
            abs(r.cost - cost) < Self.tolerance(type), "dense, \(family), \(type): cost \(r.cost)")
        }
      }
    }

    @Test func denseBalanced() throws { try check("balanced", .balanced, .hard, .hard) }
    @Test func denseUnbalanced() throws {
      try check(
        "unbalanced", .unbalanced(rhoSource: 0.3, rhoTarget: 2), .relaxed(rho: 0.3),
        .relaxed(rho: 2))
      try check(
        "unbalanced, one side hard", .unbalanced(rhoSource: .infinity, rhoTarget: 0.5), .hard,
        .relaxed(rho: 0.5))
    }
    @Test func denseRelaxed() throws {
      let rho = Self.epsilon * 0.9 / 0.1
      try check("relaxed", .relaxed(exponent: 0.9), .relaxed(rho: rho), .relaxed(rho: rho))
    }
    @Test func denseExactMass() throws {
      try check("exact mass", .exactMass(0.6), .capped, .capped, mass: 0.6)
    }

    /// Cost, plan of the potentials and projection between points.
    @Test(
      arguments: zip(
        [Workspace.SinkhornMetric.squaredEuclidean, .euclidean, .cosine],
        [Reference.Metric.squared, .euclidean, .cosine]))
    func points(_ metric: Workspace.SinkhornMetric, _ plain: Reference.Metric) throws {
      let (x, y) = (uniform(Shape(13, 11), seed: 84), uniform(Shape(21, 11), seed: 85))
      let (a, b) = (Self.problem.a, Self.problem.b)
      let (rows, columns) = (Self.rows(x), Self.rows(y))
      let costs = Reference.costs(rows, columns, plain, scale: 1.5)
      let plan = Reference.plan(
        costs, a.doubles, b.doubles, epsilon: 0.1, .hard, .hard, iterations: 2000)
      let cost = zip(plan, costs).reduce(0) { $0 + zip($1.0, $1.1).reduce(0) { $0 + $1.0 * $1.1 } }
      for type in Self.types {
        let solver = EntropicTransport(
          .balanced, epsilon: 0.1, tolerance: type == .f64 ? 1e-11 : 1e-6, precision: type)
        for r in try withEachInstructionSet({
          try solver.solve(
            .points(x, y, metric, scale: 1.5), source: a, target: b, in: Workspace())
        }) {
          #expect(abs(r.cost - cost) < Self.tolerance(type), "points, \(metric), \(type): cost")
          let (u, v) = (r.logU.doubles, r.logV.doubles)
          var worst = 0.0
          for i in 0..<13 {
            for j in 0..<21 {
              worst = max(worst, abs(exp(u[i] + v[j] - costs[i][j] / 0.1) - plan[i][j]))
            }
          }
          #expect(worst < Self.tolerance(type), "points, \(metric), \(type): plan \(worst)")
        }
      }
    }

    static func tokens() -> (q: Tensor, k: Tensor, a: Tensor, side: Int) {
      // 19 tokens are no multiple of any register tile
      let (rows, side) = (5, 3)
      let m = 1 + 2 * side * side
      let attention = Workspace().softmax(randomTensor(Shape(1, 1, rows, m), seed: 86, scale: 2))
      return (
        randomTensor(Shape(1, rows, 7), seed: 87), randomTensor(Shape(1, m, 7), seed: 88),
        attention, side
      )
    }
    func tokenPlans(_ o: TokenTransport.Options, _ type: ElementType) throws -> [TokenPlans] {
      let (q, k, a, side) = Self.tokens()
      let work = Workspace()
      let (qt, kt, at) = (
        work.converted(q, to: type), work.converted(k, to: type), work.converted(a, to: type)
      )
      return try withEachInstructionSet {
        try TokenTransport(o, patchesPerFrame: side * side).plans(
          queries: qt, keys: kt, attention: at, lexical: [1, 1, 1, 1, 1], details: true,
          in: Workspace())
      }
    }
    static func tokenReference(_ o: TokenTransport.Options, iterations: Int) -> (
      cost: Reference.Matrix, plan: Reference.Matrix
    ) {
      let (q, k, a, side) = tokens()
      let cost = Reference.tokenCosts(
        queries: rows(q[row: 0]), keys: rows(k[row: 0]), attention: rows(a[row: 0][row: 0]),
        side: side, gamma: o.gamma, eta: o.eta)
      if o.solver == .exactMass {
        let (n, m) = (cost.count, cost[0].count)
        let plan = Reference.plan(
          cost, Array(repeating: 1 / Double(n), count: n),
          Array(repeating: 1 / Double(m), count: m), epsilon: o.epsilon, .capped, .capped,
          mass: o.mass, iterations: iterations)
        return (cost, plan)
      }
      return (
        cost,
        Reference.tokenPlan(
          cost, epsilon: o.epsilon, exponent: o.marginalExponent, iterations: iterations)
      )
    }
    func checkTokens(_ family: String, _ o: TokenTransport.Options, _ scale: Double = 1) throws {
      for type in Self.types {
        for r in try tokenPlans(o, type) {
          let expected = Self.tokenReference(
            o, iterations: o.tolerance < 1e-5 ? 4000 : r.iterations[0])
          let cost = Self.relativeError(r.cost!, expected.cost)
          #expect(cost < Self.tolerance(type), "tokens, cost, \(type): \(cost)")
          let plan = Self.relativeError(r.raw!, expected.plan)
          #expect(
            plan < scale * 5 * Self.tolerance(type), "tokens, \(family), \(type): plan \(plan)")
          let sums = Self.rows(r.plan.reshaped(Shape(5, 19))).map { $0.reduce(0, +) }
          #expect(sums.allSatisfy { abs($0 - 1) < 1e-5 }, "tokens, \(family), \(type): \(sums)")
        }
      }
    }

    /// After the same number of iterations.
    @Test func tokensScaled() throws { try checkTokens("scaling", .init()) }
    @Test func tokensInTheLogDomain() throws {
      var o = TokenTransport.Options()
      o.epsilon = 0.012
      // C / ε up to 83 magnifies the rounding of f32 costs
      try checkTokens("log domain", o, 20)
    }
    /// At the fixed point: the translation changes the way there, not the plan.
    @Test(arguments: [0.05, 0.012]) func tokensTranslated(_ epsilon: Double) throws {
      var o = TokenTransport.Options()
      (o.epsilon, o.tolerance, o.maxIterations, o.translation) = (epsilon, 2e-6, 4000, true)
      try checkTokens("translation", o, 200)
    }
    @Test(arguments: [0.05, 0.015]) func tokensOfExactMass(_ epsilon: Double) throws {
      var o = TokenTransport.Options.exactMass
      (o.epsilon, o.maxIterations, o.tolerance) = (epsilon, 4000, 1e-9)
      try checkTokens("exact mass", o, 200)
    }

    @Test func barycenter() throws {
      let c = uniform(Shape(12, 9), seed: 89)
      let b = Tensor(
        simplex(12, seed: 90).doubles + simplex(12, seed: 91).doubles, Shape(2, 12))
      let expected = Reference.barycenter(
        Self.rows(b), Self.rows(c), weights: [0.3, 0.7], epsilon: 0.05, iterations: 3000)
      for r in try withEachInstructionSet({
        try Barycenter(epsilon: 0.05, tolerance: 1e-11).solve(
          histograms: b, cost: c, weights: Tensor([0.3, 0.7], Shape(2)), in: Workspace())
      }) {
        #expect(largestDifference(r.barycenter.doubles, expected) < 1e-9, "barycenter")
      }
    }

    /// The best of all permutations.
    @Test func exactTransport() throws {
      let c = uniform(Shape(4, 4), seed: 92)
      let x = c.doubles
      func permutations(_ rest: [Int]) -> [[Int]] {
        rest.isEmpty
          ? [[]] : rest.flatMap { k in permutations(rest.filter { $0 != k }).map { [k] + $0 } }
      }
      let best = permutations([0, 1, 2, 3]).map { order in
        (0..<4).reduce(0) { $0 + x[$1 * 4 + order[$1]] / 4 }
      }.min()!
      let r = try ExactTransport().solve(cost: c)
      #expect(abs(r.cost - best) < 1e-12, "exact: \(r.cost), \(best)")
    }
  }
}
