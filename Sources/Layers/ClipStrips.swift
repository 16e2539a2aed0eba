public import TensorRuntime

/// A clip `[B, C, T, H, W]` in strips of its rows (H), of which this process holds some.
///
/// A layer of a frozen network treats each strip by itself, with the rows beside it that it needs,
/// so the bits depend on the number of strips, not on who has them (`RowShare`).
public struct ClipStrips: SavedTensors {
  /// The strips of this process, in order.
  public private(set) var parts: [Tensor]
  public let share: RowShare
  /// Where each strip of all processes begins; in the end the number of rows.
  let bounds: [Int]

  public mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
    parts.forEachTensor(body)
  }
  init(_ parts: [Tensor], _ share: RowShare, bounds: [Int]) {
    (self.parts, self.share, self.bounds) = (parts, share, bounds)
  }
  /// This process' strips of a clip that it has all of. There are no more strips than rows.
  public init(cutting x: Tensor, by share: RowShare, in work: borrowing Workspace) {
    let bounds = (0...share.strips).map { $0 * x.shape[3] / share.strips }
    self = ClipStrips([], share, bounds: bounds).cutting(x, in: work)
  }
  /// The same strips of another clip that this process has all of.
  public func cutting(_ x: Tensor, in work: borrowing Workspace) -> ClipStrips {
    precondition(x.shape[3] == height, "\(x.shape) in strips of \(height) rows")
    return ClipStrips(
      share.mine.map { work.narrowed(x, axis: 3, bounds[$0]..<bounds[$0 + 1]) }, share,
      bounds: bounds)
  }
  /// The whole clip, on every process.
  public func collected(in work: borrowing Workspace) -> Tensor {
    let all = share.exchanged(
      (0..<share.count).map { _ in parts },
      shapes: (0..<share.count).map { place in
        share.strips(of: place).map { strip in
          var shape = parts[0].shape
          shape[3] = rows(strip)
          return shape
        }
      }, in: work)
    return work.concatenated(all.flatMap { $0 }, axis: 3)
  }

  /// Rows of the whole clip, and of strip `strip` of all.
  public var height: Int { bounds.last! }
  public func rows(_ strip: Int) -> Int { bounds[strip + 1] - bounds[strip] }
  /// The same strips of another tensor, whose rows are `factor` times as many.
  public func with(_ parts: [Tensor], factor: Int = 1) -> ClipStrips {
    ClipStrips(parts, share, bounds: bounds.map { $0 * factor })
  }
  /// The same, where rows are joined `factor` by `factor`.
  func with(_ parts: [Tensor], dividedBy factor: Int) -> ClipStrips {
    ClipStrips(parts, share, bounds: bounds.map { $0 / factor })
  }
  /// Part `i`, which this no longer holds.
  mutating func take(_ i: Int, in work: borrowing Workspace) -> Tensor {
    let part = parts[i]
    parts[i] = work.tensor(Shape(0), part.type)
    return part
  }
  mutating func put(_ part: Tensor, _ i: Int) { parts[i] = part }
  /// Each strip of this process plus that of another clip.
  public mutating func add(_ other: ClipStrips, in work: borrowing Workspace) {
    for i in parts.indices { work.add(other.parts[i], to: &parts[i]) }
  }

  /// The strips of the sum of whole clips, one from every strip, of which `mine` come from this
  /// process. They are added in order of the strips.
  public func summed(_ mine: [Tensor], in work: borrowing Workspace) -> ClipStrips {
    func cut(_ x: Tensor, _ strip: Int) -> Tensor {
      work.narrowed(x, axis: 3, bounds[strip]..<bounds[strip + 1])
    }
    var sums: [Tensor?] = parts.map { _ in nil }
    let pieces = (0..<share.count).map { place in
      mine.flatMap { x in share.strips(of: place).map { cut(x, $0) } }
    }
    let shapes = pieces[share.index].map(\.shape)
    for received in share.exchanged(
      pieces, shapes: (0..<share.count).map { _ in shapes }, in: work)
    {
      for (i, piece) in received.enumerated() {
        let strip = i % parts.count
        if sums[strip] == nil {
          sums[strip] = work.copy(piece)
        } else {
          work.add(piece, to: &sums[strip]!)
        }
      }
    }
    return with(sums.map { $0! })
  }

  /// The `rows` rows above and below each strip of this process, where there are any.
  func halos(of rows: Int, in work: borrowing Workspace) -> [(above: Tensor?, below: Tensor?)] {
    let tops = parts.map { work.narrowed($0, axis: 3, 0..<rows) }
    let bottoms = parts.map { work.narrowed($0, axis: 3, $0.shape[3] - rows..<$0.shape[3]) }
    let (before, behind) = share.neighbours(first: tops.first!, last: bottoms.last!, in: work)
    return parts.indices.map { i in
      (i > 0 ? bottoms[i - 1] : before, i + 1 < parts.count ? tops[i + 1] : behind)
    }
  }
  /// Without the `rows` rows that part `i` has of the strips above and below.
  func inner(_ x: Tensor, _ i: Int, by rows: Int, in work: borrowing Workspace) -> Tensor {
    let strip = share.mine.lowerBound + i
    let (above, below) = (strip > 0 ? rows : 0, strip + 1 < share.strips ? rows : 0)
    return above + below == 0 ? x : work.narrowed(x, axis: 3, above..<x.shape[3] - below)
  }
}
