import Layers
import TensorRuntime

/// y + Attn(LN(y)), y + Attn(LN(y), context), y + GEGLU(LN(y)) (videocrafter.md 2.7). Rows y `[B, S
/// N, C]` are S sequences of N rows of each sample. The first attention stays within a sequence; so
/// does the second without a context, and with one `[B, L, width]` all rows of a sample see it.
/// Backward makes the normalised rows again.
struct UNetTransformerBlock: Layer {
  var norm1: LayerNorm, attention1: UNetAttention
  var norm2: LayerNorm, attention2: UNetAttention
  var norm3: LayerNorm, feedForward: GatedFeedForward
  let hasContext: Bool

  struct Saved: SavedTensors {
    var norm1: LayerNorm.Saved, norm2: LayerNorm.Saved, norm3: LayerNorm.Saved
    /// Backward takes these out.
    var attention1, attention2: UNetAttention.Saved?, feedForward: GatedFeedForward.Saved?
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      norm1.forEachTensor(body)
      norm2.forEachTensor(body)
      norm3.forEachTensor(body)
      attention1.forEachTensor(body)
      attention2.forEachTensor(body)
      feedForward.forEachTensor(body)
    }
  }

  init(_ name: String, width: Int, context: Int?, heads: Int, from source: ParameterSource) throws {
    func norm(_ i: Int) throws -> LayerNorm {
      try LayerNorm("\(name).norm\(i)", width, epsilon: 1e-5, from: source)
    }
    (norm1, norm2, norm3) = (try norm(1), try norm(2), try norm(3))
    attention1 = try UNetAttention("\(name).attn1", width: width, heads: heads, from: source)
    attention2 = try UNetAttention(
      "\(name).attn2", width: width, context: context, heads: heads, from: source)
    feedForward = try GatedFeedForward(
      "\(name).ff.net.0.proj", "\(name).ff.net.2", width: width, hidden: 4 * width,
      activation: .geluErf, from: source)
    hasContext = context != nil
  }
  private func sequences(_ x: Tensor, _ count: Int) -> Tensor {
    let s = x.shape
    return x.reshaped(Shape(s[0] * count, s[1] / count, s[2]))
  }

  func forward(_ x: Tensor, sequences count: Int, context: Tensor?, in work: borrowing Workspace)
    -> (y: Tensor, saved: Saved)
  {
    let (u1, n1) = norm1.forward(x, in: work)
    var (y, a1) = attention1.forward(sequences(consume u1, count), in: work)
    work.narrow(&a1)
    y = y.reshaped(x.shape)
    work.add(x, to: &y)
    let (u2, n2) = norm2.forward(y, in: work)
    var (z, a2) =
      hasContext
      ? attention2.forward(consume u2, context: context, in: work)
      : attention2.forward(sequences(consume u2, count), in: work)
    work.narrow(&a2)
    z = z.reshaped(x.shape)
    work.add(y, to: &z)
    let (u3, n3) = norm3.forward(z, in: work)
    var (w, fs) = feedForward.forward(consume u3, in: work)
    work.add(z, to: &w)
    return (
      w, Saved(norm1: n1, norm2: n2, norm3: n3, attention1: a1, attention2: a2, feedForward: fs)
    )
  }
  /// The result alone.
  func callAsFunction(
    _ x: Tensor, sequences count: Int, context: Tensor?, in work: borrowing Workspace
  ) -> Tensor {
    var y = attention1(sequences(norm1(x, in: work), count), in: work).reshaped(x.shape)
    work.add(x, to: &y)
    let u = norm2(y, in: work)
    var z =
      hasContext
      ? attention2(u, context: context, in: work)
      : attention2(sequences(u, count), in: work).reshaped(x.shape)
    work.add(y, to: &z)
    y = feedForward(norm3(z, in: work), in: work)
    work.add(z, to: &y)
    return y
  }
  mutating func backward(
    _ dw: Tensor, _ s: consuming Saved, sequences count: Int, addingTo dContext: inout Tensor?,
    in work: borrowing Workspace
  ) -> Tensor {
    var none: Tensor?
    let n3 = work.widened(s.norm3)
    let dz = norm3.backward(
      feedForward.backward(
        dw, s.feedForward.take()!, of: norm3.again(n3, in: work), in: work),
      n3, adding: dw, in: work)
    let n2 = work.widened(s.norm2)
    let u2 = norm2.again(n2, in: work)
    let du2 =
      hasContext
      ? attention2.backward(
        dz, s.attention2.take()!, of: u2, hasContext: true, addingTo: &dContext, in: work)
      : attention2.backward(
        sequences(dz, count), s.attention2.take()!, of: sequences(u2, count), addingTo: &none,
        in: work)
    let dy = norm2.backward(du2.reshaped(dw.shape), n2, adding: dz, in: work)
    let n1 = work.widened(s.norm1)
    let u1 = norm1.again(n1, in: work)
    let du1 = attention1.backward(
      sequences(dy, count), s.attention1.take()!, of: sequences(u1, count), addingTo: &none,
      in: work)
    return norm1.backward(du1.reshaped(dw.shape), n1, adding: dy, in: work)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try attention1.forEachParameter(body)
    try feedForward.forEachParameter(body)
    try attention2.forEachParameter(body)
    try norm1.forEachParameter(body)
    try norm2.forEachParameter(body)
    try norm3.forEachParameter(body)
  }
  mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows {
    try attention1.forEachAdaptable(body)
    try feedForward.up.asAdaptable(body)
    try feedForward.down.asAdaptable(body)
    try attention2.forEachAdaptable(body)
  }
}
