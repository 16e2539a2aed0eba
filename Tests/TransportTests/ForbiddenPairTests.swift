import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  /// Infinite costs forbid their pairs; costs up to 1e300 are numbers like others.
  @Suite struct ForbiddenPairTests {
    static func cost(_ n: Int, _ m: Int, _ mask: Double) -> Tensor {
      let c = uniform(Shape(n, m), seed: 1).doubles
      let isMasked = uniform(Shape(n, m), seed: 2).doubles
      return Tensor(
        (0..<n * m).map {
          isMasked[$0] < 0.5 && ($0 / m + 1) % n != $0 % m % n && $0 / m != $0 % m % n
            ? mask : c[$0]
        }, Shape(n, m))
    }
    /// The plan is that of a mask so high that nothing takes it, in every rule and precision, and
    /// exactly zero where it is forbidden; so are gradients.
    @Test(arguments: EntropicTransportTests.rules, [0.3, 0.02]) func asAHighMask(
      _ rule: MarginalRule, _ epsilon: Double
    ) throws {
      let n = 14
      let m = 19
      let work = Workspace()
      let high = Self.cost(n, m, 50)
      let upstream = uniform(Shape(n, m), seed: 3)
      let expected = try EntropicTransport(rule, epsilon: epsilon, tolerance: 1e-12).solve(
        cost: high, in: work)
      let expectedGradient = expected.gradients(plan: upstream, in: work)
      for mask in [Double.infinity, 1e300, 1e30] {
        let c = Self.cost(n, m, mask)
        let r = try EntropicTransport(rule, epsilon: epsilon, tolerance: 1e-12).solve(
          cost: c, in: work)
        #expect(
          r.status == .converged
            && largestDifference(r.plan.doubles, expected.plan.doubles) < 1e-10,
          "\(mask): \(r.status)")
        #expect(
          abs(r.cost - expected.cost) < 1e-10 && abs(r.objective - expected.objective) < 1e-10
            && abs(r.dual - expected.dual) < 1e-9, "\(mask): \(r.cost), \(expected.cost)")
        #expect(zip(r.plan.doubles, c.doubles).allSatisfy { $1 < 50 || $0 == 0 })
        #expect(
          largestDifference(
            r.gradients(plan: upstream, in: work).cost!.doubles, expectedGradient.cost!.doubles)
            < 1e-8)
        let again = r.certified(in: work)
        #expect(again.status == .converged && abs(again.cost - expected.cost) < 1e-10)
      }
      let single = try EntropicTransport(rule, epsilon: epsilon, tolerance: 1e-6, precision: .f32)
        .solve(cost: Self.cost(n, m, .infinity), in: work)
      #expect(single.status == .converged && abs(single.cost - expected.cost) < 1e-4)
    }
    @Test func batchesAreTheirItems() throws {
      let c = Tensor(
        Self.cost(6, 8, .infinity).doubles + Self.cost(6, 8, 9).doubles, Shape(2, 6, 8))
      let work = Workspace()
      let solver = EntropicTransport(.balanced, epsilon: 0.1)
      let both = try solver.solveBatch(cost: c, in: work)
      for k in 0..<2 {
        #expect(try both[k].plan.doubles == solver.solve(cost: c[row: k], in: work).plan.doubles)
      }
    }
    /// That no plan exists is said: a row alone, and rows that together have too little room.
    @Test func infeasible() throws {
      let work = Workspace()
      func solve(_ c: [Double], _ rule: MarginalRule, _ a: [Double]? = nil) throws {
        _ = try EntropicTransport(rule, epsilon: 0.1).solve(
          cost: Tensor(c, Shape(3, 3)), source: a.map { Tensor($0, Shape(3)) }, in: work)
      }
      let x = Double.infinity
      let crowded = [0, x, x, 1, x, x, 0, 0, 1]
      let alone = [0, 1, 2, x, x, x, 0, 0, 1]
      #expect(throws: TransportError.fault(.init(.infeasible))) { try solve(crowded, .balanced) }
      #expect(throws: TransportError.fault(.init(.infeasible))) {
        try solve(crowded, .exactMass(0.9))
      }
      #expect(throws: TransportError.fault(.init(.noPartner, name: "source", index: 1))) {
        try solve(alone, .balanced)
      }
      #expect(throws: TransportError.fault(.init(.noPartner, name: "source", index: 1))) {
        try solve(alone, .relaxed(exponent: 0.9))
      }
      #expect(throws: TransportError.fault(.init(.noPartner, name: "target", index: 2))) {
        try solve([0, 1, x, 0, 1, x, 0, 0, x], .balanced)
      }
      try solve(crowded, .relaxed(exponent: 0.9))
      try solve(crowded, .exactMass(0.6))
      try solve(alone, .exactMass(0.6))
      try solve(alone, .balanced, [1, 0, 1])
      #expect(throws: TransportError.fault(.init(.cost, name: "cost", index: 1, value: -.infinity)))
      {
        try solve([0, -x, 0, 0, 0, 0, 0, 0, 0], .balanced)
      }
      #expect(
        throws: TransportError.fault(
          .init(.notFinite, name: "cost as f32", index: 1, value: .infinity))
      ) {
        try EntropicTransport(.balanced, epsilon: 0.1, precision: .f32).solve(
          cost: Tensor([x, 1e300, 0, 0], Shape(2, 2)), in: work)
      }
    }
    /// A cost that is not the same in both directions has no divergence and no debiased barycenter.
    @Test func asymmetricCosts() throws {
      let c = uniform(Shape(4, 4), seed: 1)
      let work = Workspace()
      let flat = c.doubles
      let s = Tensor(
        (0..<16).map { (k: Int) -> Double in flat[k] + flat[k % 4 * 4 + k / 4] }, Shape(4, 4))
      func mean(_ cost: Tensor, own: Tensor? = nil, isDebiased: Bool = true) throws {
        _ = try Barycenter(epsilon: 0.1, isDebiased: isDebiased).solve(
          histograms: uniform(Shape(2, 4), seed: 2), cost: cost, own: own, in: work)
      }
      #expect(throws: TransportError.fault(.init(.asymmetric, name: "cost", index: 0, other: 1))) {
        try mean(c)
      }
      #expect(
        throws: TransportError.fault(.init(.asymmetric, name: "own cost", index: 0, other: 1))
      ) {
        try mean(c, own: c)
      }
      try mean(c, isDebiased: false)
      try mean(c, own: s)
      // the last digits of f32
      try mean(work.converted(work.converted(s, to: .f32), to: .f64))
      #expect(
        throws: TransportError.fault(
          .init(.asymmetric, name: "cost within the target", index: 0, other: 1))
      ) { try SinkhornDivergence(epsilon: 0.1).evaluate(.matrix(c), within: (s, c), in: work) }
      _ = try SinkhornDivergence(epsilon: 0.1).evaluate(.matrix(c), within: (s, s), in: work)
    }
  }
}
