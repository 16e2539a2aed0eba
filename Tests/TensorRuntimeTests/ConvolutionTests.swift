import TensorRuntime
import TestSupport
import Testing

/// Convolution and its gradients. Winograd's F(4, 3) and F(2, 3) have about 2.5 times the rounding
/// errors of a plain sum, and a corner's dx gathers up to 27 gradients. bf16 does not use them, but
/// beside AMX convolutions are f32.
@Suite(.serialized) struct ConvolutionTests {
  private var tolerance: Tolerance { Tolerance(8e-6, bf16: Machine.hasAMX ? 8e-6 : 2e-6) }

  @Test(arguments: [
    [1, 3, 5, 2, 7, 9], [2, 16, 32, 3, 8, 8], [1, 33, 18, 2, 5, 70], [1, 20, 36, 9, 40, 33],
    [1, 7, 20, 4, 18, 21], [1, 96, 130, 2, 6, 9], [2, 8, 3, 1, 1, 1],
    [2, 3, 5, 1, 9, 11], [2, 16, 32, 3, 9, 11],
  ])
  func plain(extents: [Int]) { check(extents, .causal(kernel: 3)) }

  @Test(arguments: [
    ([1, 4, 7, 5, 9, 6], SIMD3(2, 2, 2)), ([1, 5, 40, 4, 3, 11], SIMD3(1, 2, 2)),
    ([2, 16, 32, 3, 9, 11], SIMD3(2, 2, 2)), ([2, 8, 3, 3, 9, 11], SIMD3(1, 2, 2)),
  ])
  func strided(extents: [Int], stride: SIMD3<Int>) {
    check(extents, .causal(kernel: 3, stride: stride))
  }

  @Test(arguments: [
    ([1, 3, 5, 2, 7, 9], SIMD3(2, 2, 2)), ([2, 16, 32, 3, 8, 8], SIMD3(1, 2, 2)),
    ([1, 33, 18, 5, 20, 19], SIMD3(2, 2, 2)), ([1, 4, 7, 1, 1, 1], SIMD3(2, 2, 2)),
    ([1, 6, 20, 4, 4, 3], SIMD3(2, 1, 1)), ([1, 6, 20, 3, 4, 3], SIMD3(1, 3, 4)),
  ])
  func upsampled(extents: [Int], factors: SIMD3<Int>) {
    check(extents, .causal(kernel: 3, upsampling: factors))
  }

  /// An image network's convolution of every frame, with zeros around.
  @Test(arguments: [
    ([1, 3, 5, 2, 7, 9], 1, 1), ([2, 16, 32, 3, 8, 8], 1, 1), ([1, 33, 18, 2, 5, 70], 1, 1),
    ([1, 7, 20, 4, 18, 21], 1, 1), ([1, 96, 130, 2, 6, 9], 1, 1), ([2, 8, 3, 1, 1, 1], 1, 1),
    ([1, 40, 20, 2, 40, 64], 1, 1), ([2, 3, 5, 2, 7, 9], 2, 1), ([1, 16, 32, 3, 8, 12], 2, 1),
    ([2, 3, 5, 2, 7, 9], 1, 2), ([1, 16, 32, 3, 8, 12], 1, 2), ([1, 4, 7, 1, 1, 1], 1, 2),
  ])
  func image(extents: [Int], stride: Int, upsampling: Int) {
    check(extents, .image(kernel: 3, stride: stride, upsampling: upsampling))
  }

  /// Zeros only beyond the right and the lower edge are part of the input; nothing is padded here.
  @Test func imageWithoutPadding() {
    check([2, 5, 7, 2, 9, 11], .image(kernel: 3, stride: 2, side: 0))
  }

  @Test(arguments: [
    [1, 3, 5, 2, 7, 9], [2, 16, 32, 5, 3, 8], [1, 33, 18, 16, 5, 7], [2, 8, 3, 1, 4, 1],
  ])
  func temporal(extents: [Int]) { check(extents, .temporal(kernel: 3)) }

  @Test func ofOneCell() { check([2, 9, 16, 3, 7, 11], .causal(kernel: 1)) }

  /// extents: batch, channels, result channels, frames, rows, columns.
  private func check(_ extents: [Int], _ g: ConvolutionGeometry) {
    let (input, output) = (extents[1], extents[2])
    let k = g.kernel
    let x = Inputs.numbers(Shape(extents[0], input, extents[3], extents[4], extents[5]), 1)
    let weight = Inputs.quarters(Shape(output, input, k.x, k.y, k.z), 2)
    let bias = Inputs.numbers(Shape(output), 3)
    let dy = Inputs.numbers(Workspace.outputShape(x.shape, out: output, g), 4)
    let what = "conv \(extents), kernel \(k), stride \(g.stride), upsampling \(g.upsampling)"
    compare(what, [x, weight, bias], tolerance: tolerance) { t in
      [Reference.convolution(t[0], weight: t[1], bias: t[2], g)]
    } _: { t, w in
      [w.convolution(t[0], weight: t[1], bias: t[2], g)]
    }
    let d = Reference.convolutionBackward(dy, x: x, weight: weight, g)
    compare(what + ", backward data", [dy, weight], tolerance: tolerance) { _ in
      [d.dx]
    } _: { t, w in
      [w.convolutionBackwardInput(t[0], input: x.shape, weight: t[1], g)]
    }
    compare(what + ", backward weights", [dy, x], tolerance: 2e-6) { _ in
      [d.dWeight, d.dBias]
    } _: { t, w in
      var dw: Tensor? = w.zeros(weight.shape, t[0].type)
      var db: Tensor? = w.zeros(Shape(output), t[0].type)
      w.convolutionBackwardWeight(t[0], x: t[1], weight: weight.shape, g, addingTo: &dw, &db)
      return [dw!, db!]
    }
    if k == SIMD3(1, 1, 1) { return }
    for eachFrame in [false, true] { fusion(what, x, weight, bias, dy, g, eachFrame) }
  }

  /// Normalised as it is read and added to as it is written: the bits of the separate operations.
  private func fusion(
    _ what: String, _ x: Tensor, _ weight: Tensor, _ bias: Tensor, _ side: Tensor,
    _ g: ConvolutionGeometry, _ eachFrame: Bool
  ) {
    let scale = Inputs.numbers(Shape(x.shape[1]), 5)
    let shift = Inputs.numbers(Shape(x.shape[1]), 6)
    for variant in KernelVariant.present where variant != .f64 {
      let (fused, separate) = variant.use {
        let work = Workspace()
        let norm = work.pendingNorm(
          x, work.groupStatistics(x, groups: 1, epsilon: 1e-6, eachFrame: eachFrame), groups: 1,
          scale: scale, shift: shift, silu: true, eachFrame: eachFrame)
        var y = work.convolution(
          work.groupNorm(
            x, groups: 1, scale: scale, shift: shift, epsilon: 1e-6, silu: true,
            eachFrame: eachFrame
          ).y,
          weight: weight, bias: bias, g)
        work.add(side, to: &y)
        return (work.convolution(x, weight: weight, bias: bias, g, after: norm, adding: side), y)
      }
      #expect(
        fused.hasSameBits(as: separate), "\(what) on \(variant): fused with a norm and a sum")
    }
  }
}
