import Layers
import TensorRuntime
import TestSupport
import Testing

/// Oracle: finite differences in double of the same code.
@Suite(.serialized) struct LayerGradientTests {
  @Test func linearAndAdapter() throws {
    var layer = try Linear("l", 7, 5, from: noisySource(seed: 1))
    layer.adapter = try LowRankAdapter(
      "l", weight: Shape(5, 7), rank: 3, alpha: 6, from: noisySource(seed: 2))
    GradientCheck(layer, inputs: [randomTensor(Shape(4, 7), seed: 3)]) { l, x, work in
      let (y, s) = l.forward(x[0], in: work)
      return ([y], { l, dy, work in [l.backward(dy[0], s, in: work)] })
    }.run(seed: 4)
  }
  /// Activations before and behind adapted layers, some columns of a gradient, and a gradient added
  /// to another.
  @Test func adaptersAndActivations() throws {
    var feedForward = try FeedForward(
      "a", "b", width: 5, hidden: 9, activation: .geluTanh, from: noisySource(seed: 14))
    feedForward.up.adapter = try LowRankAdapter(
      "a", weight: Shape(9, 5), rank: 2, alpha: 3, from: noisySource(seed: 66))
    feedForward.down.adapter = try LowRankAdapter(
      "b", weight: Shape(5, 9), rank: 3, alpha: 2, from: noisySource(seed: 67))
    GradientCheck(feedForward, inputs: [randomTensor(Shape(4, 5), seed: 15)]) { l, x, work in
      let (y, s) = l.forward(x[0], in: work)
      return ([y], { l, dy, work in [l.backward(dy[0], s, in: work)] })
    }.run(seed: 16)
    let work = Workspace()
    let dy = randomTensor(Shape(4, 5), seed: 68)
    let before = randomTensor(Shape(4, 6), seed: 69)
    var down = feedForward.down
    let whole = down.backwardInput(dy, in: work)
    let part = work.narrowed(whole, axis: 1, 2..<8)
    #expect(down.backwardInput(dy, columns: 2..<8, in: work).doubles == part.doubles)
    #expect(
      down.backwardInput(dy, columns: 2..<8, through: .silu, at: before, in: work).doubles
        == work.activationBackward(.silu, part, x: before).doubles)
    var sum = randomTensor(Shape(4, 9), seed: 70)
    let expected = work.sum(sum, whole)
    let (_, saved) = down.forward(randomTensor(Shape(4, 9), seed: 71), in: work)
    down.backward(dy, saved, addingTo: &sum, in: work)
    #expect(zip(sum.doubles, expected.doubles).allSatisfy { abs($0 - $1) < 1e-14 })
  }
  @Test(arguments: [2, 17]) func layerNorm(_ width: Int) throws {
    let layer = try LayerNorm("n", width, epsilon: 1e-3, from: noisySource(seed: 5))
    GradientCheck(layer, inputs: [randomTensor(Shape(3, 4, width), seed: 6)]) { l, x, work in
      let (y, s) = l.forward(x[0], in: work)
      return ([y], { l, dy, work in [l.backward(dy[0], s, in: work)] })
    }.run(seed: 7)
  }
  /// Behind ReLU, and with a gradient that passes it by: the separate operations.
  @Test func layerNormBehindReLU() throws {
    var layer = try LayerNorm("n", 9, epsilon: 1e-3, from: noisySource(seed: 5))
    let work = Workspace()
    let h = randomTensor(Shape(5, 9), seed: 72)
    let dy = randomTensor(Shape(5, 9), seed: 73)
    let side = randomTensor(Shape(5, 9), seed: 74)
    let (_, s) = layer.forward(work.activation(.relu, h), in: work)
    let plain = layer.backward(dy, s, in: work)
    #expect(
      layer.backward(dy, s, rectified: true, in: work).doubles
        == work.activationBackward(.relu, plain, x: h).doubles)
    #expect(layer.backward(dy, s, adding: side, in: work).doubles == work.sum(plain, side).doubles)
  }
  @Test func rmsNorm() throws {
    GradientCheck(
      try RMSNorm("n", 11, epsilon: 1e-5, from: noisySource(seed: 8)),
      inputs: [randomTensor(Shape(5, 11), seed: 9)]
    ) { l, x, work in
      let (y, s) = l.forward(x[0], in: work)
      return ([y], { l, dy, work in [l.backward(dy[0], s, in: work)] })
    }.run(seed: 10)
  }
  @Test(arguments: [false, true]) func groupNorm(_ silu: Bool) throws {
    GradientCheck(
      try GroupNorm("n", 6, groups: 3, epsilon: 1e-5, silu: silu, from: noisySource(seed: 11)),
      inputs: [randomTensor(Shape(2, 6, 2, 3, 3), seed: 12)]
    ) { l, x, work in
      let (y, s) = l.forward(x[0], in: work)
      return ([y], { l, dy, work in [l.backward(dy[0], s, in: work)] })
    }.run(seed: 13)
  }
  /// A convolution after a norm, with a sum beside both. A frozen one normalises as it reads, a
  /// trained one makes the normalised input again.
  struct NormalisedConvolution: Layer {
    var norm: GroupNorm, convolution: Convolution
    let isTrained: Bool
    mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
      try norm.forEachParameter(body)
      if isTrained { try convolution.forEachParameter(body) }
    }
  }
  @Test(arguments: [false, true]) func normalisedConvolution(_ isTrained: Bool) throws {
    let layer = NormalisedConvolution(
      norm: try GroupNorm(
        "n", 4, groups: 2, epsilon: 1e-5, silu: true, from: noisySource(seed: 40)),
      convolution: try Convolution.causal("c", 4, 4, kernel: 3, from: noisySource(seed: 41)),
      isTrained: isTrained)
    GradientCheck(layer, inputs: [randomTensor(Shape(2, 4, 2, 3, 5), seed: 42)]) { l, x, work in
      let (y, s) = l.convolution.forward(x[0], after: l.norm, adding: x[0], in: work)
      return (
        [y],
        { l, dy, work in
          [l.convolution.backward(dy[0], s, after: &l.norm, adding: dy[0], in: work)]
        }
      )
    }.run(seed: 43)
  }
  /// An average that follows in the optimiser's pass has the bits of one that is updated
  /// afterwards, and is written in place.
  @Test func averageInTheUpdate() throws {
    let work = Workspace()
    var model = try Linear("l", 9, 37, from: .random(seed: 50, type: .f32))
    model.makeTrainable(in: work)
    var one = AdamW(.init(weightDecay: 0.1), for: model, in: work)
    var other = one
    var model2 = model
    var separate = MovingAverage(decay: 0.9, of: model, in: work)
    var together: MovingAverage? = MovingAverage(decay: 0.9, of: model, in: work)
    for k in 0..<3 {
      let g = RandomStream(seed: 51, .test, step: k).normal(Shape(37, 9), in: work)
      model.weight.gradient = g
      model2.weight.gradient = g
      one.step(&model, learningRate: 0.1, averaging: &together, decay: k == 0 ? 0.5 : nil, in: work)
      other.step(&model2, learningRate: 0.1, in: work)
      separate.update(from: model2, decay: k == 0 ? 0.5 : nil, in: work)
      for ((name, value), (name2, value2)) in zip(together!.values, separate.values) {
        #expect(name == name2 && value.floats == value2.floats, "\(name) after \(k + 1)")
      }
    }
    #expect(
      model.weight.value.floats == model2.weight.value.floats
        && together!.values[0].value.floats != model.weight.value.floats)
  }
  /// bf16 moments, rounded stochastically, follow those in f32 on average over a thousand steps,
  /// where rounding to the nearest would stop the second moment half-way; the same bits for any
  /// number of threads.
  @Test func narrowMoments() throws {
    func run(narrow: Bool, threads: Int) throws -> (model: Linear, optimizer: AdamW) {
      let kept = Machine.threads
      defer { Machine.threads = kept }
      Machine.threads = threads
      let work = Workspace()
      var model = try Linear("l", 100, 200, from: .random(seed: 60, type: .f32))
      model.makeTrainable(in: work)
      var optimizer = AdamW(.init(moments: narrow ? .bf16 : .f32), for: model, in: work)
      for k in 0..<1000 {
        model.weight.gradient = RandomStream(seed: 61, .test, step: k % 10).normal(
          Shape(200, 100), in: work)
        optimizer.step(&model, learningRate: 1e-3, in: work)
      }
      return (model, optimizer)
    }
    let (wide, o) = try run(narrow: false, threads: 2)
    let (narrow, n) = try run(narrow: true, threads: 2)
    let (single, _) = try run(narrow: true, threads: 1)
    #expect(n.second[0].type == .bf16 && n.first[0].byteCount * 2 == o.first[0].byteCount)
    #expect(narrow.weight.value.floats == single.weight.value.floats)
    let work = Workspace()
    func mean(_ t: Tensor) -> Double { work.total(work.converted(t, to: .f64)) / Double(t.count) }
    #expect(
      abs(mean(n.second[0]) / mean(o.second[0]) - 1) < 0.005,
      "\(mean(n.second[0])) beside \(mean(o.second[0]))")
    let moved =
      zip(wide.weight.value.floats, narrow.weight.value.floats).map { abs($0 - $1) }.reduce(0, +)
      / 20000
    #expect(moved > 0 && moved < 0.01, "\(moved)")
  }
  /// The gradient is written over dy only where nothing else holds it.
  @Test func groupNormInPlace() throws {
    var layer = try GroupNorm(
      "n", 4, groups: 2, epsilon: 1e-5, silu: true, from: noisySource(seed: 44))
    let work = Workspace()
    let x = randomTensor(Shape(2, 4, 9), seed: 45)
    let kept = randomTensor(Shape(2, 4, 9), seed: 46)
    let values = kept.doubles
    let (_, s) = layer.forward(x, in: work)
    let dx = layer.backward(kept, s, in: work)
    let again = layer.backward(work.copy(kept), s, in: work)
    #expect(kept.doubles == values && dx.doubles == again.doubles && dx.doubles != values)
  }
  @Test(arguments: [Activation.geluErf, .geluTanh, .silu, .relu]) func feedForward(_ f: Activation)
    throws
  {
    GradientCheck(
      try FeedForward("a", "b", width: 5, hidden: 9, activation: f, from: noisySource(seed: 14)),
      inputs: [randomTensor(Shape(4, 5), seed: 15)]
    ) { l, x, work in
      let (y, s) = l.forward(x[0], in: work)
      return ([y], { l, dy, work in [l.backward(dy[0], s, in: work)] })
    }.run(seed: 16)
  }
  @Test(arguments: [
    (1, SIMD3(1, 1, 1)), (3, SIMD3(1, 1, 1)), (3, SIMD3(2, 2, 2)), (3, SIMD3(1, 2, 2)),
  ]) func convolution(_ kernel: Int, _ stride: SIMD3<Int>) throws {
    GradientCheck(
      try Convolution.causal(
        "c", 3, 5, kernel: kernel, stride: stride, from: noisySource(seed: 17)),
      inputs: [randomTensor(Shape(2, 3, 5, 6, 7), seed: 18)]
    ) { l, x, work in
      let (y, s) = l.forward(x[0], in: work)
      return ([y], { l, dy, work in [l.backward(dy[0], s, in: work)] })
    }.run(seed: 19)
  }
  /// Upsampling folded into the convolution: weights of taps that read copies of one cell are
  /// added, in all passes.
  @Test(arguments: [SIMD3(2, 2, 2), SIMD3(1, 2, 2), SIMD3(2, 3, 1)]) func upsamplingConvolution(
    _ factor: SIMD3<Int>
  ) throws {
    GradientCheck(
      try Convolution.causal("c", 3, 5, kernel: 3, upsampling: factor, from: noisySource(seed: 17)),
      inputs: [randomTensor(Shape(2, 3, 3, 4, 5), seed: 18)]
    ) { l, x, work in
      let (y, s) = l.forward(x[0], in: work)
      return ([y], { l, dy, work in [l.backward(dy[0], s, in: work)] })
    }.run(seed: 19)
  }
  @Test func patchEmbedding() throws {
    GradientCheck(
      try PatchEmbedding(
        "p", channels: 2, width: 5, patch: SIMD3(1, 2, 3), from: noisySource(seed: 20)),
      inputs: [randomTensor(Shape(2, 2, 3, 4, 6), seed: 21)]
    ) { l, x, work in
      let (y, s) = l.forward(x[0], in: work)
      return ([y], { l, dy, work in [l.backward(dy[0], s, in: work)] })
    }.run(seed: 22)
  }

  /// Operations without parameters.
  struct Nothing: Layer {
    mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {}
  }

  @Test(arguments: [(1, 0), (2, 0), (2, 3), (16, 0)]) func attention(_ heads: Int, _ causal: Int) {
    let (b, n, m, d) = (2, 6, causal > 0 ? 6 : 9, heads * 4)
    let visible = Workspace.Visibility(
      keyCounts: causal > 0 ? [] : [5, 9].map { Int32($0) }, causalBlock: causal)
    let inputs = [
      randomTensor(Shape(b, n, d), seed: 23), randomTensor(Shape(b, m, d), seed: 24),
      randomTensor(Shape(b, m, d), seed: 25),
    ]
    GradientCheck(Nothing(), inputs: inputs) { _, x, work in
      let (o, lse) = work.attention(
        q: x[0], k: x[1], v: x[2], heads: heads, scale: 0.6, visible: visible)
      return (
        [o],
        { _, dy, work in
          let (dq, dk, dv) = work.attentionBackward(
            dy[0], q: x[0], k: x[1], v: x[2], o: o, lse: lse, heads: heads, scale: 0.6,
            visible: visible)
          return [dq, dk, dv]
        }
      )
    }.run(seed: 26)
  }
  @Test func fusedAttentionEqualsSeparate() {
    let work = Workspace()
    let qkv = randomTensor(Shape(2, 7, 24), seed: 27, type: .f32)
    let dy = randomTensor(Shape(2, 7, 8), seed: 28, type: .f32)
    let q = work.narrowed(qkv, axis: 2, 0..<8)
    let k = work.narrowed(qkv, axis: 2, 8..<16)
    let v = work.narrowed(qkv, axis: 2, 16..<24)
    let (a, la) = work.attention(qkv: qkv, heads: 2, scale: 0.5)
    let (b, lb) = work.attention(q: q, k: k, v: v, heads: 2, scale: 0.5)
    #expect(a.floats == b.floats)
    let fused = work.attentionBackward(dy, qkv: qkv, o: a, lse: la, heads: 2, scale: 0.5)
    let (dq, dk, dv) = work.attentionBackward(
      dy, q: q, k: k, v: v, o: b, lse: lb, heads: 2, scale: 0.5)
    #expect(fused.floats == work.concatenated([dq, dk, dv], axis: 2).floats)
  }
  @Test func modulationAndGate() {
    let inputs = [
      randomTensor(Shape(2, 3, 5), seed: 29), randomTensor(Shape(2, 15), seed: 30),
      randomTensor(Shape(2, 3, 5), seed: 31),
    ]
    GradientCheck(Nothing(), inputs: inputs) { _, x, work in
      func chunk(_ i: Int) -> Workspace.Chunk { Workspace.Chunk(x[1], i, of: 3) }
      let (u, s) = work.adaptiveLayerNorm(x[0], scale: chunk(0), shift: chunk(1), epsilon: 1e-5)
      let y = work.gate(u, chunk(2), x[2])
      return (
        [y],
        { _, dy, work in
          var chunks: Tensor? = work.zeros(x[1].shape, .f64)
          let dh = work.gateBackward(dy[0], chunk(2), h: x[2], index: 2, of: 3, addingTo: &chunks)
          let dx = work.adaptiveLayerNormBackward(
            dy[0], x: x[0], scale: chunk(0), statistics: s, scaleIndex: 0, shiftIndex: 1, of: 3,
            addingTo: &chunks)
          return [dx, chunks, dh]
        }
      )
    }.run(seed: 32)
  }
  /// Heads in the middle columns of x and the middle rows of y, the first tokens turned; what lies
  /// beside them stays.
  @Test(arguments: [0, 3]) func headNorm(_ turned: Int) throws {
    let work = Workspace()
    let table = { (seed: UInt64) in randomTensor(Shape(max(turned, 1), 2), seed: seed) }
    let rotation: Workspace.Rotation? = turned == 0 ? nil : (table(60), table(65))
    GradientCheck(
      try RMSNorm("n", 4, epsilon: 1e-5, from: noisySource(seed: 61)),
      inputs: [randomTensor(Shape(2, 5, 17), seed: 62)]
    ) { l, x, work in
      var y = work.zeros(Shape(2, 9, 12), .f64)
      let s = l.forwardHeads(
        x[0], column: 2, heads: 3, rotation: rotation, into: &y, row: 3, in: work)
      return (
        [y],
        { l, dy, work in
          var dx = work.zeros(x[0].shape, .f64)
          l.backwardHeads(
            dy[0], row: 3, s, column: 2, heads: 3, rotation: rotation, into: &dx, in: work)
          return [dx]
        }
      )
    }.run(seed: 63)
    // The same as the norm of each head and then the rotation.
    let layer = try RMSNorm("n", 4, epsilon: 1e-5, from: noisySource(seed: 61))
    let x = randomTensor(Shape(2, 5, 12), seed: 64)
    var joint = work.zeros(Shape(2, 9, 12), .f64)
    _ = layer.forwardHeads(x, heads: 3, rotation: rotation, into: &joint, row: 3, in: work)
    var separate = layer.forward(x.reshaped(Shape(30, 4)), in: work).y.reshaped(x.shape)
    if let rotation {
      work.rotate(&separate, heads: 3, cosines: rotation.cosines, sines: rotation.sines)
    }
    #expect(work.narrowed(joint, axis: 1, 3..<8).doubles == separate.doubles)
  }
  @Test func upsampling() {
    GradientCheck(Nothing(), inputs: [randomTensor(Shape(2, 3, 3, 2, 2), seed: 33)]) { _, x, work in
      (
        [work.upsample(x[0], SIMD3(2, 2, 3))],
        { _, dy, work in [work.upsampleBackward(dy[0], input: x[0].shape, SIMD3(2, 2, 3))] }
      )
    }.run(seed: 34)
  }
  @Test func losses() {
    let work = Workspace()
    let x = randomTensor(Shape(40), seed: 35)
    let t = randomTensor(Shape(40), seed: 36)
    let w = randomTensor(Shape(40), seed: 37)
    let u = randomTensor(Shape(40), seed: 38)
    let kinds: [(String, (Tensor) -> (loss: Double, dx: Tensor))] = [
      ("weighted", { work.weightedL1L2($0, target: t, weight: w) }),
      ("huber", { work.pseudoHuber($0, target: t, c: 0.1) }),
      ("squared", { work.meanSquaredError($0, target: t) }),
    ]
    for (name, f) in kinds {
      let analytic = work.dot(f(x).dx, u)
      let numeric =
        (f(work.combine(1, x, 1e-5, u)).loss - f(work.combine(1, x, -1e-5, u)).loss) / 2e-5
      #expect(
        abs(analytic - numeric) < 1e-7 * (1 + abs(numeric)), "\(name): \(analytic), \(numeric)")
    }
  }
  @Test func twoBackwardsAdd() throws {
    let work = Workspace()
    var layer = try Linear("l", 3, 2, from: noisySource(seed: 39))
    layer.makeTrainable(in: work)
    let (_, s) = layer.forward(randomTensor(Shape(4, 3), seed: 40), in: work)
    let dy = randomTensor(Shape(4, 2), seed: 41)
    _ = layer.backward(dy, s, in: work)
    let once = layer.weight.gradient!.doubles
    _ = layer.backward(dy, s, in: work)
    #expect(zip(layer.weight.gradient!.doubles, once).allSatisfy { abs($0 - 2 * $1) < 1e-12 })
  }
}
