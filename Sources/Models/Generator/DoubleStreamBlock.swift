import Layers
import TensorRuntime

/// Image and text streams with separate weights and one joint attention (algorithm.md 6.7). img
/// `[B, N, D]`, txt `[B, L, D]`. Chunks of a modulation: shift₁, scale₁, gate₁, shift₂, scale₂,
/// gate₂.
struct DoubleStreamBlock: Layer {
  var image: Stream, text: Stream
  let attention: JointAttention

  /// The layers of one stream.
  struct Stream: Layer {
    var modulation: Modulation
    var projection: StreamProjection
    var out: Linear
    var feedForward: FeedForward

    struct Entry: SavedTensors {
      let modulation: Modulation.Saved
      var norm: Modulation.NormSaved, projection: StreamProjection.Saved
      mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
        norm.forEachTensor(body)
        projection.forEachTensor(body)
      }
    }
    struct Exit: SavedTensors {
      var out: Linear.Saved, attended: Tensor, norm: Modulation.NormSaved,
        feedForward: FeedForward.Saved, fed: Tensor
      mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
        out.forEachTensor(body)
        attended.forEachTensor(body)
        norm.forEachTensor(body)
        feedForward.forEachTensor(body)
        fed.forEachTensor(body)
      }
    }

    /// Writes q, k, v to the rows of the joint attention from `row` on.
    func enter(
      _ x: Tensor, _ m: Modulation.Saved, rotary: RotaryTable?,
      joint: inout StreamProjection.Projected, row: Int, in work: borrowing Workspace
    ) -> Entry {
      let (u, ns) = modulation.norm(x, m, scale: 1, shift: 0, in: work)
      let ps = projection.forward(u, rotary: rotary, into: &joint, row: row, in: work)
      return Entry(modulation: m, norm: ns, projection: ps)
    }
    func exit(_ o: Tensor, _ e: Entry, in work: borrowing Workspace) -> (Tensor, Exit) {
      let (attended, os) = out.forward(o, in: work)
      let middle = modulation.gate(e.norm.x, e.modulation, 2, attended, in: work)
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
      let du = projection.backward(joint, row: row, e.projection, rotary: rotary, in: work)
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
  /// An entry and an exit for each strip of image rows, and for the text where it is.
  struct Saved: SavedTensors {
    var image: [(entry: Stream.Entry, exit: Stream.Exit)]
    var text: (entry: Stream.Entry, exit: Stream.Exit)?
    var attention: JointAttention.Saved
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      for i in image.indices {
        image[i].entry.forEachTensor(body)
        image[i].exit.forEachTensor(body)
      }
      text?.entry.forEachTensor(body)
      text?.exit.forEachTensor(body)
      attention.forEachTensor(body)
    }
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
    attention = JointAttention(heads: c.numAttentionHeads, width: c.width)
  }

  /// `img` has the image rows of each strip; `txt` is nil where the text is not.
  func forward(
    _ img: [Tensor], _ txt: Tensor?, _ active: Tensor, _ rows: SequenceRows,
    in work: borrowing Workspace
  ) -> (img: [Tensor], txt: Tensor?, saved: Saved) {
    let x = img[0]
    var joint = StreamProjection.Projected(
      Shape(x.shape[0], rows.count, x.shape[2]), x.type, in: work)
    let mi = image.modulation.forward(active, in: work)
    let ei = img.indices.map {
      image.enter(
        img[$0], mi, rotary: rows.rotary[$0], joint: &joint, row: rows.range($0).lowerBound,
        in: work)
    }
    let et = txt.map {
      text.enter(
        $0, text.modulation.forward(active, in: work), rotary: nil, joint: &joint,
        row: rows.text.lowerBound, in: work)
    }
    let (o, saved) = attention.forward(joint, rows, in: work)
    let yi = ei.indices.map { image.exit(work.rows(o, rows.range($0)), ei[$0], in: work) }
    let yt = et.map { text.exit(work.rows(o, rows.text), $0, in: work) }
    return (
      yi.map(\.0), yt?.0,
      Saved(
        image: zip(ei, yi).map { ($0, $1.1) }, text: et.map { ($0, yt!.1) }, attention: saved)
    )
  }

  /// Gradients of both streams. Adds to each strip's gradient of SiLU(vec) if it is wanted.
  mutating func backward(
    _ dImg: [Tensor], _ dTxt: Tensor?, _ s: Saved, _ rows: SequenceRows,
    addingTo dActive: inout [Tensor?], in work: borrowing Workspace
  ) -> (dImg: [Tensor], dTxt: Tensor?) {
    let last = dImg.count - 1
    let wanted = dActive[0] != nil
    var gradients = StripGradients(dImg.count, of: &image, in: work)
    var ci = s.image.map {
      image.modulation.gradient($0.entry.modulation, wanted: wanted, in: work)
    }
    var ct = s.text.flatMap {
      text.modulation.gradient($0.entry.modulation, wanted: wanted, in: work)
    }
    var dO: [Tensor] = []
    var dMiddle: [Tensor] = []
    for (i, s) in s.image.enumerated() {
      gradients.lend(i, to: &image, in: work)
      let (o, middle) = image.exitBackward(dImg[i], s.exit, s.entry, addingTo: &ci[i], in: work)
      gradients.take(i, from: &image, in: work)
      dO.append(o)
      dMiddle.append(middle)
    }
    let dText = s.text.map {
      text.exitBackward(dTxt!, $0.exit, $0.entry, addingTo: &ct, in: work)
    }
    if let dText { dO.append(dText.dO) }
    let joint = attention.backward(work.joined(dO), s.attention, rows, in: work)
    var dxImg: [Tensor] = []
    for (i, s) in s.image.enumerated() {
      gradients.lend(i, to: &image, in: work)
      dxImg.append(
        image.enterBackward(
          joint, row: rows.range(i).lowerBound, dMiddle: dMiddle[i], s.entry,
          rotary: rows.rotary[i], addingTo: &ci[i], in: work))
      image.modulation.backward(ci[i], s.entry.modulation, addingTo: &dActive[i], in: work)
      gradients.take(i, from: &image, in: work)
    }
    gradients.finish(&image, in: work)
    let dxTxt = s.text.map {
      let dx = text.enterBackward(
        joint, row: rows.text.lowerBound, dMiddle: dText!.dMiddle, $0.entry, rotary: nil,
        addingTo: &ct, in: work)
      text.modulation.backward(ct, $0.entry.modulation, addingTo: &dActive[last], in: work)
      return dx
    }
    return (dxImg, dxTxt)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try image.forEachParameter(body)
    try text.forEachParameter(body)
  }
}
