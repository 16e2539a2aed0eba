import TensorRuntime
import Testing

/// Activations, softmax, rotations, losses, the optimiser and plain arithmetic.
@Suite(.serialized) struct ElementTests {
  private let counts = [1, 7, 16, 17, 1001, 40001]

  @Test(arguments: Activation.allCases) func activation(f: Activation) {
    for n in counts {
      let x = Inputs.numbers(Shape(n), 1)
      let dy = Inputs.numbers(Shape(n), 2)
      compare("activation \(f), \(n) elements", [x, dy], tolerance: 2e-6) { t in
        [Reference.activation(f, t[0]), Reference.activationBackward(f, t[1], x: t[0])]
      } _: { t, w in
        [w.activation(f, t[0]), w.activationBackward(f, t[1], x: t[0])]
      }
    }
  }

  /// Far from zero, where exponentials overflow or vanish.
  @Test(arguments: Activation.allCases) func activationOfLargeNumbers(f: Activation) {
    let x = Tensor((-600...600).map { Float($0) / 5 }, Shape(1201))
    let dy = Inputs.numbers(Shape(1201), 2)
    compare("activation \(f) far from 0", [x, dy], tolerance: 2e-6) { t in
      [Reference.activation(f, t[0]), Reference.activationBackward(f, t[1], x: t[0])]
    } _: { t, w in
      [w.activation(f, t[0]), w.activationBackward(f, t[1], x: t[0])]
    }
  }

  @Test(arguments: [(1, 1), (9, 131), (300, 16), (5, 17)]) func softmax(rows: Int, columns: Int) {
    let x = Inputs.numbers(Shape(rows, columns), 1)
    let dy = Inputs.numbers(Shape(rows, columns), 2)
    // Logits near 100 of one sign: without its maximum subtracted a row would overflow.
    let large = Tensor(x.floats.map { $0 * 3 + 95 }, x.shape)
    compare("softmax \(rows) x \(columns)", [x, dy, large], tolerance: 5e-6) { t in
      let y = Reference.softmax(t[0], scale: 3)
      let ds = Reference.softmaxBackward(t[1], y: y)
      return columns == 1 ? [y] : [y, ds, Reference.softmax(t[2])]
    } _: { t, w in
      let y = w.softmax(t[0], scale: 3)
      return columns == 1 ? [y] : [y, w.softmaxBackward(t[1], y: y), w.softmax(t[2])]
    }
  }

  @Test(arguments: [(2, 11, 2, 24), (1, 5, 3, 88), (3, 7, 1, 2), (1, 3, 2, 256)])
  func rotation(b: Int, n: Int, heads: Int, dim: Int) {
    let inputs = [
      Inputs.numbers(Shape(b, n, heads * dim), 1), Inputs.numbers(Shape(n, dim / 2), 2),
      Inputs.numbers(Shape(n, dim / 2), 3),
    ]
    for inverse in [false, true] {
      compare("rotary embedding \(dim), inverse \(inverse)", inputs, tolerance: 1e-6) { t in
        [Reference.rotated(t[0], heads: heads, cosines: t[1], sines: t[2], inverse: inverse)]
      } _: { t, w in
        var x = t[0]
        w.rotate(&x, heads: heads, cosines: t[1], sines: t[2], inverse: inverse)
        return [x]
      }
    }
  }

  @Test func losses() {
    for n in counts {
      let x = Inputs.numbers(Shape(n), 1)
      let y = Inputs.numbers(Shape(n), 2)
      compare("losses of \(n) elements", [x, y], tolerance: 5e-6) { t in
        let all = [
          Reference.loss(.weightedL1L2, t[0], target: t[1]),
          Reference.loss(.huber, t[0], target: t[1], c: 0.1),
          Reference.loss(.squared, t[0], target: t[1]),
        ]
        return all.map(\.dx) + all.map { Tensor([$0.loss], Shape(1)) }
      } _: { t, w in
        let all = [
          w.weightedL1L2(t[0], target: t[1]), w.pseudoHuber(t[0], target: t[1], c: 0.1),
          w.meanSquaredError(t[0], target: t[1]),
        ]
        return all.map(\.dx) + all.map { Tensor([$0.loss], Shape(1)) }
      }
    }
  }

  @Test func optimizer() {
    var update = AdamUpdate(
      learningRate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, l2: 0,
      correction1: 0.1, correction2: 1e-3, gradientScale: 0.5)
    for l2 in [0, 0.1] {
      update.l2 = l2
      for n in counts {
        let p = Inputs.numbers(Shape(n), 1)
        let g = Inputs.numbers(Shape(n), 2)
        let m = Inputs.numbers(Shape(n), 3)
        let v = Tensor(m.floats.map { $0 * $0 }, m.shape)
        let u = update
        compare("AdamW of \(n) elements, l2 \(l2)", [p, g, m, v], tolerance: 5e-6) { t in
          Reference.adam(u, gradient: t[1], value: t[0], first: t[2], second: t[3])
        } _: { t, w in
          var (p, m, v) = (t[0], t[2], t[3])
          w.adam(u, gradient: t[1], value: &p, first: &m, second: &v)
          return [p, m, v]
        }
      }
    }
  }

  @Test func arithmetic() {
    for n in counts {
      let x = Inputs.numbers(Shape(n), 1)
      let y = Inputs.numbers(Shape(n), 2)
      compare("arithmetic of \(n) elements", [x, y], tolerance: 2e-6) { t in
        let (a, b) = (t[0].doubles, t[1].doubles)
        let pairs = Array(zip(a, b))
        // Sums cancel: they are compared on the scale of their absolute terms.
        let scale = pairs.reduce(0) { $0 + abs($1.0) + abs($1.0 * $1.1) }
        func tensor(_ v: [Double]) -> Tensor { Tensor(v, Shape(v.count)) }
        return [
          tensor(pairs.map { 0.5 * $0.0 - 2 * $0.1 }), tensor(pairs.map { $0.0 * $0.1 }),
          tensor(a.map { min(max(2 * $0 + 0.1, -1), 1) }),
          tensor([
            a.reduce(0, +) / scale, pairs.reduce(0) { $0 + $1.0 * $1.1 } / scale,
            pairs.reduce(0) { $0 + abs($1.0 - $1.1) } / scale, 1,
          ]),
        ]
      } _: { t, w in
        let scale = zip(t[0].doubles, t[1].doubles).reduce(0) {
          $0 + abs($1.0) + abs($1.0 * $1.1)
        }
        return [
          w.combine(0.5, t[0], -2, t[1]), w.product(t[0], t[1]),
          w.affineClamp(t[0], alpha: 2, beta: 0.1, to: -1...1),
          Tensor(
            [
              w.total(t[0]) / scale, w.dot(t[0], t[1]) / scale,
              w.sumOfAbsoluteDifferences(t[0], t[1]) / scale, 1,
            ], Shape(4)),
        ]
      }
    }
  }

  @Test(arguments: [(1, 8, 8), (3, 70, 37), (1, 300, 19), (6, 7, 9), (2, 129, 200)])
  func transposition(b: Int, rows: Int, columns: Int) {
    compare(
      "transposition \(b) x \(rows) x \(columns)", [Inputs.numbers(Shape(b, rows, columns), 1)],
      tolerance: 1e-30
    ) { t in
      let x = t[0].doubles
      var y = x
      for i in 0..<b {
        for r in 0..<rows {
          for c in 0..<columns { y[(i * columns + c) * rows + r] = x[(i * rows + r) * columns + c] }
        }
      }
      return [Tensor(y, Shape(b, columns, rows))]
    } _: { t, w in
      [w.permuted(t[0], [0, 2, 1])]
    }
  }
}
