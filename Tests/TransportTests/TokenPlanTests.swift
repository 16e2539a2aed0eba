import TensorRuntime
import TestSupport
import Testing
import Transport
import Foundation

/// algorithm.md 14.1.
@Suite struct TokenPlanVectors {
  static func problem(_ type: ElementType = .f64) -> (q: Tensor, k: Tensor, a: Tensor) {
    let q = (0..<8).map { sin(0.7 * Double($0) + 0.3) }, k = (0..<36).map { cos(0.5 * Double($0) - 0.2) }
    var a: [Double] = []
    for i in 0..<2 {
      let e = (0..<9).map { exp(sin(1.3 * Double(i) + 0.9 * Double($0))) }
      a += e.map { $0 / e.reduce(0, +) }
    }
    func tensor(_ x: [Double], _ s: Shape) -> Tensor { type == .f64 ? Tensor(x, s) : Tensor(x.map { Float($0) }, s) }
    return (tensor(q, Shape(1, 2, 4)), tensor(k, Shape(1, 9, 4)), tensor(a, Shape(1, 1, 2, 9)))
  }
  func solve(_ options: PartialTransport.Options, _ type: ElementType = .f64) throws -> TokenPlans {
    let (q, k, a) = Self.problem(type)
    return try PartialTransport(options, patchesPerFrame: 4).plans(queries: q, keys: k, attention: a, lexical: [1, 1], details: true, in: Workspace())
  }
  func expectNear(_ x: Tensor, _ y: [Double], _ tolerance: Double) {
    for (a, b) in zip(x.doubles, y) { #expect(abs(a - b) <= tolerance, "\(a) for \(b)") }
  }
  static let cost = [
    0.23651186, 1, 0.55595113, 0.05888386, 0.98702895, 0.76424029, 0.05614483, 0.9174281, 0.90965802,
    0.97148763, 0, 0.65486532, 0.92196287, 0.05857739, 0.4319595, 0.9912537, 0.09541861, 0.34678929,
  ]
  static let plan = [
    0.22852826, 0, 0.1169698, 0.32600606, 1e-8, 0.00069078, 0.32779684, 8e-8, 8.17e-6,
    2e-8, 0.27413719, 0.00350095, 0, 0.24383064, 0.11501755, 0, 0.22651048, 0.13700317,
  ]

  @Test func relaxed() throws {
    let r = try solve(.init())
    expectNear(r.cost!, Self.cost, 1e-8)
    expectNear(r.plan, Self.plan, 1e-8)
    #expect(r.iterations == [29])
    #expect(abs(r.mass[0] - 0.93346459) < 1e-8)
    #expect(r.delta[0] < 1e-3)
  }
  @Test func relaxedSinglePrecision() throws {
    let r = try solve(.init(), .f32)
    expectNear(r.plan, Self.plan, 1e-6)
    #expect(r.iterations == [29])
  }
  @Test(arguments: [(0.5, 7, 1.03935216), (1.0, 61, 1.0)]) func otherMasses(_ mass: Double, _ iterations: Int, _ total: Double) throws {
    var o = PartialTransport.Options()
    o.mass = mass
    let r = try solve(o)
    #expect(r.iterations == [iterations])
    #expect(abs(r.mass[0] - total) < (mass == 1 ? 1e-3 : 1e-8))
  }
  @Test func exactMass() throws {
    let r = try solve(.exactMass), p = r.raw!.doubles
    #expect(abs(p[0..<9].reduce(0, +) - 0.39999947) < 1e-8)
    #expect(abs(p[9..<18].reduce(0, +) - 0.50000053) < 1e-8)
    #expect(abs(r.mass[0] - 0.9) < 1e-12)
  }
}
