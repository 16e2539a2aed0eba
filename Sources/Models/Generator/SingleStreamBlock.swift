import Layers
import TensorRuntime

/// One stream, image rows then text rows: x + gate ⊙ W₂ [Attention, GELU(MLP)] (algorithm.md 6.8).
/// x `[B, N + L, D]`. Chunks of the modulation: shift, scale, gate.
struct SingleStreamBlock: Layer {
  var modulation: Modulation
  var projection: StreamProjection
  var up: Linear
  var out: Linear
  let heads: Int

  struct Saved: Sendable {
    let modulation: Modulation.Saved
    let norm: Modulation.NormSaved
    let projection: StreamProjection.Saved, up: Linear.Saved, hidden: Tensor, out: Linear.Saved,
      branch: Tensor
    let joint: StreamProjection.Projected, o, lse: Tensor
  }
  init(_ name: String, _ c: TransformerConfig, from source: ParameterSource) throws {
    modulation = try Modulation("\(name).norm", width: c.width, chunks: 3, from: source)
    projection = try StreamProjection(
      "\(name).attn", ["to_q", "to_k", "to_v", "norm_q", "norm_k"], c, from: source)
    up = try Linear("\(name).proj_mlp", c.width, c.hidden, from: source)
    out = try Linear("\(name).proj_out", c.width + c.hidden, c.width, from: source)
    heads = c.numAttentionHeads
  }
  private var scale: Double { 1 / (Double(up.inputWidth) / Double(heads)).squareRoot() }

  func forward(
    _ x: Tensor, _ active: Tensor, rotary: RotaryTable, visible: Workspace.Visibility,
    in work: borrowing Workspace
  ) -> (y: Tensor, saved: Saved) {
    let m = modulation.forward(active, in: work)
    let (u, ns) = modulation.norm(x, m, scale: 1, shift: 0, in: work)
    var q = work.tensor(x.shape, x.type)
    var k = work.tensor(x.shape, x.type)
    let (v, ps) = projection.forward(u, rotary: rotary, q: &q, k: &k, row: 0, in: work)
    let (o, lse) = work.attention(q: q, k: k, v: v, heads: heads, scale: scale, visible: visible)
    var joined = work.tensor(x.shape.replacingLast(with: out.inputWidth), x.type)
    let (hidden, us) = up.forward(u, then: .geluTanh, into: &joined, at: x.shape[2], in: work)
    work.place(o, into: &joined, axis: 2, at: 0)
    let (branch, os) = out.forward(joined, in: work)
    let y = modulation.gate(x, m, 2, branch, in: work)
    return (
      y,
      Saved(
        modulation: m, norm: ns, projection: ps, up: us, hidden: hidden, out: os, branch: branch,
        joint: .init(q: q, k: k, v: v), o: o, lse: lse)
    )
  }
  mutating func backward(
    _ dy: Tensor, _ s: Saved, rotary: RotaryTable, visible: Workspace.Visibility,
    addingTo dActive: inout Tensor?, in work: borrowing Workspace
  ) -> Tensor {
    let d = dy.shape[2]
    var chunks = modulation.gradient(s.modulation, wanted: dActive != nil, in: work)
    let dBranch = modulation.gateBackward(
      dy, s.modulation, 2, h: s.branch, addingTo: &chunks, in: work)
    out.backwardParameters(dBranch, s.out, in: work)
    var du = up.backward(
      out.backwardInput(
        dBranch, columns: d..<out.inputWidth, through: .geluTanh, at: s.hidden, in: work), s.up,
      in: work)
    let dO = out.backwardInput(dBranch, columns: 0..<d, in: work)
    let (dq, dk, dv) = work.attentionBackward(
      dO, q: s.joint.q, k: s.joint.k, v: s.joint.v, o: s.o, lse: s.lse, heads: heads, scale: scale,
      visible: visible)
    projection.backward(dq, dk, row: 0, dv, s.projection, rotary: rotary, addingTo: &du, in: work)
    let dx = modulation.normBackward(
      du, s.norm, s.modulation, scale: 1, shift: 0, adding: dy, addingTo: &chunks, in: work)
    modulation.backward(chunks, s.modulation, addingTo: &dActive, in: work)
    return dx
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try modulation.forEachParameter(body)
    try projection.forEachParameter(body)
    try up.forEachParameter(body)
    try out.forEachParameter(body)
  }
}
