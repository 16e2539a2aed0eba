import TensorRuntime
import Testing

/// Layer norm, RMS norm, group norm and what is fused with them.
@Suite(.serialized) struct NormTests {
  @Test(arguments: [(1, 1), (3, 7), (17, 33), (130, 129), (40, 384)])
  func rows(count: Int, columns: Int) {
    let inputs = [
      Inputs.numbers(Shape(count, columns), 1), Inputs.numbers(Shape(count, columns), 2),
      Inputs.numbers(Shape(columns), 3), Inputs.numbers(Shape(columns), 4),
    ]
    // One column: the variance is 0, and dx is a difference of equal numbers.
    compare("layer norm \(count) x \(columns)", inputs, tolerance: 1e-5) { t in
      let y = Reference.layerNorm(t[0], scale: t[2], shift: t[3], epsilon: 1e-5)
      let d = Reference.layerNormBackward(t[1], x: t[0], scale: t[2], epsilon: 1e-5)
      return columns == 1 ? [y, d.dShift] : [y, d.dShift, d.dx, d.dScale]
    } _: { t, w in
      var dScale: Tensor? = w.zeros(t[2].shape, t[0].type)
      var dShift: Tensor? = w.zeros(t[2].shape, t[0].type)
      let (y, s) = w.layerNorm(t[0], scale: t[2], shift: t[3], epsilon: 1e-5)
      let dx = w.layerNormBackward(
        t[1], x: t[0], scale: t[2], statistics: s, addingTo: &dScale, &dShift)
      return columns == 1 ? [y, dShift!] : [y, dShift!, dx, dScale!]
    }
    compare("RMS norm \(count) x \(columns)", inputs, tolerance: 1e-5) { t in
      let y = Reference.rmsNorm(t[0], scale: t[2], epsilon: 1e-6)
      let d = Reference.rmsNormBackward(t[1], x: t[0], scale: t[2], epsilon: 1e-6)
      return columns == 1 ? [y, d.dScale] : [y, d.dScale, d.dx]
    } _: { t, w in
      var dScale: Tensor? = w.zeros(t[2].shape, t[0].type)
      let (y, rstd) = w.rmsNorm(t[0], scale: t[2], epsilon: 1e-6)
      let dx = w.rmsNormBackward(t[1], x: t[0], scale: t[2], rstd: rstd, addingTo: &dScale)
      return columns == 1 ? [y, dScale!] : [y, dScale!, dx]
    }
  }

  /// Chunk `index` of `count` of every row of `[B, count * C]`, as `[B, C]`.
  private func chunk(_ t: Tensor, _ index: Int, of count: Int) -> Tensor {
    let width = t.shape.last / count
    let values = t.doubles
    var out: [Double] = []
    for b in 0..<t.shape[0] {
      let first = (b * count + index) * width
      out += values[first..<first + width]
    }
    return Tensor(out, Shape(t.shape[0], width))
  }
  /// The reverse: chunks `[B, C]` side by side.
  private func joined(_ chunks: [Tensor]) -> Tensor {
    let (b, width) = (chunks[0].shape[0], chunks[0].shape[1])
    var out: [Double] = []
    for row in 0..<b {
      for chunk in chunks { out += chunk.doubles[row * width..<(row + 1) * width] }
    }
    return Tensor(out, Shape(b, chunks.count * width))
  }

  @Test(arguments: [[2, 130, 88], [1, 9, 7], [70, 3, 48], [3, 260, 384]])
  func adaptive(sizes: [Int]) {
    let (b, n, c) = (sizes[0], sizes[1], sizes[2])
    let x = Inputs.numbers(Shape(b, n, c), 1)
    let dy = Inputs.numbers(Shape(b, n, c), 2)
    let chunks = Inputs.numbers(Shape(b, 3 * c), 3)
    compare("adaptive layer norm and gate \(sizes)", [x, dy, chunks], tolerance: 2e-5) { t in
      let (scale, shift, gate) = (
        chunk(t[2], 0, of: 3), chunk(t[2], 1, of: 3), chunk(t[2], 2, of: 3)
      )
      let y = Reference.layerNorm(t[0], scale: scale, shift: shift, plus: 1, epsilon: 1e-6)
      let d = Reference.layerNormBackward(t[1], x: t[0], scale: scale, plus: 1, epsilon: 1e-6)
      let (xs, dys, gates) = (t[0].doubles, t[1].doubles, gate.doubles)
      let dx = zip(d.dx.doubles, xs).map { $0 + $1 }
      var dh = dys
      var dGate = [Double](repeating: 0, count: b * c)
      for i in dys.indices {
        let at = i / (n * c) * c + i % c
        dh[i] *= gates[at]
        dGate[at] += dys[i] * xs[i]
      }
      return [
        y, Tensor(dx, t[0].shape), Tensor(dh, t[0].shape),
        joined([d.dScale, d.dShift, Tensor(dGate, Shape(b, c))]),
      ]
    } _: { t, w in
      func chunk(_ i: Int) -> Workspace.Chunk { Workspace.Chunk(t[2], i, of: 3) }
      var d: Tensor? = w.zeros(t[2].shape, t[0].type)
      let (y, s) = w.adaptiveLayerNorm(t[0], scale: chunk(0), shift: chunk(1), epsilon: 1e-6)
      let dx = w.adaptiveLayerNormBackward(
        t[1], x: t[0], scale: chunk(0), statistics: s, adding: t[0], scaleIndex: 0, shiftIndex: 1,
        of: 3, addingTo: &d)
      return [y, dx, w.gateBackward(t[1], chunk(2), h: t[0], index: 2, of: 3, addingTo: &d), d!]
    }
  }

  /// Heads are normed and turned, and written three rows into a longer sequence.
  @Test(arguments: [[2, 130, 2, 44], [1, 9, 1, 7], [70, 3, 3, 16], [3, 260, 6, 64]])
  func heads(sizes: [Int]) {
    let (b, n, heads, dim) = (sizes[0], sizes[1], sizes[2], sizes[3])
    let c = heads * dim
    let half = max(dim / 2, 1)
    let turns = dim % 2 == 0
    let inputs = [
      Inputs.numbers(Shape(b, n, c), 1), Inputs.numbers(Shape(b, n, c), 2),
      Inputs.numbers(Shape(dim), 4), Inputs.numbers(Shape(n / 2 + 1, half), 5),
      Inputs.numbers(Shape(n / 2 + 1, half), 6),
    ]
    compare("norm and rotation of heads \(sizes)", inputs, tolerance: 2e-5) { t in
      func rotated(_ x: Tensor, inverse: Bool) -> Tensor {
        turns
          ? Reference.rotated(x, heads: heads, cosines: t[3], sines: t[4], inverse: inverse) : x
      }
      let y = rotated(Reference.rmsNorm(t[0], scale: t[2], epsilon: 1e-6), inverse: false)
      let d = Reference.rmsNormBackward(
        rotated(t[1], inverse: true), x: t[0], scale: t[2], epsilon: 1e-6)
      return [y, d.dx, d.dScale]
    } _: { t, w in
      let rotation: Workspace.Rotation? = turns ? (t[3], t[4]) : nil
      var y = w.zeros(Shape(b, n + 5, c), t[0].type)
      var dy = w.zeros(Shape(b, n + 5, c), t[0].type)
      var dx = w.zeros(t[0].shape, t[0].type)
      var dGamma: Tensor? = w.zeros(Shape(dim), t[0].type)
      let rstd = w.headNorm(
        t[0], heads: heads, scale: t[2], epsilon: 1e-6, rotation: rotation, into: &y, row: 3)
      w.place(t[1], into: &dy, axis: 1, at: 2)
      w.headNormBackward(
        dy, row: 2, x: t[0], heads: heads, scale: t[2], rstd: rstd, rotation: rotation, into: &dx,
        addingTo: &dGamma)
      return [w.narrowed(y, axis: 1, 3..<3 + n), dx, dGamma!]
    }
  }

  @Test(arguments: [[2, 24, 4, 700], [1, 6, 3, 5000], [5, 32, 8, 33]], [false, true])
  func groups(sizes: [Int], silu: Bool) {
    let (b, c, groups, spatial) = (sizes[0], sizes[1], sizes[2], sizes[3])
    let inputs = [
      Inputs.numbers(Shape(b, c, spatial), 1), Inputs.numbers(Shape(b, c, spatial), 2),
      Inputs.numbers(Shape(c), 3), Inputs.numbers(Shape(c), 4),
    ]
    compare("group norm \(sizes), SiLU \(silu)", inputs, tolerance: 2e-5) { t in
      let y = Reference.groupNorm(
        t[0], groups: groups, scale: t[2], shift: t[3], epsilon: 1e-6, silu: silu)
      let d = Reference.groupNormBackward(
        t[1], x: t[0], groups: groups, scale: t[2], shift: t[3], epsilon: 1e-6, silu: silu)
      let dx = zip(d.dx.doubles, t[0].doubles).map { $0 + $1 }
      return [y, Tensor(dx, t[0].shape), d.dScale, d.dShift]
    } _: { t, w in
      var dScale: Tensor? = w.zeros(Shape(c), t[0].type)
      var dShift: Tensor? = w.zeros(Shape(c), t[0].type)
      let (y, s) = w.groupNorm(
        t[0], groups: groups, scale: t[2], shift: t[3], epsilon: 1e-6, silu: silu)
      let dx = w.groupNormBackward(
        t[1], x: t[0], groups: groups, scale: t[2], shift: t[3], epsilon: 1e-6, silu: silu,
        statistics: s, adding: t[0], addingTo: &dScale, &dShift)
      return [y, dx, dScale!, dShift!]
    }
  }

  /// Every frame by itself: the same as a batch of frames.
  @Test(arguments: [[2, 8, 4, 3, 35], [1, 12, 3, 16, 6], [3, 4, 4, 1, 40]])
  func framesOfGroups(sizes: [Int]) {
    let (b, c, groups, frames, spatial) = (sizes[0], sizes[1], sizes[2], sizes[3], sizes[4])
    let shape = Shape(b, c, frames, spatial)
    let inputs = [
      Inputs.numbers(shape, 1), Inputs.numbers(shape, 2), Inputs.numbers(Shape(c), 3),
      Inputs.numbers(Shape(c), 4),
    ]
    compare("group norm of frames \(sizes)", inputs, tolerance: 2e-5) { t in
      let work = Workspace()
      func batch(_ x: Tensor) -> Tensor {
        work.permuted(x, [0, 2, 1, 3]).reshaped(Shape(b * frames, c, spatial))
      }
      func frame(_ x: Tensor) -> Tensor {
        work.permuted(x.reshaped(Shape(b, frames, c, spatial)), [0, 2, 1, 3])
      }
      let y = Reference.groupNorm(
        batch(t[0]), groups: groups, scale: t[2], shift: t[3], epsilon: 1e-6, silu: true)
      let d = Reference.groupNormBackward(
        batch(t[1]), x: batch(t[0]), groups: groups, scale: t[2], shift: t[3], epsilon: 1e-6,
        silu: true)
      return [frame(y), frame(d.dx), d.dScale, d.dShift]
    } _: { t, w in
      var dScale: Tensor? = w.zeros(Shape(c), t[0].type)
      var dShift: Tensor? = w.zeros(Shape(c), t[0].type)
      let (y, s) = w.groupNorm(
        t[0], groups: groups, scale: t[2], shift: t[3], epsilon: 1e-6, silu: true, eachFrame: true)
      let dx = w.groupNormBackward(
        t[1], x: t[0], groups: groups, scale: t[2], shift: t[3], epsilon: 1e-6, silu: true,
        eachFrame: true, statistics: s, addingTo: &dScale, &dShift)
      return [y, dx, dScale!, dShift!]
    }
  }
}
