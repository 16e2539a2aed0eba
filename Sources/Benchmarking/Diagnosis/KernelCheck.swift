import TensorRuntime

/// Runs every family of kernels on fixed inputs, on each instruction set this machine has, and
/// compares with the same bodies in f64, one lane wide.
public enum KernelCheck {
  struct Family: Sendable {
    let name: String
    /// Largest difference allowed, relative to the largest magnitude of the output.
    let tolerance: Double
    let run: @Sendable (ElementType, borrowing Workspace) -> [Tensor]
  }
  /// f32 values, whatever the type: both runs see the same numbers.
  private static func input(
    _ shape: Shape, _ seed: UInt64, _ type: ElementType, _ work: borrowing Workspace
  ) -> Tensor {
    work.converted(RandomStream(seed: seed, .test).normal(shape, .f32, in: work), to: type)
  }

  static let families: [Family] = [
    Family(name: "gemm", tolerance: 2e-6) { t, w in
      [w.matmul(input(Shape(67, 90), 1, t, w), input(Shape(90, 75), 2, t, w))]
    },
    Family(name: "gemm-batched", tolerance: 2e-6) { t, w in
      [
        w.batchedMatmul(input(Shape(3, 37, 29), 3, t, w), input(Shape(3, 29, 51), 4, t, w)),
        w.batchedMatmul(
          input(Shape(3, 29, 37), 3, t, w), input(Shape(3, 29, 51), 4, t, w), transposeA: true),
      ]
    },
    Family(name: "attention", tolerance: 5e-6) { t, w in
      let q = input(Shape(2, 45, 48), 5, t, w)
      let k = input(Shape(2, 70, 48), 6, t, w)
      let v = input(Shape(2, 70, 48), 7, t, w)
      let visible = Workspace.Visibility(keyCounts: [70, 33])
      let (o, lse) = w.attention(q: q, k: k, v: v, heads: 2, scale: 0.2, visible: visible)
      let d = w.attentionBackward(
        input(o.shape, 8, t, w), q: q, k: k, v: v, o: o, lse: lse, heads: 2, scale: 0.2,
        visible: visible)
      return [o, lse, d.dq, d.dk, d.dv]
    },
    Family(name: "conv", tolerance: 5e-6) { t, w in
      let g = ConvolutionGeometry.causal(kernel: 3)
      let x = input(Shape(1, 5, 3, 9, 19), 9, t, w)
      let weight = input(Shape(7, 5, 3, 3, 3), 10, t, w)
      let y = w.convolution(x, weight: weight, bias: input(Shape(7), 11, t, w), g)
      let dy = input(y.shape, 12, t, w)
      var dw: Tensor? = w.zeros(weight.shape, t)
      var db: Tensor? = w.zeros(Shape(7), t)
      w.convolutionBackwardWeight(dy, x: x, weight: weight.shape, g, addingTo: &dw, &db)
      return [y, w.convolutionBackwardInput(dy, input: x.shape, weight: weight, g), dw!, db!]
    },
    Family(name: "norm", tolerance: 5e-6) { t, w in
      let x = input(Shape(13, 77), 13, t, w)
      let g = input(Shape(77), 14, t, w)
      let dy = input(Shape(13, 77), 15, t, w)
      var dg: Tensor? = w.zeros(Shape(77), t)
      var db: Tensor? = w.zeros(Shape(77), t)
      var dr: Tensor? = w.zeros(Shape(77), t)
      let (y, s) = w.layerNorm(x, scale: g, shift: g, epsilon: 1e-5)
      let dx = w.layerNormBackward(dy, x: x, scale: g, statistics: s, addingTo: &dg, &db)
      let (z, r) = w.rmsNorm(x, scale: g, epsilon: 1e-6)
      let dz = w.rmsNormBackward(dy, x: x, scale: g, rstd: r, addingTo: &dr)
      let tokens = x.reshaped(Shape(1, 13, 77))
      let factors = input(Shape(1, 154), 40, t, w)
      let scale = Workspace.Chunk(factors, 0, of: 2)
      let shift = Workspace.Chunk(factors, 1, of: 2)
      var chunks: Tensor? = w.zeros(Shape(1, 154), t)
      let (u, a) = w.adaptiveLayerNorm(tokens, scale: scale, shift: shift, epsilon: 1e-5)
      let du = w.adaptiveLayerNormBackward(
        dy.reshaped(tokens.shape), x: tokens, scale: scale, statistics: a, adding: tokens,
        scaleIndex: 0, shiftIndex: 1, of: 2, addingTo: &chunks)
      return [y, dx, dg!, db!, z, dz, dr!, u, du, chunks!]
    },
    Family(name: "group-norm", tolerance: 5e-6) { t, w in
      let x = input(Shape(2, 8, 3, 5, 7), 16, t, w)
      let g = input(Shape(8), 17, t, w)
      let dy = input(x.shape, 18, t, w)
      var dg: Tensor? = w.zeros(Shape(8), t)
      var db: Tensor? = w.zeros(Shape(8), t)
      let (y, s) = w.groupNorm(x, groups: 4, scale: g, shift: g, epsilon: 1e-6, silu: true)
      let dx = w.groupNormBackward(
        dy, x: x, groups: 4, scale: g, shift: g, epsilon: 1e-6, silu: true, statistics: s,
        addingTo: &dg, &db)
      return [y, dx, dg!, db!]
    },
    Family(name: "activation", tolerance: 2e-6) { t, w in
      let x = input(Shape(1001), 19, t, w)
      let dy = input(Shape(1001), 20, t, w)
      return [Activation.geluErf, .geluTanh, .silu, .relu].flatMap { f in
        [w.activation(f, x), w.activationBackward(f, dy, x: x)]
      }
    },
    Family(name: "softmax", tolerance: 2e-6) { t, w in
      let y = w.softmax(input(Shape(9, 131), 21, t, w), scale: 3)
      return [y, w.softmaxBackward(input(y.shape, 22, t, w), y: y)]
    },
    Family(name: "prior", tolerance: 5e-6) { t, w in
      let a = w.softmax(input(Shape(1, 2, 3, 65), 23, t, w))
      let p = w.softmax(input(Shape(1, 2, 3, 65), 24, t, w))
      let fused: [UInt8] = [1, 0, 1]
      let y = w.priorFusion(attention: a, prior: p, fused: fused, epsilon: 1e-6)
      return [
        y,
        w.priorFusionBackward(
          input(y.shape, 25, t, w), attention: a, y: y, fused: fused, epsilon: 1e-6),
      ]
    },
    Family(name: "rotary", tolerance: 1e-6) { t, w in
      var x = input(Shape(2, 11, 48), 26, t, w)
      w.rotate(
        &x, heads: 2, cosines: input(Shape(11, 12), 27, t, w), sines: input(Shape(11, 12), 28, t, w)
      )
      return [x]
    },
    Family(name: "elementwise", tolerance: 1e-6) { t, w in
      let x = input(Shape(3, 5, 37), 29, t, w)
      let y = input(Shape(3, 5, 37), 30, t, w)
      let sums = Tensor([w.total(x), w.dot(x, y), w.sumOfAbsoluteDifferences(x, y)], Shape(3))
      return [
        w.combine(0.5, x, -2, y), w.product(x, y),
        w.affineClamp(x, alpha: 2, beta: 0.1, to: -1...1), w.permuted(x, [2, 0, 1]), sums,
      ]
    },
    Family(name: "loss", tolerance: 2e-6) { t, w in
      let x = input(Shape(515), 31, t, w)
      let y = input(Shape(515), 32, t, w)
      let a = w.weightedL1L2(x, target: y)
      let b = w.pseudoHuber(x, target: y, c: 0.1)
      let c = w.meanSquaredError(x, target: y)
      return [a.dx, b.dx, c.dx, Tensor([a.loss, b.loss, c.loss], Shape(3))]
    },
    Family(name: "optimizer", tolerance: 2e-6) { t, w in
      var p = input(Shape(333), 33, t, w)
      var m = input(Shape(333), 34, t, w)
      var v = w.product(m, m)
      let update = AdamUpdate(
        learningRate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, l2: 0,
        correction1: 0.1, correction2: 1e-3, gradientScale: 0.5)
      w.adam(update, gradient: input(Shape(333), 35, t, w), value: &p, first: &m, second: &v)
      return [p, m, v]
    },
    Family(name: "random", tolerance: 1e-6) { t, w in
      [
        RandomStream(seed: 1, .test).uniform(Shape(1000), t, in: w),
        RandomStream(seed: 1, .test).normal(Shape(1000), t, in: w),
      ]
    },
  ]

  /// One finding for each instruction set. Restores the one in use.
  public static func run() -> [Finding] {
    let work = Workspace()
    let current = Machine.current
    defer { Machine.limit(to: current) }
    let expected = families.map { $0.run(.f64, work).map(\.doubles) }
    return Machine.available.map { isa in
      Machine.limit(to: isa)
      var worst = (ratio: 0.0, difference: 0.0, family: "")
      var wrong: [String] = []
      for (family, reference) in zip(families, expected) {
        let difference =
          zip(family.run(.f32, work), reference).map { relativeDifference($0.doubles, $1) }.max()
          ?? .infinity
        if !(difference <= family.tolerance) {
          wrong.append("\(family.name) (\(scientific(difference)))")
        }
        if difference / family.tolerance >= worst.ratio {
          worst = (difference / family.tolerance, difference, family.name)
        }
      }
      let name = "kernels \(isa.rawValue)"
      if wrong.isEmpty {
        return Finding(
          name, true,
          """
          \(families.count) families agree with the f64 reference; nearest to its limit: \
          \(worst.family), \(scientific(worst.difference)) of the scale
          """
        )
      }
      return Finding(
        name, false,
        """
        wrong results: \(wrong.joined(separator: ", ")); please report this processor, and set \
        PISCES_ISA to a plainer one until it is mended
        """
      )
    }
  }
  static func relativeDifference(_ x: [Double], _ reference: [Double]) -> Double {
    let scale = reference.reduce(0) { max($0, abs($1)) }
    return zip(x, reference).reduce(0) { $1.0.isFinite ? max($0, abs($1.0 - $1.1)) : .infinity }
      / (1e-30 + scale)
  }
}

/// Two digits and an exponent.
func scientific(_ x: Double) -> String {
  if x == 0 || !x.isFinite { return "\(x)" }
  var exponent = 0
  var m = abs(x)
  while m >= 10 {
    m /= 10
    exponent += 1
  }
  while m < 1 {
    m *= 10
    exponent -= 1
  }
  return "\((m * 10).rounded() / 10)e\(exponent)"
}
