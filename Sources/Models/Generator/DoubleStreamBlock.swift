import Layers
import TensorRuntime

/// Image and text streams with separate weights and one joint attention (algorithm.md 6.7). img
/// `[B, N, D]`, txt `[B, L, D]`. Chunks of a modulation: shift₁, scale₁, gate₁, shift₂, scale₂,
/// gate₂.
struct DoubleStreamBlock: Layer {
  var image: Stream, text: Stream
  let heads: Int

  /// The layers of one stream.
  struct Stream: Layer {
    var modulation: Modulation
    var projection: StreamProjection
    var out: Linear
    var feedForward: FeedForward

    struct Entry: Sendable {
      let modulation: Modulation.Saved, x: Tensor, norm: Modulation.NormSaved,
        projection: StreamProjection.Saved
    }
    struct Exit: Sendable {
      let out: Linear.Saved, attended: Tensor, norm: Modulation.NormSaved,
        feedForward: FeedForward.Saved, fed: Tensor
    }

    /// Writes q, k, v to the rows of the joint attention from `row` on.
    func enter(
      _ x: Tensor, _ active: Tensor, rotary: RotaryTable?, joint: inout StreamProjection.Projected,
      row: Int, in work: borrowing Workspace
    ) -> Entry {
      let m = modulation.forward(active, in: work)
      let (u, ns) = modulation.norm(x, m, scale: 1, shift: 0, in: work)
      let (v, ps) = projection.forward(
        u, rotary: rotary, q: &joint.q, k: &joint.k, row: row, in: work)
      work.place(v, into: &joint.v, axis: 1, at: row)
      return Entry(modulation: m, x: x, norm: ns, projection: ps)
    }
    func exit(_ o: Tensor, _ e: Entry, in work: borrowing Workspace) -> (Tensor, Exit) {
      let (attended, os) = out.forward(o, in: work)
      let middle = modulation.gate(e.x, e.modulation, 2, attended, in: work)
      let (u, ns) = modulation.norm(middle, e.modulation, scale: 4, shift: 3, in: work)
      let (fed, fs) = feedForward.forward(u, in: work)
      return (
        modulation.gate(middle, e.modulation, 5, fed, in: work),
        Exit(out: os, attended: attended, norm: ns, feedForward: fs, fed: fed)
      )
    }
    /// Returns (gradient of o, gradient of the residual stream at this point).
    mutating func exitBackward(
      _ dy: Tensor, _ s: Exit, _ e: Entry, addingTo dChunks: inout Tensor?,
      in work: borrowing Workspace
    ) -> (dO: Tensor, dMiddle: Tensor) {
      let dFed = modulation.gateBackward(
        dy, e.modulation, 5, h: s.fed, addingTo: &dChunks, in: work)
      let du = feedForward.backward(dFed, s.feedForward, in: work)
      let dMiddle = modulation.normBackward(
        du, s.norm, e.modulation, scale: 4, shift: 3, adding: dy, addingTo: &dChunks, in: work)
      let dAttended = modulation.gateBackward(
        dMiddle, e.modulation, 2, h: s.attended, addingTo: &dChunks, in: work)
      return (out.backward(dAttended, s.out, in: work), dMiddle)
    }
    mutating func enterBackward(
      _ joint: StreamProjection.Projected, row: Int, dMiddle: Tensor, _ e: Entry,
      rotary: RotaryTable?, addingTo dChunks: inout Tensor?, in work: borrowing Workspace
    ) -> Tensor {
      let dv = work.narrowed(joint.v, axis: 1, row..<row + e.x.shape[1])
      let du = projection.backward(
        joint.q, joint.k, row: row, dv, e.projection, rotary: rotary, in: work)
      return modulation.normBackward(
        du, e.norm, e.modulation, scale: 1, shift: 0, adding: dMiddle, addingTo: &dChunks, in: work)
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
    let joint: StreamProjection.Projected, o, lse: Tensor
  }

  init(_ name: String, _ c: TransformerConfig, from source: ParameterSource) throws {
    func stream(_ norm: String, _ projections: [String], _ out: String, _ ff: String) throws
      -> Stream
    {
      Stream(
        modulation: try Modulation("\(name).\(norm)", width: c.width, chunks: 6, from: source),
        projection: try StreamProjection("\(name).attn", projections, c, from: source),
        out: try Linear("\(name).attn.\(out)", c.width, c.width, from: source),
        feedForward: try FeedForward(
          "\(name).\(ff).net.0.proj", "\(name).\(ff).net.2", width: c.width, hidden: c.hidden,
          activation: .geluTanh, from: source))
    }
    image = try stream("norm1", ["to_q", "to_k", "to_v", "norm_q", "norm_k"], "to_out.0", "ff")
    text = try stream(
      "norm1_context", ["add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k"],
      "to_add_out", "ff_context")
    heads = c.numAttentionHeads
  }
  private var scale: Double { 1 / (Double(image.out.inputWidth) / Double(heads)).squareRoot() }

  func forward(
    _ img: Tensor, _ txt: Tensor, _ active: Tensor, rotary: RotaryTable,
    visible: Workspace.Visibility, in work: borrowing Workspace
  ) -> (img: Tensor, txt: Tensor, saved: Saved) {
    let n = img.shape[1]
    let l = txt.shape[1]
    var joint = StreamProjection.Projected(
      Shape(img.shape[0], n + l, img.shape[2]), img.type, in: work)
    let ei = image.enter(img, active, rotary: rotary, joint: &joint, row: 0, in: work)
    let et = text.enter(txt, active, rotary: nil, joint: &joint, row: n, in: work)
    let (o, lse) = work.attention(
      q: joint.q, k: joint.k, v: joint.v, heads: heads, scale: scale, visible: visible)
    let (yi, xi) = image.exit(work.narrowed(o, axis: 1, 0..<n), ei, in: work)
    let (yt, xt) = text.exit(work.narrowed(o, axis: 1, n..<n + l), et, in: work)
    return (
      yi, yt,
      Saved(
        imageEntry: ei, textEntry: et, imageExit: xi, textExit: xt, joint: joint, o: o, lse: lse)
    )
  }

  /// Gradients of both streams. Adds to the gradient of SiLU(vec) if it is wanted.
  mutating func backward(
    _ dImg: Tensor, _ dTxt: Tensor, _ s: Saved, rotary: RotaryTable, visible: Workspace.Visibility,
    addingTo dActive: inout Tensor?, in work: borrowing Workspace
  ) -> (dImg: Tensor, dTxt: Tensor) {
    let n = dImg.shape[1]
    var ci = image.modulation.gradient(s.imageEntry.modulation, wanted: dActive != nil, in: work)
    var ct = text.modulation.gradient(s.textEntry.modulation, wanted: dActive != nil, in: work)
    let (doImg, dmImg) = image.exitBackward(
      dImg, s.imageExit, s.imageEntry, addingTo: &ci, in: work)
    let (doTxt, dmTxt) = text.exitBackward(dTxt, s.textExit, s.textEntry, addingTo: &ct, in: work)
    let dO = work.concatenated([doImg, doTxt], axis: 1)
    let (dq, dk, dv) = work.attentionBackward(
      dO, q: s.joint.q, k: s.joint.k, v: s.joint.v, o: s.o, lse: s.lse, heads: heads, scale: scale,
      visible: visible)
    let joint = StreamProjection.Projected(q: dq, k: dk, v: dv)
    let dxImg = image.enterBackward(
      joint, row: 0, dMiddle: dmImg, s.imageEntry, rotary: rotary, addingTo: &ci, in: work)
    let dxTxt = text.enterBackward(
      joint, row: n, dMiddle: dmTxt, s.textEntry, rotary: nil, addingTo: &ct, in: work)
    image.modulation.backward(ci, s.imageEntry.modulation, addingTo: &dActive, in: work)
    text.modulation.backward(ct, s.textEntry.modulation, addingTo: &dActive, in: work)
    return (dxImg, dxTxt)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try image.forEachParameter(body)
    try text.forEachParameter(body)
  }
}
