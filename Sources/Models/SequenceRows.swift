import Layers
import TensorRuntime

/// Where the rows of a sequence lie: image rows in strips, and text rows behind those of the last
/// strip. One process has the rows of its strips, one behind the other.
struct SequenceRows: Sendable {
  let share: RowShare
  /// Image rows and rotary positions of each strip of this process.
  let image: [Range<Int>]
  let rotary: [RotaryTable]
  let textCount: Int
  /// Rows of each process, of the image and of all.
  let imageCounts: [Int], counts: [Int]
  /// Which keys of all rows a query may see.
  let visible: Workspace.Visibility

  /// The positions of all `image` rows are in `table`. Of `text` rows a sample has `words`.
  init(image: Int, text: Int, words: [Int32], rotary table: RotaryTable?, _ share: RowShare) {
    self.share = share
    self.image = share.mine.map { share.rows($0, of: image) }
    rotary = table.map { table in share.mine.map { table.rows(share.rows($0, of: image)) } } ?? []
    textCount = text
    imageCounts = (0..<share.count).map { place in
      let strips = share.strips(of: place)
      return share.rows(strips.upperBound - 1, of: image).upperBound
        - share.rows(strips.lowerBound, of: image).lowerBound
    }
    self.counts = imageCounts.dropLast() + [imageCounts.last! + text]
    visible = Workspace.Visibility(keyCounts: words.map { Int32(image) + max($0, 1) })
  }
  /// Rows without text and without rotary positions, all of which are visible.
  init(_ rows: Int, _ share: RowShare) {
    self.init(image: rows, text: 0, words: [], rotary: nil, share)
  }
  /// Strips of this process.
  var strips: Int { image.count }
  /// Whether this process has the text.
  var hasText: Bool { share.hasLast }
  /// The rows of strip `strip` of this process' rows, with the text or without it.
  func range(_ strip: Int, withText: Bool = false) -> Range<Int> {
    let first = image[0].lowerBound
    let text = withText && hasText && strip == strips - 1 ? textCount : 0
    return image[strip].lowerBound - first..<image[strip].upperBound - first + text
  }
  /// Rows of this process, and of the text among them.
  var count: Int { range(strips - 1, withText: true).upperBound }
  var text: Range<Int> { range(strips - 1).upperBound..<count }
}

extension Workspace {
  /// Rows `range` of x `[B, N, D]`; x itself if these are all.
  func rows(_ x: Tensor, _ range: Range<Int>) -> Tensor {
    range == 0..<x.shape[1] ? x : narrowed(x, axis: 1, range)
  }
  /// The parts one behind the other, of axis 1.
  func joined(_ parts: [Tensor]) -> Tensor {
    parts.count == 1 ? parts[0] : concatenated(parts, axis: 1)
  }
}

/// Attention of all rows of a sequence with all of them, by heads: each process computes some.
struct JointAttention: Sendable {
  let heads: Int
  let scale: Double

  struct Saved: SavedTensors {
    var joint: StreamProjection.Projected, o: Tensor
    let lse: Tensor
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      joint.forEachTensor(body)
      o.forEachTensor(body)
    }
  }
  init(heads: Int, width: Int) {
    self.heads = heads
    scale = 1 / (Double(width) / Double(heads)).squareRoot()
  }

  /// The heads of process `place` of `count`.
  private func heads(_ place: Int, of count: Int) -> Range<Int> {
    place * heads / count..<(place + 1) * heads / count
  }
  private func columns(_ width: Int, _ share: RowShare) -> [Range<Int>] {
    precondition(heads >= share.count, "\(heads) heads for \(share.count) processes")
    let dim = width / heads
    return (0..<share.count).map {
      let heads = heads($0, of: share.count)
      return heads.lowerBound * dim..<heads.upperBound * dim
    }
  }
  private func mine(_ share: RowShare) -> Int { heads(share.index, of: share.count).count }

  /// The result for this process' rows, from its rows of q, k, v.
  func forward(
    _ joint: consuming StreamProjection.Projected, _ rows: SequenceRows,
    in work: borrowing Workspace
  ) -> (o: Tensor, saved: Saved) {
    let share = rows.share
    let columns = columns(joint.q.shape[2], share)
    let list = share.columns(
      [joint.q, joint.k, joint.v], rows: rows.counts, columns: columns, in: work)
    let own = StreamProjection.Projected(q: list[0], k: list[1], v: list[2])
    let (o, lse) = work.attention(
      q: own.q, k: own.k, v: own.v, heads: mine(share), scale: scale, visible: rows.visible)
    return (
      share.rows([o], rows: rows.counts, columns: columns, in: work)[0],
      Saved(joint: own, o: o, lse: lse)
    )
  }
  /// The gradients of this process' rows of q, k, v.
  func backward(
    _ dO: Tensor, _ s: Saved, _ rows: SequenceRows, in work: borrowing Workspace
  ) -> StreamProjection.Projected {
    let share = rows.share
    let columns = columns(dO.shape[2], share)
    let own = share.columns([dO], rows: rows.counts, columns: columns, in: work)[0]
    let (dq, dk, dv) = work.attentionBackward(
      own, q: s.joint.q, k: s.joint.k, v: s.joint.v, o: s.o, lse: s.lse, heads: mine(share),
      scale: scale, visible: rows.visible)
    let list = share.rows([dq, dk, dv], rows: rows.counts, columns: columns, in: work)
    return StreamProjection.Projected(q: list[0], k: list[1], v: list[2])
  }
}
