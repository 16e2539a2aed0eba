import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  /// Problems between points, whose costs are never stored, against the same with a matrix.
  @Suite struct PointTransportTests {
    typealias Metric = EntropicTransport.Metric
    func points(_ n: Int, _ d: Int, seed: UInt64) -> Tensor { uniform(Shape(n, d), seed: seed) }
    func cost(_ x: Tensor, _ y: Tensor, _ metric: Metric, _ scale: Double) -> Tensor {
      let (a, b, d) = (x.doubles, y.doubles, x.shape[1])
      return Tensor(
        (0..<x.shape[0] * y.shape[0]).map { p in
          let p0 = Array(a[p / y.shape[0] * d..<(p / y.shape[0] + 1) * d])
          let q = Array(b[p % y.shape[0] * d..<(p % y.shape[0] + 1) * d])
          let square = zip(p0, q).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
          return switch metric {
          case .squaredEuclidean: square / scale
          case .euclidean: square.squareRoot() / scale
          case .cosine: (1 - dot(p0, q) / (dot(p0, p0) * dot(q, q)).squareRoot()) / scale
          }
        }, Shape(x.shape[0], y.shape[0]))
    }
    static let rules = EntropicTransportTests.rules

    @Test(arguments: Metric.allCases, [(7, 5, 3), (40, 61, 2), (1, 4, 1), (300, 129, 17)])
    func agreesWithStoredCost(_ metric: Metric, _ shape: (n: Int, m: Int, d: Int)) throws {
      let (n, m, d) = shape
      let x = points(n, d, seed: 1)
      let y = points(m, d, seed: 2)
      let a = simplex(n, seed: 3)
      let b = simplex(m, seed: 4)
      let work = Workspace()
      let c = cost(x, y, metric, 1.5)
      for rule in Self.rules {
        let solver = EntropicTransport(rule, epsilon: 0.05, tolerance: 1e-12)
        let r = try solver.solve(.points(x, y, metric, scale: 1.5), source: a, target: b, in: work)
        let s = try solver.solve(cost: c, source: a, target: b, in: work)
        let (u, v, cd) = (r.logU.doubles, r.logV.doubles, c.doubles)
        let plan = (0..<n * m).map { exp(u[$0 / m] + v[$0 % m] - cd[$0] / 0.05) }
        #expect(
          r.status == .converged && r.marginalErrorL1 <= 1e-11
            && largestDifference(plan, s.plan.doubles) < 1e-11, "\(rule)")
        #expect(
          abs(r.cost - s.cost) < 1e-10 && abs(r.objective - s.objective) < 1e-10
            && abs(r.dual - s.dual) < 1e-10, "\(rule): \(r.cost) \(s.cost)")
        guard metric != .cosine else { continue }
        let p = r.projection(in: work).doubles
        let q = y.doubles
        for i in 0..<n {
          for k in 0..<d {
            let row = (0..<m).map { plan[i * m + $0] }
            let mean = (0..<m).reduce(0) { $0 + row[$1] * q[$1 * d + k] } / row.reduce(0, +)
            #expect(abs(p[i * d + k] - mean) < 1e-9)
          }
        }
      }
    }
    /// A weight of zero takes no mass, exactly, and changes nothing for the others, even when it is
    /// far away or fills whole tiles.
    @Test func zeroWeights() throws {
      let y = points(700, 2, seed: 2)
      let far = Tensor((0..<1400).map { $0 < 1200 ? 50.0 : y.doubles[$0] }, Shape(700, 2))
      let x = points(9, 2, seed: 1)
      let work = Workspace()
      let rest = Tensor(Array(y.doubles[1200...]), Shape(100, 2))
      let w = Tensor((0..<700).map { $0 < 600 ? 0.0 : 1.0 }, Shape(700))
      let solver = EntropicTransport(.balanced, epsilon: 0.1)
      let r = try solver.solve(.points(x, far, .squaredEuclidean, scale: 1), target: w, in: work)
      let s = try solver.solve(.points(x, rest, .squaredEuclidean, scale: 1), in: work)
      #expect(r.logV.doubles.prefix(600).allSatisfy { $0 == -.infinity } && r.status == .converged)
      #expect(
        abs(r.cost - s.cost) < 1e-9
          && largestDifference(r.projection(in: work).doubles, s.projection(in: work).doubles)
            < 1e-9
      )
    }
    /// f32 reaches 1e-6 and lands near f64; its certificate in f64 agrees; what f32 cannot reach is
    /// gone on with in f64, or not called converged.
    @Test func singlePrecision() throws {
      let x = points(200, 20, seed: 5)
      let y = points(150, 20, seed: 6)
      let work = Workspace()
      let clouds = EntropicTransport.Cost.points(x, y, .squaredEuclidean, scale: 1)
      let wide = try EntropicTransport(.balanced, epsilon: 0.1).solve(clouds, in: work)
      let r = try EntropicTransport(.balanced, epsilon: 0.1, tolerance: 1e-6, precision: .f32)
        .solve(clouds, in: work)
      #expect(r.status == .converged && abs(r.cost - wide.cost) < 1e-5 * wide.cost)
      let c = r.certified(in: work)
      #expect(
        c.status == .converged && c.marginalErrorL1 <= 1e-6 && abs(c.cost - r.cost) < 1e-6 * r.cost)
      let strict = try EntropicTransport(
        .balanced, epsilon: 0.1, tolerance: 1e-12, maxIterations: 3000, precision: .f32
      ).solve(clouds, in: work)
      #expect(
        strict.status == .converged && strict.certified(in: work).marginalErrorL1 <= 1e-12
          || strict.status == .maxIterations)
    }
    /// Every instruction set's f32 rows, stored and made from points, with odd sizes, against f64.
    @Test(arguments: Metric.allCases) func singlePrecisionOnEachInstructionSet(_ metric: Metric)
      throws
    {
      let x = points(75, 19, seed: 11)
      let y = points(101, 19, seed: 12)
      let work = Workspace()
      let stored = cost(x, y, metric, 3)
      for rule in Self.rules {
        var solver = EntropicTransport(rule, epsilon: 0.05, tolerance: 1e-10)
        let exact = try solver.solve(cost: stored, in: work)
        (solver.precision, solver.tolerance) = (.f32, 1e-6)
        for r in try withEachInstructionSet({
          try (
            solver.solve(.points(x, y, metric, scale: 3), in: Workspace()),
            solver.solve(cost: stored, in: Workspace())
          )
        }) {
          for s in [r.0, r.1] {
            #expect(
              s.status == .converged && abs(s.cost - exact.cost) < 2e-5 * (1 + exact.cost)
                && s.marginalErrorL1 < 5e-6,
              "\(rule): \(s.status) \(s.cost) \(exact.cost) \(s.marginalErrorL1)")
          }
          #expect(largestDifference(r.1.plan.doubles, exact.plan.doubles) < 1e-5)
        }
      }
    }
    /// Gradients with respect to both clouds and both weights against finite differences of whole
    /// solves.
    @Test(arguments: Metric.allCases, 0..<5) func gradients(_ metric: Metric, _ rule: Int) throws {
      let work = Workspace()
      let x = points(6, 3, seed: 30)
      let y = points(8, 3, seed: 31)
      let a = simplex(6, seed: 32)
      let b = simplex(8, seed: 33)
      let solver = EntropicTransport(Self.rules[rule], epsilon: 0.2, tolerance: 1e-14)
      let hard = [0].contains(rule)
      func value(_ p: [Double], k: Double, o: Double) throws -> Double {
        let s = try solver.solve(
          .points(
            Tensor(Array(p[0..<18]), Shape(6, 3)), Tensor(Array(p[18..<42]), Shape(8, 3)), metric,
            scale: 0.7), source: Tensor(Array(p[42..<48]), Shape(6)),
          target: Tensor(Array(p[48..<56]), Shape(8)), in: work)
        return k * s.cost + o * s.objective
      }
      let at = x.doubles + y.doubles + a.doubles + b.doubles
      for (k, o) in [(1.0, 0.0), (0, 1.0), (0.7, -1.3)] {
        let g = try solver.solve(.points(x, y, metric, scale: 0.7), source: a, target: b, in: work)
          .gradients(cost: k, objective: o, in: work)
        let parts = [g.points!.source.doubles, g.points!.target.doubles, g.source, g.target]
        for part in 0..<4 {
          var direction = Array(repeating: 0.0, count: 56)
          let range = [0..<18, 18..<42, 42..<48, 48..<56][part]
          let d = randomTensor(Shape(range.count), seed: UInt64(40 + part)).doubles
          let mean = d.reduce(0, +) / Double(d.count)
          // one hard side: its sum is the other side's too, so weights move along the simplex
          for (i, at) in range.enumerated() {
            direction[at] = 0.1 * (d[i] - (part > 1 && !hard ? mean : 0))
          }
          let numeric = directionalDerivative(at, along: direction, step: 1e-5) {
            try! value($0, k: k, o: o)
          }
          let analytic = dot(parts[part], Array(direction[range]))
          #expect(
            abs(numeric - analytic) < 1e-6 * (1 + abs(analytic)),
            "\(metric) \(solver.rule) \(k) \(o) part \(part): \(analytic), \(numeric)")
        }
      }
    }
    @Test func sameBitsOnAnyThreads() throws {
      let x = points(130, 3, seed: 7)
      let y = points(257, 3, seed: 8)
      let wide = points(140, 40, seed: 9)
      for type in [ElementType.f32, .f64] {
        let solver = EntropicTransport(.balanced, epsilon: 0.02, tolerance: 1e-5, precision: type)
        let runs = try withThreadCounts { () throws -> [Double] in
          let r = try solver.solve(.points(x, y, .squaredEuclidean, scale: 1), in: Workspace())
          let s = try solver.solve(.points(wide, wide, .euclidean, scale: 4), in: Workspace())
          let g = r.gradients(cost: 1, in: Workspace())
          return r.logU.doubles + s.logU.doubles + g.points!.target.doubles + [r.cost, s.cost]
        }
        #expect(runs.allSatisfy { $0 == runs[0] })
      }
    }
    @Test func problemsThatCannotBePosed() throws {
      let x = points(3, 2, seed: 1)
      func solve(
        _ x: Tensor, _ y: Tensor, epsilon: Double = 1, scale: Double = 1, source: [Double]? = nil
      ) throws {
        _ = try EntropicTransport(.balanced, epsilon: epsilon).solve(
          .points(x, y, .cosine, scale: scale), source: source.map { Tensor($0, Shape($0.count)) },
          in: Workspace())
      }
      #expect(throws: TransportError.fault(.init(.epsilon, value: 0))) {
        try solve(x, x, epsilon: 0)
      }
      #expect(throws: TransportError.fault(.init(.scale, value: -1))) { try solve(x, x, scale: -1) }
      #expect(throws: TransportError.pointShapes([3, 2], [3, 4])) {
        try solve(x, points(3, 4, seed: 1))
      }
      #expect(
        throws: TransportError.fault(.init(.negative, name: "source weights", index: 1, value: -1))
      ) {
        try solve(x, x, source: [1, -1, 1])
      }
    }
  }
}
