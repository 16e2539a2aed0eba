import Foundation
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  /// The vectors of algorithm.md 14.1.
  @Suite struct TokenPlanVectors {
    static func problem(_ type: ElementType = .f64) -> (q: Tensor, k: Tensor, a: Tensor) {
      let q = (0..<8).map { sin(0.7 * Double($0) + 0.3) }
      let k = (0..<36).map { cos(0.5 * Double($0) - 0.2) }
      var a: [Double] = []
      for i in 0..<2 {
        let e = (0..<9).map { exp(sin(1.3 * Double(i) + 0.9 * Double($0))) }
        a += e.map { $0 / e.reduce(0, +) }
      }
      func tensor(_ x: [Double], _ s: Shape) -> Tensor {
        type == .f64 ? Tensor(x, s) : Tensor(x.map { Float($0) }, s)
      }
      return (tensor(q, Shape(1, 2, 4)), tensor(k, Shape(1, 9, 4)), tensor(a, Shape(1, 1, 2, 9)))
    }
    func solve(_ options: TokenTransport.Options, _ type: ElementType = .f64) throws -> TokenPlans {
      let (q, k, a) = Self.problem(type)
      return try TokenTransport(options, patchesPerFrame: 4).plans(
        queries: q, keys: k, attention: a, lexical: [1, 1], details: true, in: Workspace())
    }
    func expectNear(_ x: Tensor, _ y: [Double], _ tolerance: Double) {
      for (a, b) in zip(x.doubles, y) { #expect(abs(a - b) <= tolerance, "\(a) for \(b)") }
    }
    static let cost = [
      0.23651186, 1, 0.55595113, 0.05888386, 0.98702895, 0.76424029, 0.05614483, 0.9174281,
      0.90965802,
      0.97148763, 0, 0.65486532, 0.92196287, 0.05857739, 0.4319595, 0.9912537, 0.09541861,
      0.34678929,
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
    @Test(arguments: [(0.5, 7, 1.03935216), (1.0, 61, 1.0)]) func otherExponents(
      _ mass: Double, _ iterations: Int, _ total: Double
    ) throws {
      var o = TokenTransport.Options()
      o.marginalExponent = mass
      let r = try solve(o)
      #expect(r.iterations == [iterations])
      #expect(abs(r.mass[0] - total) < (mass == 1 ? 1e-3 : 1e-8))
    }
    @Test func exactMass() throws {
      let r = try solve(.exactMass)
      let p = r.raw!.doubles
      #expect(abs(p[0..<9].reduce(0, +) - 0.39999947) < 1e-8)
      #expect(abs(p[9..<18].reduce(0, +) - 0.50000053) < 1e-8)
      #expect(abs(r.mass[0] - 0.9) < 1e-12)
    }

    @Test func fusionAndItsGradient() throws {
      let work = Workspace()
      let r = try solve(.init())
      let (_, _, a) = Self.problem()
      let fused = work.priorFusion(attention: a, prior: r.plan, fused: [1, 1], epsilon: 1e-6)
      expectNear(
        fused,
        [
          0.19207953, 1.84e-6, 0.26034639, 0.42012213, 5.4e-7, 0.00021845, 0.12721507, 8.5e-7,
          1.519e-5,
          1.56e-6, 0.36554784, 0.00216818, 2.8e-7, 0.0542332, 0.04293789, 8.9e-7, 0.35424294,
          0.18086723,
        ], 1e-8)
      let g = Tensor((0..<18).map { cos(0.4 * Double($0)) }, a.shape)
      let ds = work.priorFusionBackward(g, attention: a, y: fused, fused: [1, 1], epsilon: 1e-6)
      expectNear(
        ds,
        [
          0.10914222, 9e-7, 0.06897107, -0.02916848, -2.5e-7, -0.00018523, -0.14873733, -1.17e-6,
          -2.173e-5,
          -1.91e-6, -0.35890339, -0.0013779, -7e-8, 0.00761092, 0.01920982, 5.6e-7, 0.2355734,
          0.09788856,
        ], 1e-8)
    }
  }

  /// Random batches: against double precision, a loop over pairs, other instruction sets and thread
  /// counts.
  @Suite struct TokenPlanBatches {
    struct Batch {
      var q, k, a: Tensor
      let lexical: [UInt8]
      func converted(_ type: ElementType) -> Batch {
        let work = Workspace()
        return Batch(
          q: work.converted(q, to: type), k: work.converted(k, to: type),
          a: work.converted(a, to: type), lexical: lexical)
      }
      func pair(_ p: Int) -> Batch {
        let l = q.shape[1]
        return Batch(
          q: q.slice(p..<p + 1), k: k.slice(p..<p + 1), a: a.slice(p..<p + 1),
          lexical: Array(lexical[p * l..<(p + 1) * l]))
      }
      /// Values of the lexical rows, in order.
      func rows(_ t: Tensor) -> [Double] {
        let (b, h, l, m) = (a.shape[0], a.shape[1], a.shape[2], a.shape[3])
        let x = t.doubles
        var y: [Double] = []
        for p in 0..<b {
          for head in 0..<h {
            for i in 0..<l where lexical[p * l + i] != 0 {
              let at: Int = ((p * h + head) * l + i) * m
              y += x[at..<at + m]
            }
          }
        }
        return y
      }
    }
    /// Three pairs of 7 rows: 5 lexical, none, 1; M = 1 + frames · side².
    static func batch(frames: Int = 3, side: Int = 5, heads: Int = 2, seed: UInt64 = 1) -> Batch {
      let m = 1 + frames * side * side
      let work = Workspace()
      let marks: [UInt8] = [0, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
      let logits = randomTensor(Shape(3, heads, 7, m), seed: seed, scale: 2)
      return Batch(
        q: randomTensor(Shape(3, 7, 12), seed: seed + 1),
        k: randomTensor(Shape(3, m, 12), seed: seed + 2), a: work.softmax(logits), lexical: marks)
    }
    func solve(_ b: Batch, _ o: TokenTransport.Options = .init(), side: Int = 5) throws
      -> TokenPlans
    {
      try TokenTransport(o, patchesPerFrame: side * side).plans(
        queries: b.q, keys: b.k, attention: b.a, lexical: b.lexical, details: true, in: Workspace())
    }
    static var variants: [TokenTransport.Options] {
      var sharp = TokenTransport.Options()
      var legacy = sharp
      var exactSharp = TokenTransport.Options.exactMass
      var exact = exactSharp
      sharp.epsilon = 0.012  // the log domain
      legacy.geometry = .legacy
      (exactSharp.epsilon, exactSharp.maxIterations) = (0.015, 50)
      exact.maxIterations = 50
      return [.init(), sharp, legacy, exact, exactSharp]
    }

    @Test(arguments: 0..<5) func singlePrecisionAgainstDouble(_ variant: Int) throws {
      let b = Self.batch()
      let o = Self.variants[variant]
      let exact = try solve(b, o)
      for r in try withEachInstructionSet({ try solve(b.converted(.f32), o) }) {
        // cost: 6e-8 of sums of a few; the plan: exponents to 1/eps = 80 magnify that
        #expect(
          largestDifference(b.rows(r.cost!), b.rows(exact.cost!)) < 2e-6
            * (o.geometry == .legacy ? 4 : 1))
        #expect(largestDifference(b.rows(r.plan), b.rows(exact.plan)) < 2e-4)
        #expect(r.iterations == exact.iterations)
        #expect(exact.iterations[0] > 0 && exact.iterations[2] == 0 && exact.mass[2] == 0)
      }
    }
    /// A scaled solve and one forced into the log domain are the same iteration.
    @Test func theTwoDomainsAgree() throws {
      let b = Self.batch()
      var o = TokenTransport.Options()
      for exact in [false, true] {
        o.solver = exact ? .exactMass : .unbalanced
        o.maxIterations = 20
        o.epsilon = 1.0 / 60
        let scaled = try solve(b, o)
        o.epsilon = 1.0 / 60 * (1 - 1e-12)
        let logs = try solve(b, o)
        #expect(largestDifference(b.rows(scaled.plan), b.rows(logs.plan)) < 1e-8)
        #expect(scaled.iterations == logs.iterations)
      }
    }
    /// The translation step: the same fixed point in fewer iterations, in both domains and both
    /// types; with mass 1 it does nothing.
    @Test(arguments: [0.05, 0.012]) func translation(_ epsilon: Double) throws {
      let b = Self.batch()
      var o = TokenTransport.Options()
      (o.epsilon, o.tolerance, o.maxIterations) = (epsilon, 1e-11, 2000)
      let plain = try solve(b, o)
      o.translation = true
      let fast = try solve(b, o)
      #expect(largestDifference(b.rows(plain.plan), b.rows(fast.plan)) < 1e-9)
      #expect(fast.iterations[0] < plain.iterations[0] && fast.iterations[0] > 0)
      (o.tolerance, o.marginalExponent) = (1e-3, 0.9)
      let single = try solve(b.converted(.f32), o)
      #expect(largestDifference(b.rows(single.plan), b.rows(plain.plan)) < 2e-3)
      (o.marginalExponent, o.tolerance) = (1, 1e-6)
      let hard = try solve(b, o)
      o.translation = false
      #expect(try b.rows(solve(b, o).plan) == b.rows(hard.plan))
    }
    @Test func rowsSumToOne() throws {
      let b = Self.batch()
      let m = b.a.shape[3]
      let p = b.rows(try solve(b).plan)
      for i in 0..<p.count / m { #expect(abs(p[i * m..<(i + 1) * m].reduce(0, +) - 1) < 1e-12) }
    }
    @Test func exactMassKeepsItsCaps() throws {
      var o = TokenTransport.Options.exactMass
      (o.maxIterations, o.tolerance) = (5000, 1e-10)
      let b = Self.batch()
      let r = try solve(b, o)
      let m = b.a.shape[3]
      let p = Array(b.rows(r.raw!)[0..<5 * m])
      #expect(abs(r.mass[0] - 0.9) < 1e-12)
      for i in 0..<5 { #expect(p[i * m..<(i + 1) * m].reduce(0, +) <= 0.2 + 1e-8) }
      for j in 0..<m { #expect((0..<5).reduce(0) { $0 + p[$1 * m + j] } <= 1 / Double(m) + 1e-8) }
    }
    @Test func batchEqualsOneByOne() throws {
      let b = Self.batch().converted(.f32)
      let all = try solve(b)
      for p in 0..<3 {
        let one = try solve(b.pair(p))
        #expect(b.pair(p).rows(all.plan.slice(p..<p + 1)) == b.pair(p).rows(one.plan))
        #expect(Array(all.iterations[p * 2..<p * 2 + 2]) == one.iterations)
      }
    }
    @Test func threadsDoNotChangeTheBits() throws {
      let b = Self.batch(frames: 8, side: 7, heads: 4).converted(.f32)
      let results = try withThreadCounts { b.rows(try solve(b, side: 7).plan) }
      #expect(results[0] == results[1] && results[0] == results[2])
    }
    /// Head h of the plan depends on head h of the attention alone.
    @Test func headsArePermutedTogether() throws {
      let b = Self.batch()
      let work = Workspace()
      var swapped = b
      swapped.a = work.concatenated(
        [work.narrowed(b.a, axis: 1, 1..<2), work.narrowed(b.a, axis: 1, 0..<1)], axis: 1)
      let (x, y) = (try solve(b), try solve(swapped))
      #expect(
        work.narrowed(x.raw!, axis: 1, 0..<1).doubles
          == work.narrowed(y.raw!, axis: 1, 1..<2).doubles)
    }
    @Test func aNonFiniteAttentionCostsOneEverywhere() throws {
      var b = Self.batch()
      let row = b.a.shape[3]
      b.a.withMutableSpan(of: Double.self) { $0[row] = .nan }  // pair 0, head 0, row 1
      for type in [ElementType.f64, .f32] {
        let r = try solve(b.converted(type))
        let c = b.rows(r.cost!)
        let m = b.a.shape[3]
        #expect(c[0..<5 * m].allSatisfy { $0 == 1 })
        #expect(b.rows(r.plan).allSatisfy { $0.isFinite })
        #expect(c[5 * m..<10 * m].contains { $0 == 0 })
      }
    }
    @Test func badOptionsAreRefused() {
      var o = TokenTransport.Options()
      #expect(throws: TokenTransport.OptionError.patchesNotSquare(8)) {
        try TokenTransport(o, patchesPerFrame: 8)
      }
      o.epsilon = 0
      #expect(throws: TokenTransport.OptionError.notPositive("epsilon", 0)) {
        try TokenTransport(o, patchesPerFrame: 9)
      }
      (o.epsilon, o.marginalExponent) = (0.05, 1.5)
      #expect(throws: TokenTransport.OptionError.exponentOutOfRange(1.5)) {
        try TokenTransport(o, patchesPerFrame: 9)
      }
    }
  }
}
