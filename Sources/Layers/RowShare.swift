public import TensorRuntime

/// How processes that share the rows of a sample reach each other. They make the same calls in the
/// same order.
public protocol RowExchange: Sendable {
  /// This process' place among those that share, and their number.
  var index: Int { get }
  var count: Int { get }
  /// Gives process j the tensors `pieces[j]`. Returns what each process has given to this one, of
  /// shapes `shapes[j]` and the types of its own pieces for itself, which come back as they are.
  /// Processes that get and give nothing need not take part.
  func exchange(_ pieces: [[Tensor]], shapes: [[Shape]], in work: borrowing Workspace)
    -> [[Tensor]]
}

/// The strips into which the rows of a sample are cut, and those of this process. All of a strip
/// but attention is computed apart from other strips, with weight gradients of its own, by the same
/// calls wherever that is. So the bits depend on the number of strips alone.
///
/// Attention needs all rows, and its heads do not need each other: around it, rows with all heads
/// are exchanged for all rows with some heads (Jacobs et al. 2023, arXiv:2309.14509).
public struct RowShare: Sendable {
  /// Strips of all processes: a power of two, and a multiple of their number.
  public let strips: Int
  private let exchange: (any RowExchange)?
  public init(strips: Int = 1, _ exchange: (any RowExchange)? = nil) {
    let count = exchange?.count ?? 1
    precondition(
      strips > 0 && strips & (strips - 1) == 0 && strips % count == 0,
      "\(strips) strips for \(count) processes")
    (self.strips, self.exchange) = (strips, exchange)
  }
  /// One strip, in this process.
  public static let whole = RowShare()

  public var index: Int { exchange?.index ?? 0 }
  public var count: Int { exchange?.count ?? 1 }
  /// The strips of process `place`.
  public func strips(of place: Int) -> Range<Int> {
    place * strips / count..<(place + 1) * strips / count
  }
  public var mine: Range<Int> { strips(of: index) }
  /// Whether the last strip is this process'.
  public var hasLast: Bool { index == count - 1 }
  /// The rows of strip `strip`, of `rows`.
  public func rows(_ strip: Int, of rows: Int) -> Range<Int> {
    strip * rows / strips..<(strip + 1) * rows / strips
  }
}

extension RowShare {
  /// Tensors `[B, rows of this process, all columns]` to `[B, all rows, columns of this process]`.
  /// `rows` are the numbers of rows of the processes, `columns` their columns.
  public func columns(
    _ list: [Tensor], rows: [Int], columns: [Range<Int>], in work: borrowing Workspace
  ) -> [Tensor] {
    guard count > 1 else { return list }
    let batch = list[0].shape[0]
    let received = exchange!.exchange(
      columns.map { range in list.map { work.narrowed($0, axis: 2, range) } },
      shapes: rows.map { n in list.map { _ in Shape(batch, n, columns[index].count) } }, in: work)
    return list.indices.map { i in work.concatenated(received.map { $0[i] }, axis: 1) }
  }
  /// The inverse of `columns`.
  public func rows(
    _ list: [Tensor], rows: [Int], columns: [Range<Int>], in work: borrowing Workspace
  ) -> [Tensor] {
    guard count > 1 else { return list }
    let batch = list[0].shape[0]
    var start = 0
    let ranges = rows.map { n in
      start += n
      return start - n..<start
    }
    let received = exchange!.exchange(
      ranges.map { range in list.map { work.narrowed($0, axis: 1, range) } },
      shapes: columns.map { c in list.map { _ in Shape(batch, rows[index], c.count) } }, in: work)
    return list.indices.map { i in work.concatenated(received.map { $0[i] }, axis: 2) }
  }
  /// The rows of all processes, on each: `[B, rows of this process, columns]` to
  /// `[B, all rows, columns]`.
  public func collected(_ x: Tensor, rows: [Int], in work: borrowing Workspace) -> Tensor {
    guard count > 1 else { return x }
    let received = exchange!.exchange(
      (0..<count).map { _ in [x] },
      shapes: rows.map { [Shape(x.shape[0], $0, x.shape[2])] }, in: work)
    return work.concatenated(received.map { $0[0] }, axis: 1)
  }
  /// What the process at the same place of the other half gives: tensors of these shapes, and of
  /// the types of `list`.
  public func swapped(_ list: [Tensor], for shapes: [Shape], in work: borrowing Workspace)
    -> [Tensor]
  {
    let other = (index + count / 2) % count
    // What a process gives itself comes back.
    let received = exchange!.exchange(
      (0..<count).map { $0 == other || $0 == index ? list : [] },
      shapes: (0..<count).map { $0 == other ? shapes : [] }, in: work)
    return received[other]
  }
  /// Whether this process is in the second half of those that share the rows.
  public var isInSecondHalf: Bool { index >= count / 2 }
  /// The share of this process, if its half alone shares the rows.
  public var half: RowShare {
    count == 2 ? RowShare(strips: strips) : RowShare(strips: strips, Half(whole: exchange!))
  }
  private struct Half: RowExchange {
    let whole: any RowExchange
    var count: Int { whole.count / 2 }
    var index: Int { whole.index % count }
    func exchange(_ pieces: [[Tensor]], shapes: [[Shape]], in work: borrowing Workspace)
      -> [[Tensor]]
    {
      let others = Array(repeating: [Shape](), count: count)
      let nothing = others.map { _ in [Tensor]() }
      if whole.index < count {
        let received = whole.exchange(pieces + nothing, shapes: shapes + others, in: work)
        return Array(received[..<count])
      }
      return Array(whole.exchange(nothing + pieces, shapes: others + shapes, in: work)[count...])
    }
  }

  /// Gives process j the tensors `pieces[j]`, and returns what each has given to this one
  /// (`RowExchange`).
  func exchanged(_ pieces: [[Tensor]], shapes: [[Shape]], in work: borrowing Workspace)
    -> [[Tensor]]
  { exchange?.exchange(pieces, shapes: shapes, in: work) ?? pieces }
  /// One tensor of every strip, of one shape, in order of the strips; `mine` are those of this
  /// process.
  public func gathered(_ mine: [Tensor], in work: borrowing Workspace) -> [Tensor] {
    let shapes = mine.map(\.shape)
    return exchanged(
      (0..<count).map { _ in mine }, shapes: (0..<count).map { _ in shapes }, in: work
    ).flatMap { $0 }
  }
  /// The last piece of the process before this one, and the first of the one behind it; nil at the
  /// ends. All have one shape.
  func neighbours(first: Tensor, last: Tensor, in work: borrowing Workspace) -> (
    before: Tensor?, behind: Tensor?
  ) {
    let received = exchanged(
      (0..<count).map { $0 == index + 1 ? [last] : $0 == index - 1 || $0 == index ? [first] : [] },
      shapes: (0..<count).map { abs($0 - index) == 1 ? [first.shape] : [] }, in: work)
    return (
      index > 0 ? received[index - 1][0] : nil, index + 1 < count ? received[index + 1][0] : nil
    )
  }

  /// The sum over all processes, on each, of tensors that are sums over the strips of each.
  public func sum(_ list: [Tensor], in work: borrowing Workspace) -> [Tensor] {
    guard count > 1 else { return list }
    let parts = exchange!.exchange(
      (0..<count).map { _ in list }, shapes: (0..<count).map { _ in list.map(\.shape) }, in: work)
    var tree = TreeSum()
    for (place, value) in parts.enumerated() {
      let strips = strips(of: place)
      // The tree adds in place.
      tree.push(
        .init(
          first: strips.lowerBound, leaves: strips.count,
          value: place == index ? value.map { work.copy($0) } : value), in: work)
    }
    return tree.finish(in: work)
  }
}
