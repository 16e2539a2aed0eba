import TensorRuntime
import Testing

/// Products, convolution and attention on every set of kernels this machine has, against the f64
/// bodies, in shapes that reach every way through the drivers: whole and ragged tiles, packed and
/// unpacked operands, members with rows or columns of their own. The bits must be the same for any
/// number of threads. Tolerances: a sum of k rounded products is off by at most about sqrt(k) u of
/// its scale (u = 2^-24); bf16 operands are rounded to 2^-9, which exact bf16 inputs of a product
/// do not feel, but probabilities do.
@Suite(.serialized) struct VariantTests {
  enum Variant: String, Sendable, CaseIterable {
    case scalar, avx2, avx512, bf16
    var isPresent: Bool {
      self == .bf16
        ? Machine.hasBF16 && Machine.detected == .avx512
        : Machine.available.contains(Machine.InstructionSet(rawValue: rawValue)!)
    }
    func use<R>(_ body: () throws -> R) rethrows -> R {
      let threads = Machine.threads
      defer {
        Machine.limit(to: .avx512)
        Machine.products = .f32
        Machine.threads = threads
      }
      if self == .bf16 {
        Machine.products = .bf16
      } else {
        Machine.limit(to: Machine.InstructionSet(rawValue: rawValue)!)
      }
      return try body()
    }
  }

  @Test(.enabled(if: Variant.scalar.isPresent)) func scalar() { check(.scalar) }
  @Test(.enabled(if: Variant.avx2.isPresent, "this processor has no AVX2")) func avx2() {
    check(.avx2)
  }
  @Test(.enabled(if: Variant.avx512.isPresent, "this processor has no AVX-512")) func avx512() {
    check(.avx512)
  }
  @Test(.enabled(if: Variant.bf16.isPresent, "this processor has no AVX512-BF16")) func bf16() {
    check(.bf16)
  }

  private func check(_ variant: Variant) {
    for s in [
      (1, 1, 1), (5, 70, 33), (13, 33, 385), (40, 700, 88), (256, 96, 200), (97, 530, 401),
      (200, 1100, 50), (1600, 40, 60), (600, 400, 30), (230, 144, 770), (1300, 192, 96),
      (50, 320, 2048), (1, 1100, 300), (3, 260, 1030), (4, 4100, 70), (90, 260, 2700),
      (300, 1, 260),
    ] { products(variant, s.0, s.1, s.2) }
    for s in [
      (7, 64, 64, 64), (7, 3, 1, 9), (7, 37, 50, 29), (70, 5, 40, 12), (65, 13, 17, 30),
      (64, 64, 64, 64),
    ] { batched(variant, s.0, s.1, s.2, s.3) }
    let one = SIMD3(1, 1, 1)
    for (extents, stride, upsampling) in [
      ((1, 3, 5, 2, 7, 9), one, one), ((2, 16, 32, 3, 8, 8), one, one),
      ((1, 33, 18, 2, 5, 70), one, one), ((1, 20, 36, 9, 40, 33), one, one),
      ((1, 7, 20, 4, 18, 21), one, one), ((1, 96, 130, 2, 6, 9), one, one),
      ((2, 8, 3, 1, 1, 1), one, one),
      ((1, 4, 7, 5, 9, 6), SIMD3(2, 2, 2), one), ((1, 5, 40, 4, 3, 11), SIMD3(1, 2, 2), one),
      ((1, 3, 5, 2, 7, 9), one, SIMD3(2, 2, 2)), ((2, 16, 32, 3, 8, 8), one, SIMD3(1, 2, 2)),
      ((1, 33, 18, 5, 20, 19), one, SIMD3(2, 2, 2)), ((1, 4, 7, 1, 1, 1), one, SIMD3(2, 2, 2)),
      ((1, 6, 20, 4, 4, 3), one, SIMD3(2, 1, 1)), ((1, 6, 20, 3, 4, 3), one, SIMD3(1, 3, 4)),
    ] {
      convolution(variant, extents, stride, upsampling)
    }
    for s in [
      (2, 3, 70, 70, 8), (1, 5, 33, 250, 88), (2, 2, 300, 97, 64), (1, 1, 1, 1, 3),
      (3, 1, 140, 193, 40), (1, 2, 20, 31, 130),
    ] {
      for visible in [
        Workspace.Visibility(), Workspace.Visibility(causalBlock: 25),
        Workspace.Visibility(keyCounts: (0..<s.0).map { Int32(max(1, s.3 - 2 * $0)) }),
      ] where visible.causalBlock == 0 || s.2 == s.3 {
        attention(variant, s, visible)
      }
    }
    for s in [(2, 130, 2, 44), (1, 9, 1, 7), (70, 3, 3, 16), (3, 260, 6, 64)] {
      norms(variant, s.0, s.1, s.2, s.3)
    }
    for s in [(2, 24, 4, 700), (1, 6, 3, 5000), (5, 32, 8, 33)] {
      groupNorm(variant, s.0, s.1, s.2, s.3)
    }
    for s in [(1, 8, 8), (3, 70, 37), (1, 300, 19), (6, 7, 9), (2, 129, 200)] {
      transposition(variant, s.0, s.1, s.2)
    }
  }

  private func numbers(_ shape: Shape, _ seed: UInt64, in work: borrowing Workspace) -> Tensor {
    work.converted(
      work.converted(RandomStream(seed: seed, .test).normal(shape, in: work), to: .bf16), to: .f32)
  }
  /// Whole quarters: weights of taps that read the same cell are added before they are rounded, and
  /// sums of up to 27 of these are bf16 numbers too.
  private func quarters(_ shape: Shape, _ seed: UInt64, in work: borrowing Workspace) -> Tensor {
    Tensor(
      numbers(shape, seed, in: work).floats.map { min(max(($0 * 4).rounded(), -9), 9) / 4 }, shape)
  }
  /// `body` on `variant` with one, two, three and five threads, and in f64.
  private func compare(
    _ variant: Variant, _ what: String, _ inputs: [Tensor], tolerance: Double,
    _ body: ([Tensor], borrowing Workspace) -> [Tensor]
  ) {
    let work = Workspace()
    let expected = body(inputs.map { work.converted($0, to: .f64) }, work)
    let found = variant.use {
      [1, 2, 3, 5].map { threads in
        Machine.threads = threads
        return body(inputs, Workspace())
      }
    }
    for (x, y) in zip(found[0], expected) {
      let scale = y.doubles.reduce(1e-6) { max($0, abs($1)) }
      let worst = zip(x.doubles, y.doubles).reduce(0) {
        $1.0.isFinite ? max($0, abs($1.0 - $1.1)) : .infinity
      }
      #expect(worst <= tolerance * scale, "\(variant) \(what): off by \(worst) of \(scale)")
    }
    for other in found.dropFirst() {
      #expect(
        zip(found[0], other).allSatisfy {
          $0.floats.map(\.bitPattern) == $1.floats.map(\.bitPattern)
        }, "\(variant) \(what): bits depend on threads")
    }
  }

  private func products(_ variant: Variant, _ m: Int, _ n: Int, _ k: Int) {
    let work = Workspace()
    let a = numbers(Shape(m, k), 1, in: work)
    let b = numbers(Shape(k, n), 2, in: work)
    let at = numbers(Shape(k, m), 1, in: work)
    let bt = numbers(Shape(n, k), 2, in: work)
    let bias = numbers(Shape(n), 3, in: work)
    let tolerance = 1e-7 * (4 + Double(k).squareRoot())
    let what = "\(m) x \(n) x \(k)"
    compare(variant, what, [a, b], tolerance: tolerance) { t, w in [w.matmul(t[0], t[1])] }
    compare(variant, what + " A transposed", [at, b], tolerance: tolerance) { t, w in
      [w.matmul(t[0], t[1], transposeA: true, alpha: -0.5)]
    }
    compare(variant, what + " both transposed", [at, bt], tolerance: tolerance) { t, w in
      [w.matmul(t[0], t[1], transposeA: true, transposeB: true)]
    }
    compare(variant, what + " linear", [a, bt, bias], tolerance: tolerance) { t, w in
      [
        w.linear(t[0], weight: t[1], bias: t[2]),
        w.linear(t[0], weight: t[1], bias: t[2], frozen: true),
      ]
    }
    compare(variant, what + " linear backward", [a, b], tolerance: tolerance) { t, w in
      [
        w.linearBackwardInput(t[0], weight: t[1]),
        w.linearBackwardInput(t[0], weight: t[1], frozen: true),
      ]
    }
    compare(
      variant, what + " with SiLU, and back through it",
      [a, bt, b, numbers(Shape(m, n), 4, in: work)], tolerance: 4 * tolerance
    ) { t, w in
      var active = w.zeros(Shape(m, n + 3), t[0].type)
      return [
        w.linear(t[0], weight: t[1], bias: nil, then: .silu, into: &active, at: 2), active,
        w.linearBackwardInput(t[0], weight: t[2], through: .silu, at: t[3]),
      ]
    }
    compare(variant, what + " accumulated", [at, b], tolerance: 2 * tolerance) { t, w in
      var sum: Tensor? = w.zeros(Shape(m, n), t[0].type)
      for _ in 0..<2 { w.linearBackwardWeight(t[0], x: t[1], addingTo: &sum) }
      return [sum!]
    }
  }
  private func batched(_ variant: Variant, _ batch: Int, _ m: Int, _ n: Int, _ k: Int) {
    let work = Workspace()
    let a = numbers(Shape(batch, m, k), 1, in: work)
    let b = numbers(Shape(batch, k, n), 2, in: work)
    compare(
      variant, "\(batch) of \(m) x \(n) x \(k)", [a, b],
      tolerance: 1e-7 * (4 + Double(k).squareRoot())
    ) { t, w in [w.batchedMatmul(t[0], t[1])] }
  }
  /// Against the f64 convolution of the upsampled input. Minimal filtering has about 2.5 times the
  /// rounding errors of a plain sum, and a corner's dx gathers up to 27 gradients.
  private func convolution(
    _ variant: Variant, _ s: (Int, Int, Int, Int, Int, Int), _ stride: SIMD3<Int>,
    _ upsampling: SIMD3<Int>
  ) {
    let (batch, input, output, frames, height, width) = s
    let work = Workspace()
    let plain = ConvolutionGeometry.causal(kernel: 3, stride: stride)
    let g = ConvolutionGeometry.causal(kernel: 3, stride: stride, upsampling: upsampling)
    let x = numbers(Shape(batch, input, frames, height, width), 1, in: work)
    let weight = quarters(Shape(output, input, 3, 3, 3), 2, in: work)
    let bias = numbers(Shape(output), 3, in: work)
    let large = work.upsample(x, upsampling).shape
    let dy = numbers(Workspace.outputShape(x.shape, out: output, g), 4, in: work)
    let what = "convolution \(s) \(stride) \(upsampling)"
    let tolerance = variant == .bf16 && !Machine.hasAMX ? 2e-6 : 8e-6
    compare(variant, what, [x, weight, bias], tolerance: tolerance) { t, w in
      [
        t[0].type == .f64
          ? w.convolution(w.upsample(t[0], upsampling), weight: t[1], bias: t[2], plain)
          : w.convolution(t[0], weight: t[1], bias: t[2], g)
      ]
    }
    compare(variant, what + " backward data", [dy, weight], tolerance: tolerance) { t, w in
      [
        t[0].type == .f64
          ? w.upsampleBackward(
            w.convolutionBackwardInput(t[0], input: large, weight: t[1], plain), input: x.shape,
            upsampling) : w.convolutionBackwardInput(t[0], input: x.shape, weight: t[1], g)
      ]
    }
    // Normalised as it is read and added to as it is written: the bits of the separate operations.
    let scale = numbers(Shape(input), 5, in: work)
    let shift = numbers(Shape(input), 6, in: work)
    let (fused, separate) = variant.use {
      let (norm, _) = work.pendingGroupNorm(
        x, groups: 1, scale: scale, shift: shift, epsilon: 1e-6, silu: true)
      var y = work.convolution(
        work.groupNorm(x, groups: 1, scale: scale, shift: shift, epsilon: 1e-6, silu: true).y,
        weight: weight, bias: bias, g)
      work.add(dy, to: &y)
      return (work.convolution(x, weight: weight, bias: bias, g, after: norm, adding: dy), y)
    }
    #expect(
      fused.floats.map(\.bitPattern) == separate.floats.map(\.bitPattern),
      "\(variant) \(what): fused with a norm and a sum")
    compare(variant, what + " backward weight", [dy, x], tolerance: 2e-6) { t, w in
      var dw: Tensor? = w.zeros(weight.shape, t[0].type)
      var db: Tensor? = w.zeros(Shape(output), t[0].type)
      if t[0].type == .f64 {
        w.convolutionBackwardWeight(
          t[0], x: w.upsample(t[1], upsampling), weight: weight.shape, plain, addingTo: &dw, &db)
      } else {
        w.convolutionBackwardWeight(t[0], x: t[1], weight: weight.shape, g, addingTo: &dw, &db)
      }
      return [dw!, db!]
    }
  }
  private func attention(
    _ variant: Variant, _ s: (Int, Int, Int, Int, Int), _ visible: Workspace.Visibility
  ) {
    let (batch, heads, queries, keys, dimension) = s
    let work = Workspace()
    let width = heads * dimension
    let q = numbers(Shape(batch, queries, width), 1, in: work)
    let k = numbers(Shape(batch, keys, width), 2, in: work)
    let v = numbers(Shape(batch, keys, width), 3, in: work)
    let dO = numbers(Shape(batch, queries, width), 4, in: work)
    let scale = 1 / Double(dimension).squareRoot()
    compare(
      variant, "attention \(s) \(visible)", [q, k, v, dO],
      tolerance: variant == .bf16 ? 1.0 / 64 : 1e-5
    ) { t, w in
      let (o, lse) = w.attention(
        q: t[0], k: t[1], v: t[2], heads: heads, scale: scale, visible: visible)
      // One key only: its probability is 1, and the gradients of q and k are differences of equal
      // numbers.
      let d = w.attentionBackward(
        t[3], q: t[0], k: t[1], v: t[2], o: o, lse: lse, heads: heads, scale: scale,
        visible: visible)
      return keys == 1 ? [o, lse, d.dv] : [o, lse, d.dq, d.dk, d.dv]
    }
  }

  /// What lies between the products of a transformer block: tokens `[B, N, heads * dim]`.
  private func norms(_ variant: Variant, _ b: Int, _ n: Int, _ heads: Int, _ dim: Int) {
    let work = Workspace()
    let c = heads * dim
    let x = numbers(Shape(b, n, c), 1, in: work)
    let dy = numbers(Shape(b, n, c), 2, in: work)
    let chunks = numbers(Shape(b, 3 * c), 3, in: work)
    let gamma = numbers(Shape(dim), 4, in: work)
    compare(
      variant, "adaptive layer norm and gate \(b) x \(n) x \(c)", [x, dy, chunks], tolerance: 2e-5
    ) { t, w in
      func chunk(_ i: Int) -> Workspace.Chunk { Workspace.Chunk(t[2], i, of: 3) }
      var d: Tensor? = w.zeros(t[2].shape, t[0].type)
      let (y, s) = w.adaptiveLayerNorm(t[0], scale: chunk(0), shift: chunk(1), epsilon: 1e-6)
      let dx = w.adaptiveLayerNormBackward(
        t[1], x: t[0], scale: chunk(0), statistics: s, adding: t[0], scaleIndex: 0, shiftIndex: 1,
        of: 3, addingTo: &d)
      return [y, dx, w.gateBackward(t[1], chunk(2), h: t[0], index: 2, of: 3, addingTo: &d), d!]
    }
    let half = max(dim / 2, 1)
    let cosines = numbers(Shape(n / 2 + 1, half), 5, in: work)
    let sines = numbers(Shape(n / 2 + 1, half), 6, in: work)
    compare(
      variant, "norm of heads \(b) x \(n) x \(heads) x \(dim)", [x, dy, gamma, cosines, sines],
      tolerance: 2e-5
    ) { t, w in
      let rotation: Workspace.Rotation? = dim % 2 == 0 ? (t[3], t[4]) : nil
      var y = w.zeros(Shape(b, n + 5, c), t[0].type)
      var dx = w.zeros(t[0].shape, t[0].type)
      var dGamma: Tensor? = w.zeros(Shape(dim), t[0].type)
      let rstd = w.headNorm(
        t[0], heads: heads, scale: t[2], epsilon: 1e-6, rotation: rotation, into: &y, row: 3)
      w.place(t[1], into: &y, axis: 1, at: 0)
      w.headNormBackward(
        y, row: 2, x: t[0], heads: heads, scale: t[2], rstd: rstd, rotation: rotation, into: &dx,
        addingTo: &dGamma)
      return [y, dx, dGamma!]
    }
  }
  private func groupNorm(_ variant: Variant, _ b: Int, _ c: Int, _ groups: Int, _ spatial: Int) {
    let work = Workspace()
    let x = numbers(Shape(b, c, spatial), 1, in: work)
    let dy = numbers(Shape(b, c, spatial), 2, in: work)
    let gamma = numbers(Shape(c), 3, in: work)
    compare(variant, "group norm \(b) x \(c) x \(spatial)", [x, dy, gamma], tolerance: 2e-5) {
      t, w in
      var dGamma: Tensor? = w.zeros(Shape(c), t[0].type)
      var dBeta: Tensor? = w.zeros(Shape(c), t[0].type)
      let (y, s) = w.groupNorm(
        t[0], groups: groups, scale: t[2], shift: t[2], epsilon: 1e-6, silu: true)
      let dx = w.groupNormBackward(
        t[1], x: t[0], groups: groups, scale: t[2], shift: t[2], epsilon: 1e-6, silu: true,
        statistics: s, adding: t[0], addingTo: &dGamma, &dBeta)
      return [y, dx, dGamma!, dBeta!]
    }
  }
  private func transposition(_ variant: Variant, _ b: Int, _ rows: Int, _ columns: Int) {
    let work = Workspace()
    let x = numbers(Shape(b, rows, columns), 1, in: work)
    let y = variant.use { work.permuted(x, [0, 2, 1]) }.floats
    let from = x.floats
    #expect(
      y.indices.allSatisfy { i in
        y[i]
          == from[i / (rows * columns) * rows * columns + i % rows * columns + i / rows % columns]
      }, "\(variant) transposition of \(b) x \(rows) x \(columns)")
  }

  /// A frozen weight's panels are kept, and forgotten when the weight changes.
  @Test func panelsFollowTheWeight() {
    let work = Workspace()
    let x = numbers(Shape(20, 90), 1, in: work)
    var weight = numbers(Shape(70, 90), 2, in: work)
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
    let x = numbers(Shape(20, 9), 1, in: work)
    let dy = numbers(Shape(20, 7), 2, in: work)
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
}
