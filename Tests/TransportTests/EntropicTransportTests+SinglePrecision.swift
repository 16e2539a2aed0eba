import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite.EntropicTransportTests {
  /// Where solvers in pure f32 stall at 2e-6 to 6e-6: the marginals of the plan, recomputed in
  /// f64, to 1e-6 at ε = 0.005 of the largest cost; near the f64 solution.
  @Test(arguments: 0..<5) func singlePrecisionReachesItsTolerance(_ rule: Int) throws {
    let work = Workspace()
    let x = uniform(Shape(150, 3), seed: 30)
    let y = uniform(Shape(170, 3), seed: 31)
    let d = work.distances(x, y)
    let c = work.product(d, d)
    let top = c.doubles.max()!
    let scaled = work.scaled(c, by: 1 / top)
    let solver = EntropicTransport(
      Self.rules[rule], epsilon: 0.005, tolerance: 1e-6, precision: .f32)
    let r = try solver.solve(cost: scaled, in: work)
    let wide = try solve(Self.rules[rule], 0.005, scaled, tolerance: 1e-9)
    let certified = r.certified(in: work)
    #expect(r.status == .converged && r.plan.type == .f32)
    #expect(
      r.marginalErrorL1 < 2e-6 && certified.marginalErrorL1 < 3e-6,
      "\(r.marginalErrorL1) \(certified.marginalErrorL1)")
    #expect(
      abs(r.cost - wide.cost) < 1e-4 * wide.cost
        && abs(certified.objective - wide.objective) < 1e-6 * (1 + abs(wide.objective)))
  }
  /// For any ε: finite, and never said to have converged when the plan does not keep its
  /// marginals.
  @Test(arguments: 0..<5) func singlePrecisionRangeOfEpsilon(_ rule: Int) throws {
    let work = Workspace()
    let c = uniform(Shape(40, 33), seed: 16)
    for epsilon in [10, 1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6] {
      let r = try EntropicTransport(
        Self.rules[rule], epsilon: epsilon, tolerance: 1e-5, maxIterations: 3000, precision: .f32
      ).solve(cost: c, in: work)
      #expect(r.plan.doubles.allSatisfy { $0.isFinite } && r.status != .nonFinite)
      #expect(r.status == .converged || epsilon < 1e-2, "\(Self.rules[rule]) \(epsilon)")
      if r.status == .converged {
        #expect(r.certified(in: work).marginalErrorL1 < 2e-4, "\(Self.rules[rule]) \(epsilon)")
      }
    }
  }
  @Test func singlePrecisionCosts() throws {
    let c = uniform(Shape(9, 14), seed: 7)
    let rounded = Workspace().converted(c, to: .f32)
    #expect(
      largestDifference(
        try solve(.balanced, 0.05, rounded).plan.doubles,
        try solve(.balanced, 0.05, c).plan.doubles) < 1e-7)
  }
}
