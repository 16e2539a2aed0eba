import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  /// The Sinkhorn divergence against its definition by three problems, finite differences, and what
  /// it must be.
  @Suite struct SinkhornDivergenceTests {
    typealias Metric = EntropicTransport.Metric
    func points(_ n: Int, _ d: Int, seed: UInt64, shift: Double = 0) -> Tensor {
      Tensor(uniform(Shape(n, d), seed: seed).doubles.map { $0 + shift }, Shape(n, d))
    }
    func value(
      _ x: Tensor, _ y: Tensor, _ a: Tensor?, _ b: Tensor?, _ metric: Metric, epsilon: Double = 0.1,
      rho: Double = .infinity
    ) throws -> Double {
      let r = try SinkhornDivergence(epsilon: epsilon, rho: rho, tolerance: 1e-13).evaluate(
        .points(x, y, metric, scale: 1), source: a, target: b, in: Workspace())
      return r.value
    }
    /// Σ over three dense solves, with the product reference put in by hand: <P,C> + ε KL(P|a ⊗ b)
    /// (+ ρ KL of the marginals).
    func byDefinition(
      _ x: Tensor, _ y: Tensor, _ a: Tensor, _ b: Tensor, _ metric: Metric, epsilon: Double
    ) throws -> Double {
      func term(_ x: Tensor, _ y: Tensor, _ a: Tensor, _ b: Tensor) throws -> Double {
        let c = PointTransportTests().cost(x, y, metric, 1)
        let r = try EntropicTransport(.balanced, epsilon: epsilon, tolerance: 1e-13).solve(
          cost: c, source: a, target: b, in: Workspace())
        let p = r.plan.doubles
        let m = y.shape[0]
        let kl = p.indices.reduce(0) {
          p[$1] > 0 ? $0 + p[$1] * log(p[$1] / (a.doubles[$1 / m] * b.doubles[$1 % m])) : $0
        }
        return r.cost + epsilon * kl
      }
      return try term(x, y, a, b) - term(x, x, a, a) / 2 - term(y, y, b, b) / 2
    }

    @Test(arguments: Metric.allCases) func definition(_ metric: Metric) throws {
      let x = points(9, 3, seed: 1)
      let y = points(13, 3, seed: 2, shift: 0.3)
      let a = simplex(9, seed: 3)
      let b = simplex(13, seed: 4)
      for epsilon in [1, 0.1, 0.01] {
        let s = try value(x, y, a, b, metric, epsilon: epsilon)
        #expect(abs(s - (try byDefinition(x, y, a, b, metric, epsilon: epsilon))) < 1e-10)
        #expect(s > 1e-4)
        #expect(abs(try value(x, x, a, a, metric, epsilon: epsilon)) < 1e-11)
      }
    }
    /// Translated measures, squared distance: S = |shift|² whatever ε (Feydy et al. 2019: OT(a, b)
    /// and the self terms differ by it alone).
    @Test func translation() throws {
      let x = points(11, 2, seed: 5)
      let y = Tensor(x.doubles.enumerated().map { $1 + ($0 % 2 == 0 ? 0.7 : -0.4) }, x.shape)
      let a = simplex(11, seed: 6)
      for epsilon in [5, 0.5, 0.02] {
        #expect(
          abs(try value(x, y, a, a, .squaredEuclidean, epsilon: epsilon) - (0.49 + 0.16)) < 1e-10)
      }
    }
    /// Two Diracs of masses p and q at distance 0, unbalanced: min over r of ε KL(r | p q) + ρ KL(r
    /// | p) + ρ KL(r | q) is met at one r in closed form.
    @Test func diracsOfDifferentMass() throws {
      let (p, q, epsilon, rho) = (0.5, 2.0, 0.3, 0.7)
      let x = Tensor([0.0], Shape(1, 1))
      func kl(_ r: Double, _ m: Double) -> Double { r * log(r / m) - r + m }
      func term(_ u: Double, _ v: Double) -> Double {
        let r = exp((epsilon * log(u * v) + rho * (log(u) + log(v))) / (epsilon + 2 * rho))
        return epsilon * kl(r, u * v) + rho * (kl(r, u) + kl(r, v))
      }
      let expected = term(p, q) - term(p, p) / 2 - term(q, q) / 2 + epsilon / 2 * (p - q) * (p - q)
      let found = try value(
        x, x, Tensor([p], Shape(1)), Tensor([q], Shape(1)), .squaredEuclidean, epsilon: epsilon,
        rho: rho)
      #expect(abs(found - expected) < 1e-12)
    }
    @Test func symmetric() throws {
      let x = points(9, 3, seed: 1)
      let y = points(13, 3, seed: 2)
      let a = simplex(9, seed: 3)
      let b = simplex(13, seed: 4)
      for rho in [Double.infinity, 0.4] {
        #expect(
          abs(
            try value(x, y, a, b, .euclidean, rho: rho)
              - (try value(y, x, b, a, .euclidean, rho: rho))) < 1e-11)
      }
    }

    @Test(arguments: Metric.allCases, [Double.infinity, 0.5]) func gradientsOfPointsAndWeights(
      _ metric: Metric, _ rho: Double
    ) throws {
      let x = points(6, 3, seed: 1, shift: 0.2)
      let y = points(8, 3, seed: 2, shift: 0.4)
      let epsilon = 0.2
      // weights that do not sum to 1
      let a = Tensor(simplex(6, seed: 3).doubles.map { $0 * 1.3 }, Shape(6))
      let b = Tensor(simplex(8, seed: 4).doubles.map { $0 * 0.8 }, Shape(8))
      let r = try SinkhornDivergence(epsilon: epsilon, rho: rho, tolerance: 1e-13).evaluate(
        .points(x, y, metric, scale: 1), source: a, target: b, gradients: true, in: Workspace())
      #expect(r.status == .converged && r.terms.count == 3)
      for t in r.terms { #expect(t.marginalErrorL1 < 1e-10 && abs(t.objective - t.dual) < 1e-10) }
      func check(_ at: Tensor, _ gradient: [Double], _ f: (Tensor) throws -> Double) {
        let direction = randomTensor(at.shape, seed: 9).doubles
        let numeric = directionalDerivative(at.doubles, along: direction, step: 1e-3) {
          try! f(Tensor($0, at.shape))
        }
        #expect(
          abs(dot(gradient, direction) - numeric) < 1e-7 * (1 + abs(numeric)),
          "\(dot(gradient, direction)), \(numeric)")
        #expect(abs(numeric) > 1e-4)
      }
      check(x, r.points!.source.doubles) {
        try value($0, y, a, b, metric, epsilon: epsilon, rho: rho)
      }
      check(y, r.points!.target.doubles) {
        try value(x, $0, a, b, metric, epsilon: epsilon, rho: rho)
      }
      check(a, r.source!) { try value(x, y, $0, b, metric, epsilon: epsilon, rho: rho) }
      check(b, r.target!) { try value(x, y, a, $0, metric, epsilon: epsilon, rho: rho) }
    }
    @Test func matrixAndPointsAgree() throws {
      let x = points(9, 3, seed: 1)
      let y = points(13, 3, seed: 2)
      let cost = PointTransportTests().cost
      let d = SinkhornDivergence(epsilon: 0.05, tolerance: 1e-12)
      let p = try d.evaluate(
        .points(x, y, .squaredEuclidean, scale: 2), gradients: true, in: Workspace())
      let m = try d.evaluate(
        .matrix(cost(x, y, .squaredEuclidean, 2)),
        within: (cost(x, x, .squaredEuclidean, 2), cost(y, y, .squaredEuclidean, 2)),
        gradients: true, in: Workspace())
      #expect(abs(p.value - m.value) < 1e-12 && m.points == nil)
      #expect(largestDifference(p.source!, m.source!) < 1e-9)
      #expect(throws: TransportError.self) {
        try d.evaluate(.matrix(cost(x, y, .squaredEuclidean, 2)), in: Workspace())
      }
    }
    /// Values between f32 points are recomputed in f64: they keep digits that f32 costs have lost.
    @Test func singlePrecisionPoints() throws {
      let x = points(40, 5, seed: 1)
      let y = Tensor(x.doubles.map { $0 + 1e-3 * sin(40 * $0) }, x.shape)
      let single = Workspace()
      let exact = try value(
        single.converted(single.converted(x, to: .f32), to: .f64),
        single.converted(single.converted(y, to: .f32), to: .f64), nil, nil, .squaredEuclidean)
      let r = try SinkhornDivergence(epsilon: 0.1, tolerance: 1e-6, precision: .f32).evaluate(
        .points(x, y, .squaredEuclidean, scale: 1), gradients: true, in: Workspace())
      #expect(exact > 1e-8 && abs(r.value - exact) < 1e-3 * exact, "\(r.value), \(exact)")
    }
    @Test func zeroWeightsTakeNoPart() throws {
      let x = points(4, 2, seed: 1)
      let y = points(3, 2, seed: 2)
      let a = Tensor([0.4, 0, 0.6, 0], Shape(4))
      let kept = Tensor([0, 1, 4, 5].map { x.doubles[$0] }, Shape(2, 2))
      let whole = try value(x, y, a, nil, .squaredEuclidean)
      let part = try value(kept, y, Tensor([0.4, 0.6], Shape(2)), nil, .squaredEuclidean)
      #expect(abs(whole - part) < 1e-12)
    }
    @Test func threadsDoNotChangeTheBits() throws {
      let x = points(150, 12, seed: 1)
      let y = points(140, 12, seed: 2)
      func bits() throws -> [Double] {
        let r = try SinkhornDivergence(epsilon: 0.1, tolerance: 1e-8).evaluate(
          .points(x, y, .squaredEuclidean, scale: 1), gradients: true, in: Workspace())
        return [r.value] + r.points!.source.doubles + r.points!.target.doubles + r.source!
      }
      let first = try bits()
      for r in try withThreadCounts(bits) { #expect(r == first) }
    }
    @Test func interruptedIsReported() throws {
      var asked = 0
      let r = try SinkhornDivergence(epsilon: 0.01).evaluate(
        .points(points(30, 2, seed: 1), points(30, 2, seed: 2), .squaredEuclidean, scale: 1),
        progress: { _, _ in
          asked += 1
          return asked < 3
        }, in: Workspace())
      #expect(r.status == .interrupted && r.value.isNaN && asked == 3)
    }
    @Test func badProblemsAreRefused() {
      #expect(throws: TransportError.fault(.init(.zeroVector, name: "source points", index: 1))) {
        try value(Tensor([1.0, 0], Shape(2, 1)), Tensor([1.0, 2], Shape(2, 1)), nil, nil, .cosine)
      }
      #expect(throws: TransportError.self) {
        try value(
          Tensor([1.0, 0], Shape(2, 1)), Tensor([1.0, 2], Shape(2, 1)),
          Tensor([1e-200, 1], Shape(2)), nil, .squaredEuclidean, rho: 0.01)
      }
    }
  }
}
