public import Layers
public import TensorRuntime

/// The frozen decoder on strips of rows, which several processes share (`ClipStrips`). It is exact:
/// convolutions borrow rows of the strips beside them, norms and attention see the whole clip.
extension AutoencoderDecoder {
  public struct StripsSaved: Sendable {
    let middle: MiddleBlock.StripsSaved
    let up: [Kept<AutoencoderLevel.StripsSaved, ClipStrips>]
    let normOut: GroupNorm.StripsSaved
    /// The strips of the video, without their values.
    let video: ClipStrips
  }
  /// Whether latents of `rows` rows can be cut into the strips of `share`.
  public static func isShared(rows: Int, by share: RowShare) -> Bool {
    share.strips > 1 && rows >= share.strips
  }

  /// Latents, whole on every process, to video, the same.
  public func forward(
    _ z: Tensor, checkpointing: Bool = false, sharing share: RowShare, in work: borrowing Workspace
  ) -> (y: Tensor, saved: StripsSaved) {
    let p = postQuant.forward(ClipStrips(cutting: z, by: share, in: work), in: work)
    var (h, ms) = middle.forward(convIn.forward(p, in: work), in: work)
    let keeping = Keeping(checkpointing: checkpointing)
    var saved: [Kept<AutoencoderLevel.StripsSaved, ClipStrips>] = []
    for block in up {
      let (y, kept) = keeping.run(h, in: work) {
        block.forward($0, in: work)
      } plain: {
        block.forward($0, keeping: false, in: work).y
      }
      saved.append(kept)
      h = y
    }
    let (norm, ns) = normOut.pending(h, in: work)
    let y = convOut.forward(h, after: norm, in: work)
    return (
      y.collected(in: work), StripsSaved(middle: ms, up: saved, normOut: ns, video: y.with([]))
    )
  }
  /// Gradient of the latents, whole on every process, from that of the video.
  public func backward(_ dy: Tensor, _ s: StripsSaved, in work: borrowing Workspace) -> Tensor {
    var dh = normOut.backward(
      convOut.backward(s.video.cutting(dy, in: work), in: work), s.normOut, in: work)
    for i in up.indices.reversed() {
      dh = up[i].backward(dh, s.up[i].all(in: work) { up[i].forward($0, in: work).saved }, in: work)
    }
    let dc = convIn.backward(middle.backward(dh, s.middle, in: work), in: work)
    return postQuant.backward(dc, in: work).collected(in: work)
  }
}

extension AutoencoderLevel {
  struct StripsSaved: SavedTensors {
    var residuals: [ResidualBlock.StripsSaved]
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) { residuals.forEachTensor(body) }
  }

  /// With `keeping` false the residual blocks keep nothing for backward.
  func forward(_ x: ClipStrips, keeping: Bool = true, in work: borrowing Workspace) -> (
    y: ClipStrips, saved: StripsSaved
  ) {
    var h = x
    var saved: [ResidualBlock.StripsSaved] = []
    for r in residuals {
      var (y, s) = r.forward(h, in: work)
      h = y
      if keeping {
        work.narrow(&s)
        saved.append(s)
      }
    }
    return (resampler?.forward(h, in: work) ?? h, StripsSaved(residuals: saved))
  }
  func backward(_ dy: ClipStrips, _ s: StripsSaved, in work: borrowing Workspace) -> ClipStrips {
    var dh = resampler?.backward(dy, in: work) ?? dy
    for (r, saved) in zip(residuals, s.residuals).reversed() {
      dh = r.backward(dh, saved, in: work)
    }
    return dh
  }
}

extension ResidualBlock {
  struct StripsSaved: SavedTensors {
    var norm1, norm2: GroupNorm.StripsSaved
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      norm1.forEachTensor(body)
      norm2.forEachTensor(body)
    }
  }

  func forward(_ x: ClipStrips, in work: borrowing Workspace) -> (
    y: ClipStrips, saved: StripsSaved
  ) {
    let (first, n1) = norm1.pending(x, in: work)
    let h = conv1.forward(x, after: first, in: work)
    let (second, n2) = norm2.pending(h, in: work)
    let side = shortcut?.forward(x, in: work) ?? x
    return (
      conv2.forward(h, after: second, adding: side, in: work), StripsSaved(norm1: n1, norm2: n2)
    )
  }
  func backward(_ dy: ClipStrips, _ s: StripsSaved, in work: borrowing Workspace) -> ClipStrips {
    // Intermediate gradients have no names, as in `backward` of the whole.
    guard let shortcut else {
      return norm1.backward(backwardToNorm(dy, s, in: work), s.norm1, adding: dy, in: work)
    }
    var dx = norm1.backward(backwardToNorm(dy, s, in: work), s.norm1, in: work)
    dx.add(shortcut.backward(dy, in: work), in: work)
    return dx
  }
  /// The gradient with respect to the output of the first norm.
  private func backwardToNorm(_ dy: ClipStrips, _ s: StripsSaved, in work: borrowing Workspace)
    -> ClipStrips
  {
    conv1.backward(
      norm2.backward(conv2.backward(dy, in: work), s.norm2, in: work), in: work)
  }
}

extension MiddleBlock {
  struct StripsSaved: Sendable {
    let first: ResidualBlock.StripsSaved, attention: FrameCausalAttention.StripsSaved?,
      second: ResidualBlock.StripsSaved
  }

  func forward(_ x: ClipStrips, in work: borrowing Workspace) -> (
    y: ClipStrips, saved: StripsSaved
  ) {
    var (h, s1) = first.forward(x, in: work)
    var sa: FrameCausalAttention.StripsSaved?
    if let attention { (h, sa) = attention.forward(h, in: work) }
    let (y, s2) = second.forward(h, in: work)
    return (y, StripsSaved(first: s1, attention: sa, second: s2))
  }
  func backward(_ dy: ClipStrips, _ s: StripsSaved, in work: borrowing Workspace) -> ClipStrips {
    var dh = second.backward(dy, s.second, in: work)
    if let sa = s.attention { dh = attention!.backward(dh, sa, in: work) }
    return first.backward(dh, s.first, in: work)
  }
}

/// Queries of a strip with the keys and values of all.
extension FrameCausalAttention {
  struct StripsSaved: Sendable {
    let norm: GroupNorm.StripsSaved
    /// Of each strip; the keys and values of the whole clip.
    let q, o, lse: [Tensor], k, v: Tensor
  }
  /// Cells `[B, C, T, rows, W]` as tokens `[B, T rows W, C]`, and back.
  private func tokens(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    let s = x.shape
    return work.permuted(x.reshaped(Shape(s[0], s[1], s.count / (s[0] * s[1]))), [0, 2, 1])
  }
  private func cells(_ x: Tensor, like s: Shape, in work: borrowing Workspace) -> Tensor {
    work.permuted(x, [0, 2, 1]).reshaped(s)
  }
  /// A frame has more keys than a strip has queries.
  private func visible(_ part: Tensor, of x: ClipStrips) -> Workspace.Visibility {
    let (rows, width) = (part.shape[3], part.shape[4])
    return .init(causalBlock: x.height * width, queryBlock: rows * width)
  }

  func forward(_ x: ClipStrips, in work: borrowing Workspace) -> (
    y: ClipStrips, saved: StripsSaved
  ) {
    let (n, ns) = norm.forward(x, in: work)
    let inputs = n.parts.map { tokens($0, in: work) }
    func all(_ layer: Linear) -> Tensor {
      let parts = zip(inputs, x.parts).map { cells(layer($0, in: work), like: $1.shape, in: work) }
      return tokens(x.with(parts).collected(in: work), in: work)
    }
    let (k, v) = (all(key), all(value))
    var (q, o, lse, y): ([Tensor], [Tensor], [Tensor], [Tensor]) = ([], [], [], [])
    for (input, part) in zip(inputs, x.parts) {
      q.append(query(input, in: work))
      let (result, sums) = work.attention(
        q: q.last!, k: k, v: v, heads: 1, scale: scale, visible: visible(part, of: x))
      o.append(result)
      lse.append(sums)
      var sum = cells(out(result, in: work), like: part.shape, in: work)
      work.add(part, to: &sum)
      y.append(sum)
    }
    return (x.with(y), StripsSaved(norm: ns, q: q, o: o, lse: lse, k: k, v: v))
  }
  func backward(_ dy: ClipStrips, _ s: StripsSaved, in work: borrowing Workspace) -> ClipStrips {
    var (dq, dk, dv): ([Tensor], [Tensor], [Tensor]) = ([], [], [])
    var whole = dy.parts[0].shape
    whole[3] = dy.height
    for (i, part) in dy.parts.enumerated() {
      let d = work.attentionBackward(
        out.backwardInput(tokens(part, in: work), in: work), q: s.q[i], k: s.k, v: s.v, o: s.o[i],
        lse: s.lse[i], heads: 1, scale: scale, visible: visible(part, of: dy))
      dq.append(d.dq)
      dk.append(cells(d.dk, like: whole, in: work))
      dv.append(cells(d.dv, like: whole, in: work))
    }
    let (keys, values) = (dy.summed(dk, in: work), dy.summed(dv, in: work))
    let parts = dy.parts.indices.map { i in
      var d = query.backwardInput(dq[i], in: work)
      work.add(key.backwardInput(tokens(keys.parts[i], in: work), in: work), to: &d)
      work.add(value.backwardInput(tokens(values.parts[i], in: work), in: work), to: &d)
      return cells(d, like: dy.parts[i].shape, in: work)
    }
    return norm.backward(dy.with(parts), s.norm, adding: dy, in: work)
  }
}
