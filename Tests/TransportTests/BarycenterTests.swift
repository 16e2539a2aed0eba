import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  /// Barycenters against closed forms and dense iterations. (tools/python/test_pisces_ot.py has
  /// more, through the C library.)
  @Suite struct BarycenterTests {
    let x = (0..<120).map { Double($0) / 119 }
    var line: Tensor {
      Tensor(x.flatMap { p in x.map { (p - $0) * (p - $0) } }, Shape(x.count, x.count))
    }
    func gaussian(_ mean: Double, _ deviation: Double) -> [Double] {
      let g = x.map { exp(-($0 - mean) * ($0 - mean) / (2 * deviation * deviation)) }
      let sum = g.reduce(0, +)
      return g.map { $0 / sum }
    }
    func symmetric(_ n: Int, seed: UInt64) -> Tensor {
      let c = uniform(Shape(n, n), seed: seed).doubles
      return Tensor(
        (0..<n * n).map { (p: Int) -> Double in c[p] + c[p % n * n + p / n] }, Shape(n, n))
    }
    func solve(
      _ b: [[Double]], _ cost: Tensor, _ epsilon: Double, weights: [Double]? = nil,
      debiased: Bool = false, own: Tensor? = nil, tolerance: Double = 1e-11
    ) throws -> Barycenter.Result {
      try Barycenter(
        epsilon: epsilon, isDebiased: debiased, tolerance: tolerance, maxIterations: 50_000
      ).solve(
        histograms: Tensor(b.flatMap { $0 }, Shape(b.count, b[0].count)), cost: cost, own: own,
        weights: weights.map { Tensor($0, Shape($0.count)) }, in: Workspace())
    }
    /// The iteration of Benamou et al. 2015, section 3, and Janati et al. 2020, algorithm 1, by
    /// logarithms; costs one a histogram.
    func dense(
      _ b: [[Double]], _ costs: [[Double]], _ m: Int, _ epsilon: Double, _ w: [Double],
      debiased: Bool, iterations: Int
    ) -> [Double] {
      func lse(_ v: [Double]) -> Double {
        let top = v.max()!
        return top + log(v.reduce(0) { $0 + exp($1 - top) })
      }
      let n = b[0].count
      var g = b.map { _ in Array(repeating: 0.0, count: m) }
      var l = Array(repeating: 0.0, count: m)
      var a = l
      for _ in 0..<iterations {
        let h = b.indices.map { k in
          let f = (0..<n).map { i in
            log(b[k][i]) - lse((0..<m).map { g[k][$0] - costs[k][i * m + $0] / epsilon })
          }
          return (0..<m).map { j in lse((0..<n).map { f[$0] - costs[k][$0 * m + j] / epsilon }) }
        }
        a = (0..<m).map { j in l[j] + b.indices.reduce(0) { $0 + w[$1] * h[$1][j] } }
        g = h.map { hk in (0..<m).map { a[$0] - hk[$0] } }
        if debiased {
          l = (0..<m).map { j in
            (l[j] + a[j] - lse((0..<m).map { l[$0] - costs[0][j * m + $0] / epsilon })) / 2
          }
        }
      }
      return a.map { exp($0) }
    }

    @Test(arguments: [1e-2, 1e-3, 3e-4], [[0.5, 0.5], [0.8, 0.2]]) func translatedGaussians(
      _ epsilon: Double, _ w: [Double]
    ) throws {
      let b = [gaussian(0.35, 0.06), gaussian(0.6, 0.06)]
      let mean = w[0] * 0.35 + w[1] * 0.6
      let blurred = try solve(b, line, epsilon, weights: w)
      let sharp = try solve(b, line, epsilon, weights: w, debiased: true, tolerance: 1e-9)
      #expect(blurred.status == .converged && sharp.status == .converged)
      // the sampled line stands for the integral: 120 points, tails cut at 5 deviations
      #expect(
        largestDifference(
          blurred.barycenter.doubles, gaussian(mean, (0.0036 + epsilon / 2).squareRoot())) < 2e-5)
      #expect(largestDifference(sharp.barycenter.doubles, gaussian(mean, 0.06)) < 1e-6)
      #expect(abs(blurred.objective - blurred.dual!) < 1e-10 && sharp.dual == nil)
      #expect(
        blurred.marginalErrorL1 < 1e-10 && blurred.errors.count == 2
          && abs(blurred.mass - 1) < 1e-10)
    }
    @Test func oneHistogramAndEqualOnes() throws {
      let b = zip(gaussian(0.3, 0.06), gaussian(0.65, 0.1)).map { ($0 + $1) / 2 }
      for count in [1, 3] {
        let copies = Array(repeating: b, count: count)
        #expect(
          largestDifference(
            try solve(copies, line, 1e-3, debiased: true, tolerance: 1e-10).barycenter.doubles, b)
            < 1e-7)
        // of one, K'(b / K 1)
        let k = line.doubles.map { exp(-$0 / 1e-3) }
        let n = b.count
        let f = (0..<n).map { i in b[i] / (0..<n).reduce(0) { $0 + k[i * n + $1] } }
        #expect(
          largestDifference(
            try solve(copies, line, 1e-3).barycenter.doubles,
            (0..<n).map { j in (0..<n).reduce(0) { $0 + f[$1] * k[$1 * n + j] } }) < 1e-12)
      }
    }
    @Test(arguments: [1, 0.05, 0.004]) func againstDense(_ epsilon: Double) throws {
      let b = (0..<3).map { simplex(9, seed: $0).doubles }
      let w = [0.2, 0.5, 0.3]
      let costs = uniform(Shape(3, 9, 14), seed: 5)
      let each = try solve(b, costs, epsilon, weights: w)
      #expect(each.status == .converged)
      #expect(
        largestDifference(
          each.barycenter.doubles,
          dense(
            b, (0..<3).map { costs[row: $0].doubles }, 14, epsilon, w, debiased: false,
            iterations: 1500)) < 1e-8)
      // the plans of the potentials have the marginals
      for k in 0..<3 {
        let p = (0..<9 * 14).map {
          exp(
            each.logU[row: k].doubles[$0 / 14] + each.logV[row: k].doubles[$0 % 14] - costs[row: k]
              .doubles[$0] / epsilon)
        }
        #expect(
          largestDifference((0..<9).map { i in (0..<14).reduce(0) { $0 + p[i * 14 + $1] } }, b[k])
            < 1e-10)
        #expect(
          largestDifference(
            (0..<14).map { j in (0..<9).reduce(0) { $0 + p[$1 * 14 + j] } }, each.barycenter.doubles
          ) < 1e-10)
      }
      let shared = costs[row: 0]
      let once = try solve(b, shared, epsilon, weights: w)
      let thrice = try solve(b, Workspace().stacked([shared, shared, shared]), epsilon, weights: w)
      #expect(largestDifference(once.barycenter.doubles, thrice.barycenter.doubles) < 1e-10)
    }
    /// A fixed number of plain iterations is the textbook's, debiased or not, with costs shared or
    /// not.
    @Test(arguments: [0.3, 0.01], [1, 20]) func fixedIterations(
      _ epsilon: Double, _ iterations: Int
    ) throws {
      let b = [simplex(12, seed: 0).doubles, simplex(12, seed: 1).doubles]
      let cost = symmetric(12, seed: 3)
      for debiased in [false, true] {
        let expected = dense(
          b, [cost.doubles, cost.doubles], 12, epsilon, [0.5, 0.5], debiased: debiased,
          iterations: iterations)
        let forms: [(Tensor, Tensor?)] = [(cost, nil), (Workspace().stacked([cost, cost]), cost)]
        for (c, own) in forms {
          let r = try Barycenter(
            epsilon: epsilon, isDebiased: debiased, tolerance: 0, maxIterations: iterations
          ).solve(
            histograms: Tensor(b.flatMap { $0 }, Shape(2, 12)), cost: c, own: own, in: Workspace())
          #expect(r.iterations == iterations && r.status == .maxIterations)
          #expect(largestDifference(r.barycenter.doubles, expected) < 1e-12)
        }
      }
    }
    @Test(arguments: [10, 1e-2, 1e-4, 1e-5]) func anyEpsilon(_ epsilon: Double) throws {
      let far = x.map { $0 > 0.9 ? 1.0 : 0.0 }
      let r = try solve([gaussian(0.2, 0.03), far], line, epsilon, tolerance: 1e-8)
      #expect(r.status == .converged && r.marginalErrorL1 < 1e-6, "\(r.status) \(r.residual)")
      #expect(abs(r.barycenter.doubles.reduce(0, +) - 1) < 1e-7)
      #expect(r.logU[row: 1].doubles[0] == -.infinity)
    }
    @Test func permutingHistogramsAndAtoms() throws {
      var stream = RandomStream(seed: 1, .test)
      let order = stream.permutation(120)
      let b = [gaussian(0.3, 0.05), gaussian(0.5, 0.1), simplex(120, seed: 2).doubles]
      let w = [0.5, 0.2, 0.3]
      let c = line.doubles
      let first = try solve(b, line, 0.01, weights: w).barycenter.doubles
      #expect(
        largestDifference(
          try solve([b[2], b[0], b[1]], line, 0.01, weights: [0.3, 0.5, 0.2]).barycenter.doubles,
          first) < 1e-11)
      let moved = try solve(
        b.map { h in order.map { h[$0] } },
        Tensor(order.flatMap { i in order.map { c[i * 120 + $0] } }, Shape(120, 120)), 0.01,
        weights: w
      ).barycenter.doubles
      #expect(largestDifference(moved, order.map { first[$0] }) < 1e-11)
    }
    @Test func threadsAndInstructionSetsDoNotChangeTheBits() throws {
      let b = [gaussian(0.2, 0.05), x.map { $0 < 0.4 ? 0 : 1.0 }, simplex(120, seed: 2).doubles]
      for (epsilon, debiased) in [(0.01, false), (0.01, true), (1e-4, false), (1e-4, true)] {
        func bits() throws -> [Double] {
          let r = try Barycenter(epsilon: epsilon, isDebiased: debiased, maxIterations: 120).solve(
            histograms: Tensor(b.flatMap { $0 }, Shape(3, 120)), cost: line, in: Workspace())
          return r.barycenter.doubles + r.logU.doubles + r.logV.doubles + r.errors + [r.objective]
        }
        let first = try bits()
        for r in try withThreadCounts(bits) + withEachInstructionSet(bits) { #expect(r == first) }
      }
    }
    @Test func interruptedIsReported() throws {
      let r = try Barycenter(epsilon: 1e-3).solve(
        histograms: Tensor(gaussian(0.2, 0.05) + gaussian(0.8, 0.1), Shape(2, 120)), cost: line,
        progress: { iterations, _ in iterations < 5 }, in: Workspace())
      #expect(r.status == .interrupted && r.iterations == 5 && r.marginalErrorL1 > 1e-6)
    }
    @Test func badProblemsAreRefused() {
      func refuses(
        _ e: TransportError, _ b: Tensor, _ c: Tensor, weights: Tensor? = nil, epsilon: Double = 1,
        debiased: Bool = false
      ) {
        #expect(throws: e) {
          try Barycenter(epsilon: epsilon, isDebiased: debiased).solve(
            histograms: b, cost: c, weights: weights, in: Workspace())
        }
      }
      let b = Tensor.full(Shape(2, 3), 1, type: .f64)
      let c = uniform(Shape(3, 4), seed: 1)
      refuses(.histogramShapes([2, 3], cost: [4, 3]), b, uniform(Shape(4, 3), seed: 1))
      refuses(.histogramShapes([2, 3], cost: [3, 3, 4]), b, uniform(Shape(3, 3, 4), seed: 1))
      refuses(
        .fault(.init(.negative, name: "histogram 1", index: 2, value: -1)),
        Tensor([1.0, 1, 1, 1, 1, -1], Shape(2, 3)), c)
      refuses(
        .fault(.init(.sum, name: "histogram 0", index: 2)),
        Tensor([0.0, 0, 0, 1, 1, 1], Shape(2, 3)), c)
      refuses(
        .fault(.init(.notFinite, name: "cost", index: 11, value: .infinity)), b,
        Tensor((0..<12).map { $0 == 11 ? .infinity : 1.0 }, Shape(3, 4)))
      refuses(
        .weightShape(name: "barycentric weights", found: [3], expected: [2]), b, c,
        weights: Tensor([1.0, 1, 1], Shape(3)))
      refuses(.ownCost(found: nil, expected: 4), b, c, debiased: true)
      refuses(.fault(.init(.epsilon, value: 0)), b, c, epsilon: 0)
    }
  }
}
