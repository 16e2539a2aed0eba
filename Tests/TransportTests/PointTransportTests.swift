import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
@Suite struct PointTransportTests {
  func points(_ n: Int, _ d: Int, seed: UInt64) -> Tensor { uniform(Shape(n, d), seed: seed) }
  func cost(_ x: Tensor, _ y: Tensor, _ scale: Double) -> Tensor {
    let (a, b, d) = (x.doubles, y.doubles, x.shape[1])
    return Tensor((0..<x.shape[0] * y.shape[0]).map { p in
      let (i, j) = (p / y.shape[0], p % y.shape[0])
      return (0..<d).reduce(0) { $0 + (a[i * d + $1] - b[j * d + $1]) * (a[i * d + $1] - b[j * d + $1]) } / scale
    }, Shape(x.shape[0], y.shape[0]))
  }

  /// Against the solver that stores the cost: the same plan, so the same cost and potentials up to their constant.
  @Test(arguments: [(7, 5, 3), (40, 61, 2), (1, 4, 1), (300, 129, 17)]) func agreesWithStoredCost(_ n: Int, _ m: Int, _ d: Int) throws {
    let x = points(n, d, seed: 1), y = points(m, d, seed: 2), a = simplex(n, seed: 3), b = simplex(m, seed: 4), work = Workspace()
    let r = try PointTransport(epsilon: 0.05, scale: 1.5, tolerance: 1e-12).solve(x, y, source: a.doubles, target: b.doubles, in: work)
    let s = try EntropicTransport(.balanced, epsilon: 0.05, tolerance: 1e-13).solve(cost: cost(x, y, 1.5), source: a, target: b, in: work)
    let c = cost(x, y, 1.5).doubles, plan = (0..<n * m).map { exp(r.logU[$0 / m] + r.logV[$0 % m] - c[$0] / 0.05) }
    #expect(r.status == .converged && r.marginalErrorL1 <= 1e-12 && largestDifference(plan, s.plan.doubles) < 1e-12)
    #expect(abs(r.cost - s.cost) < 1e-11)
    let p = r.projection.doubles, q = y.doubles
    for i in 0..<n { for k in 0..<d {
      let row = (0..<m).map { plan[i * m + $0] }, mean = (0..<m).reduce(0) { $0 + row[$1] * q[$1 * d + k] } / row.reduce(0, +)
      #expect(abs(p[i * d + k] - mean) < 1e-11)
    } }
  }
  /// A weight of zero takes no mass, exactly, and changes nothing for the others, even when it is far away or fills whole tiles.
  @Test func zeroWeights() throws {
    let y = points(700, 2, seed: 2), far = Tensor((0..<1400).map { $0 < 1200 ? 50.0 : y.doubles[$0] }, Shape(700, 2)), x = points(9, 2, seed: 1)
    let rest = Tensor(Array(y.doubles[1200...]), Shape(100, 2)), w = (0..<700).map { $0 < 600 ? 0.0 : 1.0 }, solver = PointTransport(epsilon: 0.1, tolerance: 1e-10)
    let r = try solver.solve(x, far, target: w, in: Workspace()), s = try solver.solve(x, rest, in: Workspace())
    #expect(r.logV.prefix(600).allSatisfy { $0 == -.infinity } && r.status == .converged)
    #expect(abs(r.cost - s.cost) < 1e-9 && largestDifference(r.projection.doubles, s.projection.doubles) < 1e-9)
  }
  /// f32 reaches 1e-4 and lands near f64; a tolerance it cannot reach ends as stalled.
  @Test func singlePrecision() throws {
    let x = points(200, 8, seed: 5), y = points(150, 8, seed: 6), work = Workspace(), narrow = (work.converted(x, to: .f32), work.converted(y, to: .f32))
    let wide = try PointTransport(epsilon: 0.1, tolerance: 1e-10).solve(x, y, in: work), r = try PointTransport(epsilon: 0.1).solve(narrow.0, narrow.1, in: work)
    #expect(r.status == .converged && abs(r.cost - wide.cost) < 1e-3 * wide.cost)
    #expect(try PointTransport(epsilon: 0.1, tolerance: 1e-14).solve(narrow.0, narrow.1, in: work).status == .stalled)
  }
  @Test func sameBitsOnAnyThreads() throws {
    let x = points(130, 3, seed: 7), y = points(257, 3, seed: 8)
    let runs = try withThreadCounts { try PointTransport(epsilon: 0.02, tolerance: 1e-8).solve(x, y, in: Workspace()).logU }
    #expect(runs.allSatisfy { $0 == runs[0] })
  }
  @Test func problemsThatCannotBePosed() throws {
    let x = points(3, 2, seed: 1)
    #expect(throws: TransportError.epsilon(0)) { try PointTransport(epsilon: 0).solve(x, x, in: Workspace()) }
    #expect(throws: TransportError.pointShapes([3, 2], [3, 4])) { try PointTransport(epsilon: 1).solve(x, points(3, 4, seed: 1), in: Workspace()) }
    #expect(throws: TransportError.negativeWeight(name: "source", index: 1, value: -1)) { try PointTransport(epsilon: 1).solve(x, x, source: [1, -1, 1], in: Workspace()) }
  }
}
}
