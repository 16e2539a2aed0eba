import Layers
public import TensorRuntime

/// The layers of an autoencoder's encoder, of either family, in the order in which they run
/// (algorithm.md 6.15, videocrafter.md 3).
struct EncoderStack: Layer {
  var convIn: Convolution
  var down: [AutoencoderLevel]
  var middle: MiddleBlock
  var normOut: GroupNorm
  var convOut, quant: Convolution

  /// With `keeping` false the levels keep nothing for backward.
  func forward(_ x: Tensor, keeping: Bool = true, in work: borrowing Workspace) -> (
    y: Tensor, saved: EncoderSaved
  ) {
    var (h, cs) = convIn.forward(x, in: work)
    var saved: [AutoencoderLevel.Saved] = []
    for level in down {
      let (y, s) = level.forward(h, keeping: keeping, in: work)
      saved.append(s)
      h = y
    }
    let (m, ms) = middle.forward(h, in: work)
    let (o, os) = convOut.forward(m, after: normOut, in: work)
    let (y, qs) = quant.forward(o, in: work)
    return (y, EncoderSaved(convIn: cs, down: saved, middle: ms, convOut: os, quant: qs))
  }
  /// dx, or nil if `wantsInput` is false.
  mutating func backward(
    _ dy: Tensor, _ s: EncoderSaved, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor? {
    let dm = convOut.backward(
      quant.backward(dy, s.quant, in: work), s.convOut, after: &normOut, in: work)
    var dh = middle.backward(dm, s.middle, in: work)
    for i in down.indices.reversed() { dh = down[i].backward(dh, s.down[i], in: work) }
    if wantsInput { return convIn.backward(dh, s.convIn, in: work) }
    convIn.backwardParameters(dh, s.convIn, in: work)
    return nil
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try convIn.forEachParameter(body)
    try down.forEachParameter(body)
    try middle.forEachParameter(body)
    try normOut.forEachParameter(body)
    try convOut.forEachParameter(body)
    try quant.forEachParameter(body)
  }
}

/// What an encoder keeps for backward.
public struct EncoderSaved: Sendable {
  let convIn: Convolution.Saved, down: [AutoencoderLevel.Saved], middle: MiddleBlock.Saved,
    convOut: GroupNorm.Saved, quant: Convolution.Saved
}
