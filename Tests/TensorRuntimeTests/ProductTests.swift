import TensorRuntime
import Testing

/// Matrix products in shapes that reach every algorithm: whole and ragged tiles, packed and
/// unpacked operands, threads with rows or columns of their own. A sum of k rounded products is off
/// by at most about sqrt(k) u of its scale (u = 2^-24).
@Suite(.serialized) struct ProductTests {
  @Test(arguments: [
    (1, 1, 1), (5, 70, 33), (13, 33, 385), (40, 700, 88), (256, 96, 200), (97, 530, 401),
    (200, 1100, 50), (1600, 40, 60), (600, 400, 30), (230, 144, 770), (1300, 192, 96),
    (50, 320, 2048), (1, 1100, 300), (3, 260, 1030), (4, 4100, 70), (90, 260, 2700),
    (300, 1, 260), (3, 5, 7), (12, 32, 384), (40, 88, 900), (300, 70, 33), (65, 800, 100),
  ])
  func products(m: Int, n: Int, k: Int) {
    let a = Inputs.numbers(Shape(m, k), 1)
    let b = Inputs.numbers(Shape(k, n), 2)
    let at = Inputs.numbers(Shape(k, m), 1)
    let bt = Inputs.numbers(Shape(n, k), 2)
    let bias = Inputs.numbers(Shape(n), 3)
    let tolerance = 1e-7 * (4 + Double(k).squareRoot())
    let what = "gemm \(m) x \(n) x \(k)"
    compare(what, [a, b], tolerance: Tolerance(tolerance)) { t in
      [Reference.matmul(t[0], t[1])]
    } _: { t, w in
      [w.matmul(t[0], t[1])]
    }
    compare(what + ", A transposed", [at, b], tolerance: Tolerance(tolerance)) { t in
      [Reference.matmul(t[0], t[1], transposeA: true, alpha: -0.5)]
    } _: { t, w in
      [w.matmul(t[0], t[1], transposeA: true, alpha: -0.5)]
    }
    compare(what + ", both transposed", [at, bt], tolerance: Tolerance(tolerance)) { t in
      [Reference.matmul(t[0], t[1], transposeA: true, transposeB: true)]
    } _: { t, w in
      [w.matmul(t[0], t[1], transposeA: true, transposeB: true)]
    }
    compare(what + ", linear", [a, bt, bias], tolerance: Tolerance(tolerance)) { t in
      let y = Reference.linear(t[0], weight: t[1], bias: t[2])
      return [y, y]
    } _: { t, w in
      [
        w.linear(t[0], weight: t[1], bias: t[2]),
        w.linear(t[0], weight: t[1], bias: t[2], frozen: true),
      ]
    }
    compare(what + ", linear backward", [a, b], tolerance: Tolerance(tolerance)) { t in
      let dx = Reference.matmul(t[0], t[1])
      return [dx, dx]
    } _: { t, w in
      [
        w.linearBackwardInput(t[0], weight: t[1]),
        w.linearBackwardInput(t[0], weight: t[1], frozen: true),
      ]
    }
    let before = Inputs.numbers(Shape(m, n), 4)
    compare(
      what + ", with SiLU, and back through it", [a, bt, b, before],
      tolerance: Tolerance(4 * tolerance)
    ) { t in
      let y = Reference.linear(t[0], weight: t[1], bias: nil)
      return [
        y, Reference.activation(.silu, y),
        Reference.activationBackward(.silu, Reference.matmul(t[0], t[2]), x: t[3]),
      ]
    } _: { t, w in
      var active = w.zeros(Shape(m, n), t[0].type)
      return [
        w.linear(t[0], weight: t[1], bias: nil, then: .silu, into: &active), active,
        w.linearBackwardInput(t[0], weight: t[2], through: .silu, at: t[3]),
      ]
    }
    compare(what + ", accumulated", [at, b], tolerance: Tolerance(2 * tolerance)) { t in
      let once = Reference.matmul(t[0], t[1], transposeA: true)
      return [Tensor(once.doubles.map { 2 * $0 }, once.shape)]
    } _: { t, w in
      var sum: Tensor? = w.zeros(Shape(m, n), t[0].type)
      for _ in 0..<2 { w.linearBackwardWeight(t[0], x: t[1], addingTo: &sum) }
      return [sum!]
    }
  }

  /// The epilogue writes its columns of a wider matrix, and no others.
  @Test func epilogueWritesItsColumns() {
    let work = Workspace()
    var active = work.zeros(Shape(30, 50))
    let x = Inputs.numbers(Shape(30, 64), 1)
    let weight = Inputs.numbers(Shape(40, 64), 2)
    let y = work.linear(x, weight: weight, bias: nil, then: .silu, into: &active, at: 7)
    let expected = work.activation(.silu, y).floats
    let found = active.floats
    #expect(
      found.indices.allSatisfy { i in
        let (row, column) = (i / 50, i % 50 - 7)
        return found[i] == (0..<40 ~= column ? expected[row * 40 + column] : 0)
      })
  }

  @Test(arguments: [
    (7, 64, 64, 64), (7, 3, 1, 9), (7, 37, 50, 29), (70, 5, 40, 12), (65, 13, 17, 30),
    (64, 64, 64, 64),
  ])
  func batched(batch: Int, m: Int, n: Int, k: Int) {
    let a = Inputs.numbers(Shape(batch, m, k), 1)
    let b = Inputs.numbers(Shape(batch, k, n), 2)
    compare(
      "batched gemm, \(batch) of \(m) x \(n) x \(k)", [a, b],
      tolerance: Tolerance(1e-7 * (4 + Double(k).squareRoot()))
    ) { t in
      [Reference.batchedMatmul(t[0], t[1])]
    } _: { t, w in
      [w.batchedMatmul(t[0], t[1])]
    }
  }

  /// A frozen weight's panels are kept, and forgotten when the weight changes.
  @Test func panelsFollowTheWeight() {
    let work = Workspace()
    let x = Inputs.numbers(Shape(20, 90), 1)
    var weight = Inputs.numbers(Shape(70, 90), 2)
    let before = work.linear(x, weight: weight, bias: nil, frozen: true)
    let other = weight
    work.scale(&weight, by: 2)
    let after = work.linear(x, weight: weight, bias: nil, frozen: true)
    work.scale(&weight, by: 2)
    let last = work.linear(x, weight: weight, bias: nil, frozen: true)
    #expect(
      after.floats == before.floats.map { 2 * $0 } && last.floats == before.floats.map { 4 * $0 })
    #expect(work.linear(x, weight: other, bias: nil, frozen: true).floats == before.floats)
    work.fill(&weight, with: 0)
    #expect(work.linear(x, weight: weight, bias: nil, frozen: true).floats.allSatisfy { $0 == 0 })
  }

  /// A cleared gradient is zero for whoever looks, and the first product overwrites it, whatever it
  /// was.
  @Test func clearedGradients() {
    let work = Workspace()
    let x = Inputs.numbers(Shape(20, 9), 1)
    let dy = Inputs.numbers(Shape(20, 7), 2)
    var gradient: Tensor? = work.full(Shape(7, 9), .nan)
    var other: Tensor? = work.full(Shape(7, 9), .nan)
    work.fill(&gradient!, with: 0)
    work.fill(&other!, with: 0)
    let copy = other!
    #expect(copy.floats.allSatisfy { $0 == 0 })
    work.linearBackwardWeight(dy, x: x, addingTo: &gradient)
    work.linearBackwardWeight(dy, x: x, addingTo: &other)
    #expect(
      gradient!.floats == work.matmul(dy, x, transposeA: true).floats
        && other!.floats == gradient!.floats && copy.floats.allSatisfy { $0 == 0 })
    work.linearBackwardWeight(dy, x: x, addingTo: &gradient)
    #expect(gradient!.floats == other!.floats.map { 2 * $0 })
  }

  /// bf16 is taken where the processor multiplies it no slower than f32, and always or never on one
  /// machine.
  @Test func preferenceOfBF16() {
    defer { Machine.computeType = .f32 }
    let (taken, rate) = Machine.prefer(.bf16)
    #expect(
      Machine.computeType == taken && (taken == .bf16 || rate == nil || rate! < 0.75)
        && (taken == .f32 || Machine.hasBF16))
    #expect(Machine.prefer(.bf16).taken == taken)
    #expect(Machine.prefer(.f32).taken == .f32 && Machine.computeType == .f32)
  }
}
