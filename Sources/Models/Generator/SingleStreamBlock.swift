import Layers
import TensorRuntime

/// One stream, image rows then text rows: x + gate ⊙ W₂ [Attention, GELU(MLP)] (algorithm.md 6.8).
/// x `[B, N + L, D]`, in strips of rows. Chunks of the modulation: shift, scale, gate.
struct SingleStreamBlock: Layer {
  var modulation: Modulation
  var projection: StreamProjection
  var up: Linear
  var out: Linear
  let attention: JointAttention

  /// What backward needs of one strip, and of all of them.
  struct Strip: SavedTensors {
    var norm: Modulation.NormSaved
    var projection: StreamProjection.Saved
    var up: Linear.Saved, hidden: Tensor, out: Linear.Saved, branch: Tensor
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      norm.forEachTensor(body)
      projection.forEachTensor(body)
      up.forEachTensor(body)
      hidden.forEachTensor(body)
      out.forEachTensor(body)
      branch.forEachTensor(body)
    }
  }
  struct Saved: SavedTensors {
    let modulation: Modulation.Saved
    var strips: [Strip]
    var attention: JointAttention.Saved
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      strips.forEachTensor(body)
      attention.forEachTensor(body)
    }
  }
  init(_ name: String, _ c: TransformerConfig, from source: ParameterSource) throws {
    modulation = try Modulation("\(name).norm", width: c.width, chunks: 3, from: source)
    projection = try StreamProjection(
      "\(name).attn", ["to_q", "to_k", "to_v", "norm_q", "norm_k"], c, from: source)
    up = try Linear("\(name).proj_mlp", c.width, c.hidden, from: source)
    out = try Linear("\(name).proj_out", c.width + c.hidden, c.width, from: source)
    attention = JointAttention(heads: c.numAttentionHeads, width: c.width)
  }

  /// `x` has the rows of each strip, with the text in the last.
  func forward(
    _ x: [Tensor], _ active: Tensor, _ rows: SequenceRows, in work: borrowing Workspace
  ) -> (y: [Tensor], saved: Saved) {
    let m = modulation.forward(active, in: work)
    var joint = StreamProjection.Projected(
      Shape(x[0].shape[0], rows.count, x[0].shape[2]), x[0].type, in: work)
    var normed: [Tensor] = []
    let entries = x.indices.map { i in
      let (u, ns) = modulation.norm(x[i], m, scale: 1, shift: 0, in: work)
      normed.append(u)
      let ps = projection.forward(
        u, rotary: rows.rotary[i], into: &joint, row: rows.range(i).lowerBound, in: work)
      return (norm: ns, projection: ps)
    }
    let (o, saved) = attention.forward(joint, rows, in: work)
    var y: [Tensor] = []
    let strips = entries.enumerated().map { i, e in
      let u = normed.removeFirst()
      var joined = work.tensor(u.shape.replacingLast(with: out.inputWidth), u.type)
      let (hidden, us) = up.forward(u, then: .geluTanh, into: &joined, at: u.shape[2], in: work)
      work.place(work.rows(o, rows.range(i, withText: true)), into: &joined, axis: 2, at: 0)
      let (branch, os) = out.forward(joined, in: work)
      y.append(modulation.gate(x[i], m, 2, branch, in: work))
      return Strip(
        norm: e.norm, projection: e.projection, up: us, hidden: hidden, out: os, branch: branch)
    }
    return (y, Saved(modulation: m, strips: strips, attention: saved))
  }
  /// Adds to each strip's gradient of SiLU(vec) if it is wanted.
  mutating func backward(
    _ dy: [Tensor], _ s: Saved, _ rows: SequenceRows, addingTo dActive: inout [Tensor?],
    in work: borrowing Workspace
  ) -> [Tensor] {
    let d = dy[0].shape[2]
    var gradients = StripGradients(dy.count, of: &self, in: work)
    var chunks = dy.map { _ in
      modulation.gradient(s.modulation, wanted: dActive[0] != nil, in: work)
    }
    var du: [Tensor] = []
    var dO: [Tensor] = []
    for (i, strip) in s.strips.enumerated() {
      gradients.lend(i, to: &self, in: work)
      let dBranch = modulation.gateBackward(
        dy[i], s.modulation, 2, h: strip.branch, addingTo: &chunks[i], in: work)
      out.backwardParameters(dBranch, strip.out, in: work)
      du.append(
        up.backward(
          out.backwardInput(
            dBranch, columns: d..<out.inputWidth, through: .geluTanh, at: strip.hidden, in: work),
          strip.up, in: work))
      dO.append(out.backwardInput(dBranch, columns: 0..<d, in: work))
      gradients.take(i, from: &self, in: work)
    }
    let joint = attention.backward(work.joined(dO), s.attention, rows, in: work)
    var dx: [Tensor] = []
    for (i, strip) in s.strips.enumerated() {
      gradients.lend(i, to: &self, in: work)
      projection.backward(
        joint, row: rows.range(i).lowerBound, strip.projection, rotary: rows.rotary[i],
        addingTo: &du[i], in: work)
      dx.append(
        modulation.normBackward(
          du[i], strip.norm, s.modulation, scale: 1, shift: 0, adding: dy[i],
          addingTo: &chunks[i], in: work))
      modulation.backward(chunks[i], s.modulation, addingTo: &dActive[i], in: work)
      gradients.take(i, from: &self, in: work)
    }
    gradients.finish(&self, in: work)
    return dx
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try modulation.forEachParameter(body)
    try projection.forEachParameter(body)
    try up.forEachParameter(body)
    try out.forEachParameter(body)
  }
}
