import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  /// Implicit gradients against finite differences of whole solves.
  @Suite struct TransportGradientTests {
    @Test(arguments: 0..<5, [0.3, 0.04]) func finiteDifferences(_ rule: Int, _ epsilon: Double)
      throws
    {
      let work = Workspace()
      let shape = Shape(7, 10)
      let c = uniform(shape, seed: 20)
      let (a, b) = (simplex(7, seed: 21), simplex(10, seed: 22))
      let upstream = randomTensor(shape, seed: 23)
      let solver = EntropicTransport(
        EntropicTransportTests.rules[rule], epsilon: epsilon, tolerance: 1e-14)
      let r = try solver.solve(cost: c, source: a, target: b, in: work)
      // centred: a shift of a balanced cost changes no plan
      var direction = randomTensor(shape, seed: 24).doubles
      let mean = direction.reduce(0, +) / Double(direction.count)
      direction = direction.map { $0 - mean }
      for (p, k, o) in [(1.0, 0.0, 0.0), (0, 1.3, 0), (0, 0, -0.7), (1, -0.4, 2.1)] {
        let g = r.gradient(plan: p == 0 ? nil : upstream, cost: k, objective: o, in: work)
        #expect(g.relativeResidual < 1e-10)
        let numeric = directionalDerivative(c.doubles, along: direction, step: 2e-4 * epsilon) {
          x in
          let s = try! solver.solve(cost: Tensor(x, shape), source: a, target: b, in: work)
          return p * dot(upstream.doubles, s.plan.doubles) + k * s.cost + o * s.objective
        }
        let analytic = dot(g.gradient.doubles, direction)
        // differences of values known to 1e-15 over steps of 2e-4 eps
        #expect(
          abs(analytic - numeric) < 1e-6 * (1 + abs(analytic)),
          "\(solver.rule) \(epsilon): \(analytic), \(numeric)")
      }
    }
    @Test func zeroWeightsHaveNoGradient() throws {
      let work = Workspace()
      let a = Tensor([0.5, 0, 0.5], Shape(3))
      let r = try EntropicTransport(.balanced, epsilon: 0.1).solve(
        cost: uniform(Shape(3, 4), seed: 1), source: a, in: work)
      let g = r.gradient(plan: randomTensor(Shape(3, 4), seed: 2), in: work).gradient.doubles
      #expect(g[4..<8].allSatisfy { $0 == 0 } && g[0..<4].contains { abs($0) > 1e-4 })
    }
  }
}
