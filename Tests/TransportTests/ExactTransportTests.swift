import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  /// The network simplex against closed forms, and the entropic solvers against it at small ε.
  @Suite struct ExactTransportTests {
    /// On a line with a convex cost the monotone plan is optimal: quantile by quantile.
    @Test func line() throws {
      let n = 40
      let m = 27
      let a = simplex(n, seed: 1).doubles
      let b = simplex(m, seed: 2).doubles
      let x = uniform(Shape(n), seed: 3).doubles.sorted()
      let y = uniform(Shape(m), seed: 4).doubles.sorted()
      var (i, j, left, right, expected) = (0, 0, a[0], b[0], 0.0)
      while i < n && j < m {
        let moved = min(left, right)
        expected += moved * pow(x[i] - y[j], 2)
        (left, right) = (left - moved, right - moved)
        if left <= right {
          i += 1
          if i < n { left = a[i] }
        } else {
          j += 1
          if j < m { right = b[j] }
        }
      }
      let r = try ExactTransport().solve(
        cost: Tensor((0..<n * m).map { pow(x[$0 / m] - y[$0 % m], 2) }, Shape(n, m)),
        source: Tensor(a, Shape(n)), target: Tensor(b, Shape(m)))
      #expect(
        abs(r.cost - expected) < 1e-10 && abs(r.cost - r.dual) < 1e-10 && r.marginalErrorL1 < 1e-10)
    }
    @Test func permutation() throws {
      let n = 24
      var stream = RandomStream(seed: 5, .test)
      let order = stream.permutation(n)
      let c = (0..<n * n).map { order[$0 / n] == $0 % n ? -7 : -6 + stream.uniform() }
      let r = try ExactTransport().solve(cost: Tensor(c, Shape(n, n)))
      #expect(
        largestDifference(
          r.plan.doubles, (0..<n * n).map { order[$0 / n] == $0 % n ? 1 / Double(n) : 0 }) < 1e-11
          && abs(r.cost + 7) < 1e-10)
    }
    /// Between Gaussian clouds moved by t, the optimal map moves every point by t when the clouds
    /// are copies: the gradient of a convex function.
    @Test func translatedCloud() throws {
      let n = 60
      let x = randomTensor(Shape(n, 3), seed: 6).doubles
      let t = [0.3, -0.2, 0.5]
      let c = (0..<n * n).map { p in
        (0..<3).reduce(0) { $0 + pow(x[p / n * 3 + $1] - x[p % n * 3 + $1] - t[$1], 2) }
      }
      let r = try ExactTransport().solve(cost: Tensor(c, Shape(n, n)))
      #expect(abs(r.cost - 0.38) < 1e-9)
      for i in 0..<n { #expect(abs(r.plan.doubles[i * n + i] - 1 / Double(n)) < 1e-10) }
    }
    /// Entropic values come down to the exact ones: balanced within 2 ε log(n m), exact mass too;
    /// the entropic plan is never cheaper.
    @Test(arguments: [nil, 0.6] as [Double?]) func entropicLimit(_ mass: Double?) throws {
      let c = uniform(Shape(15, 11), seed: 12)
      let a = simplex(15, seed: 10)
      let b = simplex(11, seed: 11)
      let work = Workspace()
      let exact = try ExactTransport(mass.map { .exactMass($0) } ?? .balanced).solve(
        cost: c, source: a, target: b)
      #expect(
        abs(exact.mass - (mass ?? 1)) < 1e-10 && exact.marginalErrorL1 < 1e-10
          && abs(exact.cost - exact.dual) < 1e-9)
      for epsilon in [1e-2, 1e-3, 1e-4] {
        let r = try EntropicTransport(
          mass.map { .exactMass($0) } ?? .balanced, epsilon: epsilon, tolerance: 1e-9
        ).solve(cost: c, source: a, target: b, in: work)
        #expect(
          r.status == .converged && r.cost > exact.cost - 1e-8
            && r.cost < exact.cost + 2 * epsilon * log(165.0),
          "\(epsilon): \(r.cost), \(exact.cost)")
      }
    }
    /// Weights of any size, and so many of them that each is a fraction of the grid's rounding.
    @Test func weightsOfAnySum() throws {
      let c = uniform(Shape(20, 20), seed: 12)
      let one = try ExactTransport(.exactMass(0.5)).solve(cost: c)
      let small = Tensor(Array(repeating: 1e-12 / 20, count: 20), Shape(20))
      let r = try ExactTransport(.exactMass(0.5e-12)).solve(cost: c, source: small, target: small)
      #expect(
        abs(r.mass * 1e12 - 0.5) < 1e-10 && abs(r.cost * 1e12 - one.cost) < 1e-9
          && r.marginalErrorL1 < 1e-22)
      let many = try ExactTransport().solve(
        cost: Tensor(Array(repeating: 1.0, count: 300_000), Shape(300_000, 1)))
      #expect(abs(many.cost - 1) < 1e-9 && many.marginalErrorLinf < 1e-11)
    }
    /// Masks beside costs in [0, 1]: of any size, and infinite, they give what the plan that avoids
    /// them costs.
    @Test(arguments: [1e6, 1e12, 1e13, 1e15, 1e18, .infinity]) func masks(_ mask: Double) throws {
      for (n, m, seed) in [(20, 20, 1), (17, 30, 5)] as [(Int, Int, UInt64)] {
        let c = uniform(Shape(n, m), seed: seed).doubles
        let share = uniform(Shape(n, m), seed: seed + 1).doubles
        let isMasked = uniform(Shape(n, m), seed: seed + 2).doubles.map { $0 < 0.6 }
        // weights of a plan that uses no masked pair; rounded in f64, so that no plan meets them to
        // the last bit
        let plan = (0..<n * m).map { isMasked[$0] && $0 / m != $0 % n ? 0 : share[$0] }
        let a = Tensor((0..<n).map { i in (0..<m).reduce(0) { $0 + plan[i * m + $1] } }, Shape(n))
        let b = Tensor((0..<m).map { j in (0..<n).reduce(0) { $0 + plan[$1 * m + j] } }, Shape(m))
        func cost(_ mask: Double) -> Tensor {
          Tensor((0..<n * m).map { plan[$0] > 0 ? c[$0] : mask }, Shape(n, m))
        }
        // 100 is more than any detour costs
        let low = try ExactTransport().solve(cost: cost(100), source: a, target: b)
        let r = try ExactTransport().solve(cost: cost(mask), source: a, target: b)
        #expect(
          r.status == .converged && abs(r.cost - low.cost) < 1e-11 && r.dual <= r.cost
            && r.cost - r.dual < 1e-10, "\(r.cost) \(low.cost) \(r.dual)")
        #expect(
          r.marginalErrorL1 < 1e-12 && zip(r.plan.doubles, plan).allSatisfy { $1 > 0 || $0 == 0 })
        let partial = try ExactTransport(.exactMass(0.5 * a.doubles.reduce(0, +))).solve(
          cost: cost(mask), source: a, target: b)
        #expect(
          partial.status == .converged
            && partial.cost < 0.5 * r.cost * a.doubles.reduce(0, +) + 1e-9)
      }
    }
    /// A mask that must be paid: its own digits, whatever stands beside it.
    @Test func forcedMasks() throws {
      let r = try ExactTransport().solve(
        cost: Tensor([1e12, 3e12, 0.5, 0.25], Shape(2, 2)), source: Tensor([0.5, 0.5], Shape(2)),
        target: Tensor([0.25, 0.75], Shape(2)))
      #expect(
        abs(r.cost - (0.25 * 1e12 + 0.25 * 3e12 + 0.5 * 0.25)) < 0.01 && r.status == .converged)
    }
    @Test func infeasible() {
      let c = Tensor([0, Double.infinity, 1, .infinity, .infinity, 2], Shape(2, 3))
      #expect(throws: TransportError.fault(.init(.infeasible))) {
        try ExactTransport().solve(cost: c)
      }
      #expect(throws: TransportError.fault(.init(.infeasible))) {
        try ExactTransport(.exactMass(0.9)).solve(cost: c)
      }
      #expect(throws: TransportError.fault(.init(.infeasible))) {
        try ExactTransport().solve(cost: Tensor([Double.infinity], Shape(1, 1)))
      }
      #expect(throws: TransportError.fault(.init(.cost, name: "cost", index: 1, value: -.infinity)))
      {
        try ExactTransport().solve(cost: Tensor([0, -Double.infinity], Shape(1, 2)))
      }
    }
    @Test func problemsThatCannotBePosed() {
      #expect(throws: TransportError.fault(.init(.cost, name: "cost", index: 1, value: .nan))) {
        try ExactTransport().solve(cost: Tensor([1, Double.nan], Shape(1, 2)))
      }
      #expect(
        throws: TransportError.fault(
          .init(.notFinite, name: "cost's range", index: 1, value: .infinity))
      ) {
        try ExactTransport().solve(cost: Tensor([1.7e308, -1.7e308], Shape(1, 2)))
      }
      #expect(throws: TransportError.fault(.init(.mass, value: 1.5, limit: 1))) {
        try ExactTransport(.exactMass(1.5)).solve(cost: Tensor([1.0, 2], Shape(1, 2)))
      }
      #expect(throws: TransportError.costShape([3])) {
        try ExactTransport().solve(cost: Tensor([1.0, 2, 3], Shape(3)))
      }
    }
  }
}
