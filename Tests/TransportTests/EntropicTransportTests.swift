import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  @Suite struct EntropicTransportTests {
    func solve(
      _ rule: MarginalRule, _ epsilon: Double, _ cost: Tensor, _ a: Tensor? = nil,
      _ b: Tensor? = nil, tolerance: Double = 1e-12
    ) throws -> SinkhornResult {
      try EntropicTransport(rule, epsilon: epsilon, tolerance: tolerance).solve(
        cost: cost, source: a, target: b, in: Workspace())
    }
    func sums(_ p: Tensor) -> (rows: [Double], columns: [Double]) {
      let (n, m) = (p.shape[0], p.shape[1])
      let x = p.doubles
      return (
        (0..<n).map { i in (0..<m).reduce(0) { $0 + x[i * m + $1] } },
        (0..<m).map { j in (0..<n).reduce(0) { $0 + x[$1 * m + j] } }
      )
    }
    static let rules: [MarginalRule] = [
      .balanced, .unbalanced(rhoSource: 0.3, rhoTarget: 2),
      .unbalanced(rhoSource: .infinity, rhoTarget: 0.5), .relaxed(exponent: 0.9), .exactMass(0.6),
    ]

    /// Newton steps keep within the limit too; an iteration by logarithms, two passes, may still be
    /// finished (`pk_sinkhorn.h`).
    @Test func limitOnPasses() throws {
      let c = uniform(Shape(60, 60), seed: 31)
      for rule in Self.rules {
        for limit in [30, 61, 97, 150] {
          let r = try EntropicTransport(rule, epsilon: 2e-3, tolerance: 1e-13, maxIterations: limit)
            .solve(cost: c, in: Workspace())
          #expect(r.iterations <= limit + 2, "\(rule), \(limit): \(r.iterations)")
        }
      }
    }

    // MARK: closed forms

    @Test func diracs() throws {
      for rule in [MarginalRule.balanced, .exactMass(1)] {
        let r = try solve(rule, 0.1, Tensor([3.5], Shape(1, 1)))
        #expect(r.status == .converged && abs(r.plan.item - 1) < 1e-12 && abs(r.cost - 3.5) < 1e-12)
      }
      // min over p of p c + eps p (log p - 1) + 2 rho (p log p - p + 1): log p = -c / (eps + 2 rho)
      let r = try solve(
        .unbalanced(rhoSource: 0.5, rhoTarget: 0.5), 0.1, Tensor([3.5], Shape(1, 1)))
      #expect(abs(r.plan.item - exp(-3.5 / 1.1)) < 1e-12)
    }
    @Test func oneRow() throws {
      let b = simplex(7, seed: 3)
      let r = try solve(.balanced, 0.05, uniform(Shape(1, 7), seed: 4), nil, b)
      #expect(largestDifference(r.plan.doubles, b.doubles) < 1e-12)
    }
    /// A cost that is 0 on a permutation and at least 1 elsewhere: at small epsilon the plan is the
    /// permutation / n.
    @Test(arguments: [1e-2, 1e-4, 1e-6]) func permutation(_ epsilon: Double) throws {
      let n = 24
      var stream = RandomStream(seed: 5, .test)
      let order = stream.permutation(n)
      let c = (0..<n * n).map { order[$0 / n] == $0 % n ? 0 : 1 + stream.uniform() }
      let r = try solve(.balanced, epsilon, Tensor(c, Shape(n, n)))
      let expected = (0..<n * n).map { order[$0 / n] == $0 % n ? 1 / Double(n) : 0 }
      #expect(r.status == .converged)
      #expect(largestDifference(r.plan.doubles, expected) < 1e-12)
    }
    /// Sorted points on a line with a convex cost: the monotone plan; its cost is approached within
    /// eps log(n m).
    @Test(arguments: [1e-3, 1e-5]) func line(_ epsilon: Double) throws {
      let n = 20
      var stream = RandomStream(seed: 6, .test)
      let x = (0..<n).map { _ in stream.uniform() }.sorted()
      let y = (0..<n).map { _ in 0.3 + stream.uniform() }.sorted()
      let c = (0..<n * n).map { pow(x[$0 / n] - y[$0 % n], 2) }
      let r = try solve(.balanced, epsilon, Tensor(c, Shape(n, n)), tolerance: 1e-9)
      let exact = zip(x, y).reduce(0) { $0 + pow($1.0 - $1.1, 2) } / Double(n)
      #expect(r.status == .converged)
      #expect(r.marginalErrorL1 < 1e-8)
      #expect(r.cost - exact > -1e-9 && r.cost - exact < epsilon * 2 * log(Double(n)))
    }
    /// algorithm.md 14.1: not every cap is reached.
    @Test func exactMassVector() throws {
      let r = try solve(
        .exactMass(0.1), 1, Tensor([0.0, 1, 2, 3], Shape(2, 2)), Tensor([0.1, 0.2], Shape(2)),
        Tensor([0.1, 0.1], Shape(2)))
      #expect(
        largestDifference(r.plan.doubles, [0.06439143, 0.02368828, 0.00871443, 0.00320586]) < 1e-8)
    }

    /// Between Gaussians on a line with cost (x - y)² the plan is Gaussian, of covariance √(s²t² +
    /// ε²/16) - ε/4 (Janati et al. 2020, arXiv:2006.02572), and so the projection is a line of that
    /// slope over s². On a grid this fine the sums are the integrals to many digits.
    @Test(arguments: [2.0, 0.5, 0.1]) func gaussians(_ epsilon: Double) throws {
      let n = 401
      let (s, t) = (0.8, 1.3)
      let work = Workspace()
      let grid = (0..<n).map { -10 + 20 * Double($0) / Double(n - 1) }
      let x = Tensor(grid, Shape(n, 1))
      func density(_ sd: Double) -> Tensor {
        Tensor(grid.map { exp(-$0 * $0 / (2 * sd * sd)) }, Shape(n))
      }
      let solver = EntropicTransport(.balanced, epsilon: epsilon, tolerance: 1e-11)
      let costs = Tensor((0..<n * n).map { pow(grid[$0 / n] - grid[$0 % n], 2) }, Shape(n, n))
      let r = try solver.solve(cost: costs, source: density(s), target: density(t), in: work)
      let p = r.plan.doubles
      let expected = (s * s * t * t + epsilon * epsilon / 16).squareRoot() - epsilon / 4
      let covariance = (0..<n * n).reduce(0) { $0 + p[$1] * grid[$1 / n] * grid[$1 % n] }
      #expect(
        r.status == .converged && abs(covariance - expected) < 1e-8, "\(covariance), \(expected)")
      #expect(abs(r.cost - (s * s + t * t - 2 * expected)) < 1e-8)
      let points = try solver.solve(
        .points(x, x, .squaredEuclidean, scale: 1), source: density(s), target: density(t), in: work
      )
      let moved = points.projection(in: work).doubles
      for i in stride(from: 160, to: 241, by: 10) {
        #expect(abs(moved[i] - grid[i] * expected / (s * s)) < 1e-7)
      }
    }

    // MARK: optimality and properties

    @Test(arguments: 0..<5, [Shape(9, 14), Shape(17, 8), Shape(1, 5), Shape(6, 1)]) func optimality(
      _ rule: Int, _ shape: Shape
    ) throws {
      for epsilon in [10, 0.5, 0.05, 0.005] {
        let r = try solve(
          Self.rules[rule], epsilon, uniform(shape, seed: 7), simplex(shape[0], seed: 8),
          simplex(shape[1], seed: 9))
        #expect(
          r.status == .converged,
          "\(Self.rules[rule]) \(shape) \(epsilon): \(r.status) \(r.residual)")
        #expect(r.marginalErrorL1 < 1e-10 && r.marginalErrorLinf <= r.marginalErrorL1)
        #expect(abs(r.objective - r.dual) < 1e-9 * (1 + abs(r.objective)))
        #expect(abs(r.plan.doubles.reduce(0, +) - r.mass) < 1e-12)
        let (u, v, c) = (r.logU.doubles, r.logV.doubles, uniform(shape, seed: 7).doubles)
        let p = (0..<shape.count).map { exp(u[$0 / shape[1]] + v[$0 % shape[1]] - c[$0] / epsilon) }
        #expect(largestDifference(p, r.plan.doubles) < 1e-12)
      }
    }
    @Test func potentialsAreNormalised() throws {
      let (a, b) = (simplex(9, seed: 8), simplex(14, seed: 9))
      let r = try solve(.balanced, 0.05, uniform(Shape(9, 14), seed: 7), a, b)
      #expect(abs(dot(a.doubles, r.logU.doubles) - dot(b.doubles, r.logV.doubles)) < 1e-12)
    }
    @Test func exactMassKeepsCapsAndMass() throws {
      for (mass, epsilon) in [(0.05, 0.1), (0.6, 0.01), (0.6, 1e-3), (0.999, 0.02), (1.0, 0.05)] {
        let (a, b) = (simplex(15, seed: 10), simplex(11, seed: 11))
        let r = try solve(
          .exactMass(mass), epsilon, uniform(Shape(15, 11), seed: 12), a, b, tolerance: 1e-10)
        let s = sums(r.plan)
        #expect(
          r.status == .converged,
          "mass \(mass), epsilon \(epsilon): \(r.status) after \(r.iterations), \(r.residual)")
        #expect(abs(r.mass - mass) < 1e-9)
        for (x, cap) in zip(s.rows, a.doubles) { #expect(x <= cap + 1e-9) }
        for (x, cap) in zip(s.columns, b.doubles) { #expect(x <= cap + 1e-9) }
      }
    }
    @Test(arguments: 0..<5) func transposing(_ rule: Int) throws {
      let c = uniform(Shape(9, 14), seed: 7)
      let (a, b) = (simplex(9, seed: 8), simplex(14, seed: 9))
      let work = Workspace()
      var mirrored = Self.rules[rule]
      if case .unbalanced(let s, let t) = mirrored {
        mirrored = .unbalanced(rhoSource: t, rhoTarget: s)
      }
      let r = try solve(Self.rules[rule], 0.05, c, a, b)
      let t = try solve(mirrored, 0.05, work.permuted(c, [1, 0]), b, a)
      #expect(largestDifference(r.plan.doubles, work.permuted(t.plan, [1, 0]).doubles) < 1e-10)
    }
    @Test(arguments: 0..<5) func permutingRows(_ rule: Int) throws {
      let c = uniform(Shape(9, 14), seed: 7)
      let (a, b) = (simplex(9, seed: 8), simplex(14, seed: 9))
      let work = Workspace()
      var stream = RandomStream(seed: 1, .test)
      let order = stream.permutation(9)
      let pc = work.stacked(order.map { c[row: $0] })
      let pa = Tensor(order.map { a.doubles[$0] }, Shape(9))
      let r = try solve(Self.rules[rule], 0.05, c, a, b)
      let t = try solve(Self.rules[rule], 0.05, pc, pa, b)
      #expect(
        largestDifference(work.stacked(order.map { r.plan[row: $0] }).doubles, t.plan.doubles)
          < 1e-10)
    }
    /// With a fixed total mass, a constant on the cost moves the value only.
    @Test func shiftingTheCost() throws {
      let c = uniform(Shape(9, 14), seed: 7)
      let shifted = Tensor(c.doubles.map { $0 - 40 }, c.shape)
      for rule in [MarginalRule.balanced, .exactMass(0.6)] {
        let r = try solve(rule, 0.05, c)
        let t = try solve(rule, 0.05, shifted)
        #expect(largestDifference(r.plan.doubles, t.plan.doubles) < 1e-10)
        #expect(abs(t.cost - (r.cost - 40 * r.mass)) < 1e-9)
      }
    }
    /// Zero weights: exactly zero rows and columns, the rest as if they were not there.
    @Test(arguments: 0..<5) func zeroWeights(_ rule: Int) throws {
      let c = uniform(Shape(6, 5), seed: 13)
      var (a, b) = (simplex(6, seed: 14).doubles, simplex(5, seed: 15).doubles)
      (a[2], b[0], b[4]) = (0, 0, 0)
      if case .unbalanced(let s, _) = Self.rules[rule], s.isInfinite {
        b = b.map { $0 / b.reduce(0, +) }
      }
      let mass =
        Self.rules[rule] == .exactMass(0.6) ? MarginalRule.exactMass(0.4) : Self.rules[rule]
      let r = try solve(mass, 0.05, c, Tensor(a, Shape(6)), Tensor(b, Shape(5)))
      let rows = [0, 1, 3, 4, 5]
      let columns = [1, 2, 3]
      let small = try solve(
        mass, 0.05,
        Tensor(rows.flatMap { i in columns.map { c.doubles[i * 5 + $0] } }, Shape(5, 3)),
        Tensor(rows.map { a[$0] }, Shape(5)), Tensor(columns.map { b[$0] }, Shape(3)))
      #expect(r.status == .converged)
      #expect(
        largestDifference(
          rows.flatMap { i in columns.map { r.plan.doubles[i * 5 + $0] } }, small.plan.doubles)
          < 1e-11)
      #expect(
        (0..<5).allSatisfy { r.plan.doubles[10 + $0] == 0 }
          && (0..<6).allSatisfy { r.plan.doubles[$0 * 5] == 0 && r.plan.doubles[$0 * 5 + 4] == 0 })
      #expect(r.logU.doubles[2] == -.infinity && r.logV.doubles[0] == -.infinity)
    }
    /// Both signs of the range: from 1e-6 to 10 times the largest cost.
    @Test(arguments: 0..<5) func rangeOfEpsilon(_ rule: Int) throws {
      for epsilon in [10, 1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6] {
        // strengths in proportion, so that the mass stays away from 0
        let r = try solve(
          Self.rules[rule], epsilon, uniform(Shape(12, 12), seed: 16), tolerance: 1e-8)
        #expect(
          r.status == .converged,
          """
          \(Self.rules[rule]) \(epsilon): \(r.status) after \(r.iterations), residual \(r.residual)
          """
        )
        #expect(r.plan.doubles.allSatisfy { $0.isFinite })
        #expect(r.marginalErrorL1 < 1e-6)
      }
    }
    @Test func notConvergingIsReported() throws {
      let r = try EntropicTransport(.balanced, epsilon: 1e-3, maxIterations: 5).solve(
        cost: uniform(Shape(20, 20), seed: 17), in: Workspace())
      #expect(r.status == .maxIterations && r.marginalErrorL1 > 1e-6 && r.iterations < 60)
    }
    @Test func relaxedIsTheExponent() throws {
      let c = uniform(Shape(9, 14), seed: 7)
      let r = try solve(.relaxed(exponent: 0.9), 0.05, c)
      let u = try solve(.unbalanced(rhoSource: 0.45, rhoTarget: 0.45), 0.05, c)
      #expect(largestDifference(r.plan.doubles, u.plan.doubles) < 1e-11)
      #expect(
        try solve(.relaxed(exponent: 0.9995), 0.05, c).plan.doubles
          == solve(.unbalanced(rhoSource: .infinity, rhoTarget: .infinity), 0.05, c).plan.doubles)
    }

    /// Tolerance 0 runs exactly so many iterations, those of the textbook.
    @Test func fixedIterations() throws {
      let c = uniform(Shape(9, 14), seed: 7)
      let (a, b) = (simplex(9, seed: 8).doubles, simplex(14, seed: 9).doubles)
      let k = c.doubles.map { exp(-$0 / 0.1) }
      var (u, v) = (Array(repeating: 1.0, count: 9), Array(repeating: 1.0, count: 14))
      for _ in 0..<7 {
        for i in 0..<9 { u[i] = a[i] / dot(Array(k[i * 14..<(i + 1) * 14]), v) }
        for j in 0..<14 { v[j] = b[j] / dot((0..<9).map { k[$0 * 14 + j] }, u) }
      }
      let r = try EntropicTransport(.balanced, epsilon: 0.1, tolerance: 0, maxIterations: 7).solve(
        cost: c, source: Tensor(a, Shape(9)), target: Tensor(b, Shape(14)), in: Workspace())
      #expect(r.status == .maxIterations && r.iterations == 7)
      let expected: [Double] = (0..<126).map { u[$0 / 14] * k[$0] * v[$0 % 14] }
      #expect(largestDifference(r.plan.doubles, expected) < 1e-14)
    }
    /// From the solution's own potentials a solve ends at once, from a neighbour's sooner than from
    /// nothing.
    @Test func warmStart() throws {
      let work = Workspace()
      let c = uniform(Shape(60, 70), seed: 7)
      let near = Tensor(
        zip(c.doubles, uniform(c.shape, seed: 8).doubles).map { $0 + 1e-4 * $1 }, c.shape)
      let solver = EntropicTransport(.balanced, epsilon: 0.005, tolerance: 1e-9)
      let cold = try solver.solve(cost: c, in: work)
      let again = try solver.solve(
        .matrix(c), start: (cold.logU.doubles, cold.logV.doubles), in: work)
      let moved = try solver.solve(
        .matrix(near), start: (cold.logU.doubles, cold.logV.doubles), in: work)
      #expect(
        again.status == .converged && again.iterations <= 3 && moved.status == .converged
          && moved.iterations < cold.iterations)
      #expect(throws: TransportError.startShape([2, 70], [60, 70])) {
        try solver.solve(.matrix(c), start: ([0, 0], cold.logV.doubles), in: work)
      }
    }
    /// Progress is told after every iteration, and can stop a solve, which then says so.
    @Test func progress() throws {
      var told: [Double] = []
      let r = try EntropicTransport(.balanced, epsilon: 0.001, tolerance: 1e-12).solve(
        .matrix(uniform(Shape(30, 30), seed: 1)),
        progress: { _, residual in
          told.append(residual)
          return told.count < 5
        }, in: Workspace())
      #expect(
        r.status == .interrupted && told.count == 5 && r.plan.doubles.allSatisfy { $0.isFinite })
    }

    // MARK: bits

    @Test(arguments: 0..<5) func threadsAndInstructionSetsDoNotChangeTheBits(_ rule: Int) throws {
      let c = uniform(Shape(130, 141), seed: 18)
      func plan() throws -> [Double] {
        try solve(Self.rules[rule], 0.02, c, tolerance: 1e-8).plan.doubles
      }
      let first = try plan()
      for r in try withThreadCounts(plan) + withEachInstructionSet(plan) { #expect(r == first) }
    }
    @Test func batchEqualsOneByOne() throws {
      let c = uniform(Shape(3, 9, 14), seed: 7)
      let a = Tensor((0..<3).flatMap { simplex(9, seed: $0).doubles }, Shape(3, 9))
      let b = simplex(14, seed: 9)
      let work = Workspace()
      let solver = EntropicTransport(.balanced, epsilon: 0.05)
      let all = try solver.solveBatch(cost: c, source: a, target: b, in: work)
      for h in 0..<3 {
        #expect(
          try solver.solve(cost: c[row: h], source: a[row: h], target: b, in: work).plan.doubles
            == all[h].plan.doubles)
      }
    }
    /// The same where an item alone would be shared by the threads, stopped by one caller's word
    /// for all.
    @Test func largeBatchEqualsOneByOneOnAnyThreads() throws {
      let c = uniform(Shape(5, 130, 141), seed: 7)
      let solver = EntropicTransport(
        .relaxed(exponent: 0.9), epsilon: 0.02, tolerance: 1e-9, precision: .f32)
      let alone = try (0..<5).map {
        try solver.solve(cost: c[row: $0], in: Workspace()).plan.doubles
      }
      for plans in try withThreadCounts({
        try solver.solveBatch(cost: c, in: Workspace()).map(\.plan.doubles)
      }) { #expect(plans == alone) }
      let stopped = try solver.solveBatch(cost: c, progress: { _, _ in false }, in: Workspace())
      #expect(
        stopped.allSatisfy { $0.status == .interrupted && $0.plan.doubles.allSatisfy(\.isFinite) })
    }
    @Test func badProblemsAreRefused() {
      func refuses(_ e: TransportError, _ body: () throws -> Void) {
        #expect(throws: e) { try body() }
      }
      let c = uniform(Shape(2, 3), seed: 1)
      refuses(.costShape([3])) { _ = try solve(.balanced, 1, Tensor([1.0, 2, 3], Shape(3))) }
      refuses(.fault(.init(.cost, name: "cost", index: 1, value: .nan))) {
        _ = try solve(.balanced, 1, Tensor([1, Double.nan], Shape(1, 2)))
      }
      refuses(.fault(.init(.negative, name: "source weights", index: 1, value: -1))) {
        _ = try solve(.balanced, 1, c, Tensor([2.0, -1], Shape(2)))
      }
      refuses(.fault(.init(.notFinite, name: "target weights", index: 0, value: .infinity))) {
        _ = try solve(.balanced, 1, c, nil, Tensor([Double.infinity, 1, 1], Shape(3)))
      }
      refuses(.weightShape(name: "source weights", found: [3], expected: [2])) {
        _ = try solve(.balanced, 1, c, Tensor([1.0, 1, 1], Shape(3)))
      }
      refuses(.fault(.init(.sum, name: "source weights", index: 1))) {
        _ = try solve(.balanced, 1, c, Tensor([0.0, 0], Shape(2)))
      }
      refuses(.fault(.init(.epsilon, value: 0))) { _ = try solve(.balanced, 0, c) }
      refuses(.fault(.init(.sum, name: "source weights", index: 1, value: .infinity))) {
        _ = try solve(.balanced, 1, c, Tensor([1.7e308, 1.7e308], Shape(2)))
      }
      refuses(.fault(.init(.rho, value: -1))) {
        _ = try solve(.unbalanced(rhoSource: -1, rhoTarget: 1), 1, c)
      }
      refuses(.fault(.init(.exponent, value: 1.5, limit: 1))) {
        _ = try solve(.relaxed(exponent: 1.5), 1, c)
      }
      refuses(.fault(.init(.mass, value: 3, limit: 2))) {
        _ = try solve(
          .exactMass(3), 1, c, Tensor([1.0, 1], Shape(2)), Tensor([1.0, 1, 1], Shape(3)))
      }
      refuses(.fault(.init(.unequalSums, value: 2, limit: 3))) {
        _ = try solve(
          .unbalanced(rhoSource: .infinity, rhoTarget: .infinity), 1, c,
          Tensor([1.0, 1], Shape(2)), Tensor([1.0, 1, 1], Shape(3)))
      }
    }
  }
}
