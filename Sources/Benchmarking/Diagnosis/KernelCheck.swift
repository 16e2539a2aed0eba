import TensorRuntime

/// Runs every family of kernels on fixed inputs, on each instruction set of this machine, and
/// compares the results with a plain implementation in double (`Reference`).
public enum KernelCheck {
  struct Family: Sendable {
    let name: String
    /// Largest allowed difference, relative to the largest magnitude of the output.
    let tolerance: Double
    /// Standard normal f32 inputs of these shapes.
    let inputs: [Shape]
    let run: @Sendable ([Tensor], borrowing Workspace) -> [Tensor]
    let expected: @Sendable ([Tensor]) -> [Tensor]

    /// Identifies the inputs of the family, so that families do not share inputs.
    func tensors(_ work: borrowing Workspace) -> [Tensor] {
      let seed = name.utf8.reduce(UInt64(0)) { $0 &* 31 &+ UInt64($1) }
      return inputs.indices.map { i in
        RandomStream(seed: seed &+ UInt64(i), .test).normal(inputs[i], .f32, in: work)
      }
    }
  }

  static let families: [Family] = products + [attention, convolution] + norms + elements + rows

  private static let products = [
    Family(name: "gemm", tolerance: 2e-6, inputs: [Shape(67, 90), Shape(90, 75)]) { t, w in
      [w.matmul(t[0], t[1])]
    } expected: { t in
      [Reference.matmul(t[0], t[1])]
    },
    Family(
      name: "gemm-batched", tolerance: 2e-6,
      inputs: [Shape(3, 37, 29), Shape(3, 29, 51), Shape(3, 29, 37)]
    ) { t, w in
      [w.batchedMatmul(t[0], t[1]), w.batchedMatmul(t[2], t[1], transposeA: true)]
    } expected: { t in
      [
        Reference.batchedMatmul(t[0], t[1]),
        Reference.batchedMatmul(t[2], t[1], transposeA: true),
      ]
    },
  ]

  private static let attention = Family(
    name: "attention", tolerance: 5e-6,
    inputs: [Shape(2, 45, 48), Shape(2, 70, 48), Shape(2, 70, 48), Shape(2, 45, 48)]
  ) { t, w in
    let visible = Workspace.Visibility(keyCounts: [70, 33])
    let (o, lse) = w.attention(
      q: t[0], k: t[1], v: t[2], heads: 2, scale: 0.2, visible: visible)
    let d = w.attentionBackward(
      t[3], q: t[0], k: t[1], v: t[2], o: o, lse: lse, heads: 2, scale: 0.2, visible: visible)
    return [o, lse, d.dq, d.dk, d.dv]
  } expected: { t in
    let visible = Workspace.Visibility(keyCounts: [70, 33])
    let (o, lse) = Reference.attention(
      q: t[0], k: t[1], v: t[2], heads: 2, scale: 0.2, visible: visible)
    let d = Reference.attentionBackward(
      t[3], q: t[0], k: t[1], v: t[2], heads: 2, scale: 0.2, visible: visible)
    return [o, lse, d.dq, d.dk, d.dv]
  }

  private static let convolution = Family(
    name: "conv", tolerance: 8e-6,
    inputs: [
      Shape(1, 5, 3, 9, 19), Shape(7, 5, 3, 3, 3), Shape(7), Shape(1, 7, 3, 9, 19),
    ]
  ) { t, w in
    let g = ConvolutionGeometry.causal(kernel: 3)
    var dw: Tensor? = w.zeros(t[1].shape)
    var db: Tensor? = w.zeros(t[2].shape)
    w.convolutionBackwardWeight(t[3], x: t[0], weight: t[1].shape, g, addingTo: &dw, &db)
    return [
      w.convolution(t[0], weight: t[1], bias: t[2], g),
      w.convolutionBackwardInput(t[3], input: t[0].shape, weight: t[1], g), dw!, db!,
    ]
  } expected: { t in
    let g = ConvolutionGeometry.causal(kernel: 3)
    let d = Reference.convolutionBackward(t[3], x: t[0], weight: t[1], g)
    return [
      Reference.convolution(t[0], weight: t[1], bias: t[2], g), d.dx, d.dWeight, d.dBias,
    ]
  }

  private static let norms = [
    Family(
      name: "norm", tolerance: 5e-6, inputs: [Shape(13, 77), Shape(13, 77), Shape(77), Shape(77)]
    ) { t, w in
      var dg: Tensor? = w.zeros(Shape(77))
      var db: Tensor? = w.zeros(Shape(77))
      var dr: Tensor? = w.zeros(Shape(77))
      let (y, s) = w.layerNorm(t[0], scale: t[2], shift: t[3], epsilon: 1e-5)
      let dx = w.layerNormBackward(t[1], x: t[0], scale: t[2], statistics: s, addingTo: &dg, &db)
      let (z, r) = w.rmsNorm(t[0], scale: t[2], epsilon: 1e-6)
      let dz = w.rmsNormBackward(t[1], x: t[0], scale: t[2], rstd: r, addingTo: &dr)
      return [y, dx, dg!, db!, z, dz, dr!]
    } expected: { t in
      let d = Reference.layerNormBackward(t[1], x: t[0], scale: t[2], epsilon: 1e-5)
      let r = Reference.rmsNormBackward(t[1], x: t[0], scale: t[2], epsilon: 1e-6)
      return [
        Reference.layerNorm(t[0], scale: t[2], shift: t[3], epsilon: 1e-5), d.dx, d.dScale,
        d.dShift, Reference.rmsNorm(t[0], scale: t[2], epsilon: 1e-6), r.dx, r.dScale,
      ]
    },
    Family(
      name: "group-norm", tolerance: 5e-6,
      inputs: [Shape(2, 8, 3, 5, 7), Shape(2, 8, 3, 5, 7), Shape(8), Shape(8)]
    ) { t, w in
      var dg: Tensor? = w.zeros(Shape(8))
      var db: Tensor? = w.zeros(Shape(8))
      let (y, s) = w.groupNorm(
        t[0], groups: 4, scale: t[2], shift: t[3], epsilon: 1e-6, silu: true)
      let dx = w.groupNormBackward(
        t[1], x: t[0], groups: 4, scale: t[2], shift: t[3], epsilon: 1e-6, silu: true,
        statistics: s, addingTo: &dg, &db)
      return [y, dx, dg!, db!]
    } expected: { t in
      let d = Reference.groupNormBackward(
        t[1], x: t[0], groups: 4, scale: t[2], shift: t[3], epsilon: 1e-6, silu: true)
      return [
        Reference.groupNorm(
          t[0], groups: 4, scale: t[2], shift: t[3], epsilon: 1e-6, silu: true), d.dx, d.dScale,
        d.dShift,
      ]
    },
  ]

  private static let elements = [
    Family(name: "activation", tolerance: 2e-6, inputs: [Shape(1001), Shape(1001)]) { t, w in
      Activation.allCases.flatMap {
        [w.activation($0, t[0]), w.activationBackward($0, t[1], x: t[0])]
      }
    } expected: { t in
      Activation.allCases.flatMap {
        [Reference.activation($0, t[0]), Reference.activationBackward($0, t[1], x: t[0])]
      }
    },
    Family(name: "elementwise", tolerance: 1e-6, inputs: [Shape(3, 5, 37), Shape(3, 5, 37)]) {
      t, w in
      let sums = [w.total(t[0]), w.dot(t[0], t[1]), w.sumOfAbsoluteDifferences(t[0], t[1])]
      return [
        w.combine(0.5, t[0], -2, t[1]), w.product(t[0], t[1]),
        w.affineClamp(t[0], alpha: 2, beta: 0.1, to: -1...1), Tensor(sums, Shape(3)),
      ]
    } expected: { t in
      let pairs = Array(zip(t[0].doubles, t[1].doubles))
      let sums = [
        pairs.reduce(0) { $0 + $1.0 }, pairs.reduce(0) { $0 + $1.0 * $1.1 },
        pairs.reduce(0) { $0 + abs($1.0 - $1.1) },
      ]
      return [
        Tensor(pairs.map { 0.5 * $0.0 - 2 * $0.1 }, t[0].shape),
        Tensor(pairs.map { $0.0 * $0.1 }, t[0].shape),
        Tensor(pairs.map { min(max(2 * $0.0 + 0.1, -1), 1) }, t[0].shape), Tensor(sums, Shape(3)),
      ]
    },
    Family(name: "loss", tolerance: 2e-6, inputs: [Shape(515), Shape(515)]) { t, w in
      let all = [
        w.weightedL1L2(t[0], target: t[1]), w.pseudoHuber(t[0], target: t[1], c: 0.1),
        w.meanSquaredError(t[0], target: t[1]),
      ]
      return all.map(\.dx) + [Tensor(all.map(\.loss), Shape(3))]
    } expected: { t in
      let all = [
        Reference.loss(.weightedL1L2, t[0], target: t[1]),
        Reference.loss(.huber, t[0], target: t[1], c: 0.1),
        Reference.loss(.squared, t[0], target: t[1]),
      ]
      return all.map(\.dx) + [Tensor(all.map(\.loss), Shape(3))]
    },
    Family(
      name: "optimizer", tolerance: 2e-6, inputs: [Shape(333), Shape(333), Shape(333)]
    ) { t, w in
      var (p, m, v) = (t[0], t[2], w.product(t[2], t[2]))
      w.adam(update, gradient: t[1], value: &p, first: &m, second: &v)
      return [p, m, v]
    } expected: { t in
      Reference.adam(
        update, gradient: t[1], value: t[0], first: t[2],
        second: Tensor(t[2].doubles.map { $0 * $0 }, t[2].shape))
    },
  ]
  private static let update = AdamUpdate(
    learningRate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, l2: 0,
    correction1: 0.1, correction2: 1e-3, gradientScale: 0.5)

  private static let rows = [
    Family(name: "softmax", tolerance: 2e-6, inputs: [Shape(9, 131), Shape(9, 131)]) { t, w in
      let y = w.softmax(t[0], scale: 3)
      return [y, w.softmaxBackward(t[1], y: y)]
    } expected: { t in
      let y = Reference.softmax(t[0], scale: 3)
      return [y, Reference.softmaxBackward(t[1], y: y)]
    },
    Family(
      name: "rotary", tolerance: 1e-6, inputs: [Shape(2, 11, 48), Shape(11, 12), Shape(11, 12)]
    ) { t, w in
      var x = t[0]
      w.rotate(&x, heads: 2, cosines: t[1], sines: t[2])
      return [x]
    } expected: { t in
      [Reference.rotated(t[0], heads: 2, cosines: t[1], sines: t[2])]
    },
    // The fusion of the prior and the random numbers have no plain implementation. Their kernels in
    // double are the reference.
    Family(
      name: "prior", tolerance: 5e-6,
      inputs: [Shape(1, 2, 3, 65), Shape(1, 2, 3, 65), Shape(1, 2, 3, 65)], run: prior
    ) { t in
      let work = Workspace()
      return prior(t.map { work.converted($0, to: .f64) }, work)
    },
    Family(name: "random", tolerance: 1e-6, inputs: []) { _, w in
      random(.f32, w)
    } expected: { _ in
      random(.f64, Workspace())
    },
  ]
  @Sendable private static func prior(_ t: [Tensor], _ w: borrowing Workspace) -> [Tensor] {
    let (a, p) = (w.softmax(t[0]), w.softmax(t[1]))
    let fused: [UInt8] = [1, 0, 1]
    let y = w.priorFusion(attention: a, prior: p, fused: fused, epsilon: 1e-6)
    return [y, w.priorFusionBackward(t[2], attention: a, y: y, fused: fused, epsilon: 1e-6)]
  }
  private static func random(_ type: ElementType, _ w: borrowing Workspace) -> [Tensor] {
    let stream = RandomStream(seed: 1, .test)
    return [stream.uniform(Shape(1000), type, in: w), stream.normal(Shape(1000), type, in: w)]
  }

  /// One finding for each instruction set. Restores the one in use.
  public static func run() -> [Finding] {
    let work = Workspace()
    let current = Machine.current
    defer { Machine.limit(to: current) }
    let inputs = families.map { $0.tensors(work) }
    let expected = zip(families, inputs).map { family, t in family.expected(t).map(\.doubles) }
    return Machine.available.map { isa in
      Machine.limit(to: isa)
      var worst = (ratio: 0.0, difference: 0.0, family: "")
      var wrong: [String] = []
      for (family, (inputs, reference)) in zip(families, zip(inputs, expected)) {
        let difference =
          zip(family.run(inputs, work), reference).map { relativeDifference($0.doubles, $1) }.max()
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
          \(families.count) families agree with the reference in double; nearest to its limit: \
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

/// A number with two digits and an exponent.
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
