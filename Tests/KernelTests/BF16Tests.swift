import TensorRuntime
import Testing

/// Products on bf16 operands: inputs that are bf16 numbers already lose nothing to rounding, so
/// what remains is the order of an f32 sum, and the f64 kernels are the reference.
@Suite(.serialized) struct BF16Tests {
  private func numbers(_ shape: Shape, _ seed: UInt64, in work: borrowing Workspace) -> Tensor {
    work.converted(
      work.converted(RandomStream(seed: seed, .initialisation).normal(shape, in: work), to: .bf16),
      to: .f32)
  }
  /// Whole quarters: weights of taps that read the same cell are added before they are rounded, and
  /// sums of up to 27 of these are bf16 numbers too.
  private func quarters(_ shape: Shape, _ seed: UInt64, in work: borrowing Workspace) -> Tensor {
    Tensor(
      numbers(shape, seed, in: work).floats.map { min(max(($0 * 4).rounded(), -9), 9) / 4 }, shape)
  }
  /// `body` with bf16 products in f32, against `body` in f64.
  private func compare(
    _ inputs: [Tensor], sourceLocation: SourceLocation = #_sourceLocation,
    _ body: ([Tensor], borrowing Workspace) -> [Tensor]
  ) {
    let work = Workspace()
    Machine.products = .bf16
    let found = body(inputs, work)
    Machine.products = .f32
    let expected = body(inputs.map { work.converted($0, to: .f64) }, work)
    for (x, y) in zip(found, expected) {
      let scale = y.doubles.map(abs).max() ?? 0
      let worst = zip(x.doubles, y.doubles).map { abs($0 - $1) }.max() ?? 0
      // Convolutions beside AMX are f32 by minimal filtering.
      #expect(
        worst <= (Machine.hasAMX ? 8e-6 : 2e-6) * scale, "differs by \(worst) of \(scale)",
        sourceLocation: sourceLocation)
    }
  }

  /// bf16 is taken where the processor multiplies it no slower than f32, and always or never on one
  /// machine.
  @Test func preference() {
    defer { Machine.products = .f32 }
    let (taken, rate) = Machine.prefer(.bf16)
    #expect(
      Machine.products == taken && (taken == .bf16 || rate == nil || rate! < 0.75)
        && (taken == .f32 || Machine.hasBF16))
    #expect(Machine.prefer(.bf16).taken == taken)
    #expect(Machine.prefer(.f32).taken == .f32 && Machine.products == .f32)
  }

  @Test(arguments: [
    (1, 1, 1), (3, 5, 7), (12, 32, 384), (13, 33, 385), (40, 88, 900), (300, 70, 33),
    (65, 800, 100),
  ])
  func products(m: Int, n: Int, k: Int) {
    let work = Workspace()
    compare([numbers(Shape(m, k), 1, in: work), numbers(Shape(k, n), 2, in: work)]) { t, work in
      [work.matmul(t[0], t[1])]
    }
    compare([numbers(Shape(k, m), 1, in: work), numbers(Shape(k, n), 2, in: work)]) { t, work in
      [work.matmul(t[0], t[1], transposeA: true)]
    }
    compare([numbers(Shape(m, k), 1, in: work), numbers(Shape(n, k), 2, in: work)]) { t, work in
      [work.matmul(t[0], t[1], transposeB: true, alpha: 0.5)]
    }
  }

  @Test(
    arguments: [(3, 5, 1, 3), (16, 32, 3, 3), (7, 9, 2, 1), (8, 3, 3, 3)],
    [SIMD3(1, 1, 1), SIMD3(2, 2, 2), SIMD3(1, 2, 2)])
  func convolutions(sizes: (Int, Int, Int, Int), stride: SIMD3<Int>) {
    let (input, output, frames, kernel) = sizes
    let work = Workspace()
    let g = ConvolutionGeometry.causal(kernel: kernel, stride: stride)
    if kernel == 1 && stride != SIMD3(1, 1, 1) { return }
    let x = numbers(Shape(2, input, frames, 9, 11), 3, in: work)
    let weight = quarters(Shape(output, input, kernel, kernel, kernel), 4, in: work)
    let dy = numbers(Workspace.outputShape(x.shape, out: output, g), 5, in: work)
    compare([x, weight]) { t, work in [work.convolution(t[0], weight: t[1], bias: nil, g)] }
    compare([dy, weight]) { t, work in
      [work.convolutionBackwardInput(t[0], input: x.shape, weight: t[1], g)]
    }
    compare([dy, x]) { t, work in
      var dw: Tensor? = work.zeros(weight.shape, t[0].type)
      var db: Tensor?
      work.convolutionBackwardWeight(t[0], x: t[1], weight: weight.shape, g, addingTo: &dw, &db)
      return [dw!]
    }
  }
}
