import Layers
import TensorRuntime

/// Image and text streams with weights of their own and one joint attention (algorithm.md 6.7).
/// img `[B, N, D]`, txt `[B, L, D]`; chunks of a modulation: shift₁, scale₁, gate₁, shift₂, scale₂, gate₂.
struct DoubleStreamBlock: Layer {
  var image: Stream, text: Stream
  let heads: Int

  /// What one stream owns.
  struct Stream: Layer {
    var modulation: Modulation
    var projection: StreamProjection
    var out: Linear
    var feedForward: FeedForward
    static let norm = LayerNorm(epsilon: 1e-6)

    struct Entry: Sendable {
      let modulation: Modulation.Saved
      let x: Tensor, normed: Tensor, norm: LayerNorm.Saved, projection: StreamProjection.Saved
    }
    struct Exit: Sendable {
      let out: Linear.Saved, attended: Tensor
      let normed: Tensor, norm: LayerNorm.Saved, feedForward: FeedForward.Saved, fed: Tensor
    }
    func enter(_ x: Tensor, _ active: Tensor, rotary: RotaryTable?, in work: borrowing Workspace) -> (StreamProjection.Projected, Entry) {
      let m = modulation.forward(active, in: work)
      let (normed, ns) = Self.norm.forward(x, in: work)
      let u = work.modulate(normed, scale: modulation.chunk(m, 1), shift: modulation.chunk(m, 0))
      let (p, ps) = projection.forward(u, rotary: rotary, in: work)
      return (p, Entry(modulation: m, x: x, normed: normed, norm: ns, projection: ps))
    }
    func exit(_ o: Tensor, _ e: Entry, in work: borrowing Workspace) -> (Tensor, Exit) {
      let (attended, os) = out.forward(o, in: work)
      let middle = work.gate(e.x, modulation.chunk(e.modulation, 2), attended)
      let (normed, ns) = Self.norm.forward(middle, in: work)
      let u = work.modulate(normed, scale: modulation.chunk(e.modulation, 4), shift: modulation.chunk(e.modulation, 3))
      let (fed, fs) = feedForward.forward(u, in: work)
      return (work.gate(middle, modulation.chunk(e.modulation, 5), fed), Exit(out: os, attended: attended, normed: normed, norm: ns, feedForward: fs, fed: fed))
    }
    /// (gradient of o, gradient of the residual stream so far).
    mutating func exitBackward(_ dy: Tensor, _ s: Exit, _ e: Entry, addingTo dChunks: inout Tensor?, in work: borrowing Workspace) -> (dO: Tensor, dMiddle: Tensor) {
      let dFed = work.gateBackward(dy, modulation.chunk(e.modulation, 5), h: s.fed, index: 5, of: 6, addingTo: &dChunks)
      let du = feedForward.backward(dFed, s.feedForward, in: work)
      let dNormed = work.modulateBackward(du, x: s.normed, scale: modulation.chunk(e.modulation, 4), scaleIndex: 4, shiftIndex: 3, of: 6, addingTo: &dChunks)
      var norm = Self.norm
      var dMiddle = norm.backward(dNormed, s.norm, in: work)
      work.add(dy, to: &dMiddle)
      let dAttended = work.gateBackward(dMiddle, modulation.chunk(e.modulation, 2), h: s.attended, index: 2, of: 6, addingTo: &dChunks)
      return (out.backward(dAttended, s.out, in: work), dMiddle)
    }
    mutating func enterBackward(_ du: Tensor, dMiddle: consuming Tensor, _ e: Entry, addingTo dChunks: inout Tensor?, in work: borrowing Workspace) -> Tensor {
      let dNormed = work.modulateBackward(du, x: e.normed, scale: modulation.chunk(e.modulation, 1), scaleIndex: 1, shiftIndex: 0, of: 6, addingTo: &dChunks)
      var norm = Self.norm
      work.add(norm.backward(dNormed, e.norm, in: work), to: &dMiddle)
      return dMiddle
    }
    mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
      try modulation.forEachParameter(body)
      try projection.forEachParameter(body)
      try out.forEachParameter(body)
      try feedForward.forEachParameter(body)
    }
  }
  struct Saved: Sendable {
    let imageEntry, textEntry: Stream.Entry, imageExit, textExit: Stream.Exit
    let q, k, v, o, lse: Tensor
  }

  init(_ name: String, _ c: TransformerConfig, from source: ParameterSource) throws {
    func stream(_ norm: String, _ projections: [String], _ out: String, _ ff: String) throws -> Stream {
      Stream(
        modulation: try Modulation("\(name).\(norm)", width: c.width, chunks: 6, from: source),
        projection: try StreamProjection("\(name).attn", projections, c, from: source), out: try Linear("\(name).attn.\(out)", c.width, c.width, from: source),
        feedForward: try FeedForward("\(name).\(ff).net.0.proj", "\(name).\(ff).net.2", width: c.width, hidden: c.hidden, activation: .geluTanh, from: source))
    }
    image = try stream("norm1", ["to_q", "to_k", "to_v", "norm_q", "norm_k"], "to_out.0", "ff")
    text = try stream("norm1_context", ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"], "to_add_out", "ff_context")
    heads = c.numAttentionHeads
  }
  private var scale: Double { 1 / (Double(image.out.inputWidth) / Double(heads)).squareRoot() }

  func forward(_ img: Tensor, _ txt: Tensor, _ active: Tensor, rotary: RotaryTable, visible: Workspace.Visibility, in work: borrowing Workspace) -> (img: Tensor, txt: Tensor, saved: Saved) {
    let n = img.shape[1], l = txt.shape[1]
    let (pi, ei) = image.enter(img, active, rotary: rotary, in: work)
    let (pt, et) = text.enter(txt, active, rotary: nil, in: work)
    let q = work.concatenated([pi.q, pt.q], axis: 1), k = work.concatenated([pi.k, pt.k], axis: 1), v = work.concatenated([pi.v, pt.v], axis: 1)
    let (o, lse) = work.attention(q: q, k: k, v: v, heads: heads, scale: scale, visible: visible)
    let (yi, xi) = image.exit(work.narrowed(o, axis: 1, 0..<n), ei, in: work)
    let (yt, xt) = text.exit(work.narrowed(o, axis: 1, n..<n + l), et, in: work)
    return (yi, yt, Saved(imageEntry: ei, textEntry: et, imageExit: xi, textExit: xt, q: q, k: k, v: v, o: o, lse: lse))
  }

  /// Gradients of both streams; adds to that of SiLU(vec) when it is wanted.
  mutating func backward(
    _ dImg: Tensor, _ dTxt: Tensor, _ s: Saved, rotary: RotaryTable, visible: Workspace.Visibility, addingTo dActive: inout Tensor?, in work: borrowing Workspace
  ) -> (dImg: Tensor, dTxt: Tensor) {
    let n = dImg.shape[1], l = dTxt.shape[1]
    var ci = image.modulation.gradient(s.imageEntry.modulation, wanted: dActive != nil, in: work)
    var ct = text.modulation.gradient(s.textEntry.modulation, wanted: dActive != nil, in: work)
    let (doImg, dmImg) = image.exitBackward(dImg, s.imageExit, s.imageEntry, addingTo: &ci, in: work)
    let (doTxt, dmTxt) = text.exitBackward(dTxt, s.textExit, s.textEntry, addingTo: &ct, in: work)
    let dO = work.concatenated([doImg, doTxt], axis: 1)
    let (dq, dk, dv) = work.attentionBackward(dO, q: s.q, k: s.k, v: s.v, o: s.o, lse: s.lse, heads: heads, scale: scale, visible: visible)
    func rows(_ t: Tensor, _ r: Range<Int>) -> Tensor { work.narrowed(t, axis: 1, r) }
    let duImg = image.projection.backward(rows(dq, 0..<n), rows(dk, 0..<n), rows(dv, 0..<n), s.imageEntry.projection, rotary: rotary, in: work)
    let duTxt = text.projection.backward(rows(dq, n..<n + l), rows(dk, n..<n + l), rows(dv, n..<n + l), s.textEntry.projection, rotary: nil, in: work)
    let dxImg = image.enterBackward(duImg, dMiddle: dmImg, s.imageEntry, addingTo: &ci, in: work)
    let dxTxt = text.enterBackward(duTxt, dMiddle: dmTxt, s.textEntry, addingTo: &ct, in: work)
    image.modulation.backward(ci, s.imageEntry.modulation, addingTo: &dActive, in: work)
    text.modulation.backward(ct, s.textEntry.modulation, addingTo: &dActive, in: work)
    return (dxImg, dxTxt)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try image.forEachParameter(body)
    try text.forEachParameter(body)
  }
}
