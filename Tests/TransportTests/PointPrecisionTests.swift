import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  /// f32 points whose distances an outlier, distant clusters or a sentinel would swallow, against a
  /// matrix of distances taken in f64.
  @Suite struct PointPrecisionTests {
    typealias Metric = EntropicTransport.Metric
    /// Two clouds of 24 points; what is far in one is far in the other, so that a plan exists that
    /// need not go there.
    enum Kind: CaseIterable {
      case ordinary, outlier1e3, outlier1e6, outlier1e7, outliers, clusters1e2, clusters1e5,
        manyClusters, sentinels, tight, offset
    }
    static let n = 24
    /// Values that f32 holds.
    static func clouds(_ kind: Kind, _ d: Int, seed: UInt64 = 1) -> (Tensor, Tensor) {
      let x = randomTensor(Shape(n, d), seed: seed).doubles
      let y = randomTensor(Shape(n, d), seed: seed + 1).doubles
      let centres = randomTensor(Shape(8, d), seed: seed + 2).doubles
      func far(_ i: Int, _ c: Int, _ v: Double) -> Double {
        switch kind {
        case .ordinary: v
        case .outlier1e3: i == 3 ? v + 1e3 : v
        case .outlier1e6: i == 3 ? v + 1e6 : v
        case .outlier1e7: i == 3 ? v - 1e7 : v
        case .outliers: i < 3 ? v + [1e3, -1e5, 1e7][i] : v
        case .clusters1e2: i % 2 == 0 ? v + 1e2 : v - 1e2
        case .clusters1e5: i % 2 == 0 ? v + 1e5 : v - 1e5
        case .manyClusters: v + 1e4 * centres[i % 8 * d + c]
        case .sentinels: (i == 1 && c == 0) || (i == 5 && c == d - 1) ? -9999 : v
        case .tight: 5 + 1e-3 * v
        case .offset: 1e4 + v
        }
      }
      func cloud(_ v: [Double]) -> Tensor {
        Tensor(v.indices.map { Double(Float(far($0 / d, $0 % d, v[$0]))) }, Shape(n, d))
      }
      return (cloud(x), cloud(y))
    }
    /// Costs in f64, by differences; cosine from unit vectors, which keeps the digits of small
    /// angles.
    static func cost(_ x: Tensor, _ y: Tensor, _ metric: Metric) -> Tensor {
      let d = x.shape[1]
      func rows(_ t: Tensor) -> [[Double]] {
        (0..<t.shape[0]).map { i in
          let row = Array(t.doubles[i * d..<(i + 1) * d])
          let length = metric == .cosine ? dot(row, row).squareRoot() : 1
          return row.map { $0 / length }
        }
      }
      let (a, b) = (rows(x), rows(y))
      return Tensor(
        a.flatMap { p in
          b.map { q in
            let square = zip(p, q).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
            return metric == .euclidean
              ? square.squareRoot() : metric == .cosine ? square / 2 : square
          }
        }, Shape(x.shape[0], y.shape[0]))
    }
    static func epsilon(_ c: Tensor) -> Double {
      let sorted = c.doubles.sorted()
      return max(0.3 * sorted[sorted.count / 10], 1e-3 * sorted[sorted.count / 2])
    }
    /// The larger L1 error of the marginals of exp(log u + log v - C/ε) against 1/n.
    static func marginalError(_ r: SinkhornResult, _ c: Tensor) -> Double {
      let (u, v, cost, m) = (r.logU.doubles, r.logV.doubles, c.doubles, c.shape[1])
      let p = cost.indices.map { exp(u[$0 / m] + v[$0 % m] - cost[$0] / r.epsilon) }
      let rows = u.indices.reduce(0) { s, i in
        s + abs((0..<m).reduce(0) { $0 + p[i * m + $1] } - 1 / Double(u.count))
      }
      let columns = v.indices.reduce(0) { s, j in
        s + abs(u.indices.reduce(0) { $0 + p[$1 * m + j] } - 1 / Double(m))
      }
      return max(rows, columns)
    }

    /// Right, or not called converged; and of these kinds all are solved.
    @Test(arguments: Kind.allCases, [2, 9, 64]) func costsAndMarginals(_ kind: Kind, _ d: Int)
      throws
    {
      let (x, y) = Self.clouds(kind, d)
      let work = Workspace()
      for metric in Metric.allCases {
        let c = Self.cost(x, y, metric)
        let epsilon = Self.epsilon(c)
        let r = try EntropicTransport(.balanced, epsilon: epsilon, tolerance: 1e-6, precision: .f32)
          .solve(.points(x, y, metric, scale: 1), in: work)
        let exact = try EntropicTransport(.balanced, epsilon: epsilon, tolerance: 1e-10).solve(
          cost: c, in: work)
        let error = Self.marginalError(r, c)
        #expect(
          r.status == .converged && abs(r.cost - exact.cost) < 1e-4 * exact.cost,
          "\(metric): \(r.status) \(r.cost) \(exact.cost)")
        #expect(
          error < 1.1e-6 && abs(r.marginalErrorL1 - error) < 3e-7,
          "\(metric): \(error), \(r.marginalErrorL1)")
        #expect(abs(r.objective - exact.objective) < 1e-4 * abs(exact.objective))
      }
    }
    /// f64 points lose theirs to outliers that are as much farther.
    @Test(arguments: [1e8, 1e10]) func doublePrecision(_ far: Double) throws {
      let (x, y) = Self.clouds(.ordinary, 20)
      let work = Workspace()
      func moved(_ t: Tensor) -> Tensor {
        Tensor(t.doubles.enumerated().map { $0 < 20 ? $1 + far : $1 }, t.shape)
      }
      for metric in Metric.allCases {
        let (p, q) = (moved(x), moved(y))
        let c = Self.cost(p, q, metric)
        let epsilon = Self.epsilon(c)
        let r = try EntropicTransport(.balanced, epsilon: epsilon, tolerance: 1e-8).solve(
          .points(p, q, metric, scale: 1), in: work)
        let exact = try EntropicTransport(.balanced, epsilon: epsilon, tolerance: 1e-10).solve(
          cost: c, in: work)
        #expect(
          r.status == .converged && abs(r.cost - exact.cost) < 1e-6 * exact.cost
            && Self.marginalError(r, c) < 2e-8, "\(metric): \(r.status) \(r.cost) \(exact.cost)")
      }
    }
    @Test(arguments: Kind.allCases) func divergences(_ kind: Kind) throws {
      let (x, y) = Self.clouds(kind, 20)
      let work = Workspace()
      for metric in Metric.allCases {
        let (c, a, b) = (Self.cost(x, y, metric), Self.cost(x, x, metric), Self.cost(y, y, metric))
        let epsilon = Self.epsilon(c)
        let r = try SinkhornDivergence(epsilon: epsilon, tolerance: 1e-6, precision: .f32).evaluate(
          .points(x, y, metric, scale: 1), in: work)
        let exact = try SinkhornDivergence(epsilon: epsilon, tolerance: 1e-9).evaluate(
          .matrix(c), within: (a, b), in: work)
        #expect(
          r.status == .converged && exact.status == .converged
            && abs(r.value - exact.value) < 1e-4 * exact.value,
          "\(metric): \(r.status) \(r.value) \(exact.value)")
      }
    }
    /// Gradients with respect to points, and the barycentric projection, from the plan of the
    /// matrix.
    @Test(arguments: Kind.allCases) func gradientsAndProjections(_ kind: Kind) throws {
      let d = 12
      let (x, y) = Self.clouds(kind, d)
      let work = Workspace()
      let c = Self.cost(x, y, .squaredEuclidean)
      let epsilon = Self.epsilon(c)
      let r = try EntropicTransport(.balanced, epsilon: epsilon, tolerance: 1e-6, precision: .f32)
        .solve(.points(x, y, .squaredEuclidean, scale: 1), in: work)
      let p = try EntropicTransport(.balanced, epsilon: epsilon, tolerance: 1e-10).solve(
        cost: c, in: work
      ).plan.doubles
      let (xs, ys) = (x.doubles, y.doubles)
      let gradient = r.gradients(objective: 1, in: work).points!
      let projection = r.projection(in: work).doubles
      var expected = Array(repeating: 0.0, count: xs.count)
      var mean = expected
      for i in 0..<Self.n {
        for j in 0..<Self.n {
          for k in 0..<d {
            expected[i * d + k] += 2 * p[i * Self.n + j] * (xs[i * d + k] - ys[j * d + k])
            mean[i * d + k] += p[i * Self.n + j] * ys[j * d + k] * Double(Self.n)
          }
        }
      }
      let size = expected.reduce(0) { max($0, abs($1)) }
      #expect(largestDifference(gradient.source.doubles, expected) < 1e-4 * size)
      for k in mean.indices {
        #expect(
          abs(projection[k] - mean[k]) < 1e-4 * (1e-2 + abs(mean[k])),
          "\(projection[k]), \(mean[k])")
      }
    }
    @Test func sameBitsOnAnyThreads() throws {
      let (x, y) = Self.clouds(.outliers, 70)
      let runs = try withThreadCounts { () throws -> [Double] in
        try Metric.allCases.flatMap { metric in
          let r = try EntropicTransport(.balanced, epsilon: 20, tolerance: 1e-6, precision: .f32)
            .solve(.points(x, y, metric, scale: metric == .cosine ? 0.01 : 1), in: Workspace())
          return r.logU.doubles + r.gradients(cost: 1, in: Workspace()).points!.source.doubles + [
            r.cost
          ]
        }
      }
      #expect(runs.allSatisfy { $0 == runs[0] })
    }
  }

  /// A status is what the figures bear out.
  @Suite struct StatusTests {
    /// Whatever rule and precision: called converged, the marginals of the plan are within the
    /// tolerance.
    @Test(arguments: EntropicTransportTests.rules, [1e-3, 1e-6]) func convergedMeetsTheTolerance(
      _ rule: MarginalRule, _ tolerance: Double
    ) throws {
      for (seed, epsilon) in [(1, 0.3), (2, 0.02), (3, 2e-3)] as [(UInt64, Double)] {
        let c = uniform(Shape(23, 31), seed: seed)
        let a = simplex(23, seed: seed + 10)
        let b = simplex(31, seed: seed + 20)
        let work = Workspace()
        for precision in [ElementType.f64, .f32] {
          let r = try EntropicTransport(
            rule, epsilon: epsilon, tolerance: tolerance, precision: precision
          ).solve(cost: c, source: a, target: b, in: work)
          #expect(
            r.status == .converged && r.marginalErrorL1 <= tolerance * r.mass,
            "\(rule) \(epsilon) \(precision): \(r.status) \(r.marginalErrorL1)")
          let again = r.certified(in: work)
          #expect(
            again.status == .converged && again.marginalErrorL1 <= tolerance * again.mass
              && abs(again.cost - r.cost) < 1e-6)
        }
      }
    }
    /// Two clusters a distance apart over which a thousandth of the mass must go: marginals within
    /// the tolerance alone leave a cost that is off by a tenth.
    @Test(arguments: [1e-4, 1e-5, 1e-7]) func farMassIsCounted(_ tolerance: Double) throws {
      let n = 20
      let near = uniform(Shape(n, n), seed: 4).doubles
      let weights = Tensor((0..<n).map { $0 < n / 2 ? 1.002 : 0.998 }, Shape(n))
      let work = Workspace()
      let c = Tensor(
        (0..<n * n).map { ($0 / n < n / 2) == ($0 % n < n / 2) ? near[$0] : 1e4 + near[$0] },
        Shape(n, n))
      let exact = try EntropicTransport(.balanced, epsilon: 0.2, tolerance: 1e-11).solve(
        cost: c, source: weights, in: work)
      let r = try EntropicTransport(.balanced, epsilon: 0.2, tolerance: tolerance).solve(
        cost: c, source: weights, in: work)
      #expect(
        exact.status == .converged && r.status == .converged
          && abs(r.cost - exact.cost) < 1e-3 * exact.cost, "\(r.cost), \(exact.cost)")
    }
    /// At C/ε = 1e11 potentials in f64 do not hold the plan any more; the certificate is the
    /// plan's.
    @Test func certifiedAtHugeCosts() throws {
      let n = 12
      let cost = Tensor(
        (0..<n * n).map { k in k / n == k % n ? 0 : 1 + Double(k % 7) / 7 }, Shape(n, n))
      let work = Workspace()
      for epsilon in [1e-9, 1e-11, 1e-13] {
        let r = try EntropicTransport(.balanced, epsilon: epsilon, tolerance: 1e-12).solve(
          cost: cost, in: work)
        let again = r.certified(in: work)
        #expect(
          r.status == .converged && again.status == .converged && again.marginalErrorL1 < 1e-12
            && abs(again.objective - again.dual) < 1e-15 + 10 * epsilon, "\(again.marginalErrorL1)")
      }
    }
  }
}
