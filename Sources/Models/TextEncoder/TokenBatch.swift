/// Token ids of several captions, right-padded to one length.
public struct TokenBatch: Sendable {
  /// `[B, length]`, row-major.
  public let ids: [Int32]
  public let length: Int
  /// Number of tokens of each caption, including [CLS].
  public let counts: [Int32]
  /// `[B, length]`: 1 where a token is lexical (valid and not special).
  public let lexical: [UInt8]

  public var batch: Int { counts.count }

  /// Rows of ids without padding. They are padded to the longest, or to `length`. Ids in `special`
  /// are never lexical.
  public init(
    _ rows: [[Int32]], length minimum: Int = 0, padding: Int32 = 0,
    special: Set<Int32> = [101, 102, 0]
  ) {
    precondition(rows.allSatisfy { !$0.isEmpty }, "a caption has at least [CLS]")
    let n = max(minimum, rows.map(\.count).max() ?? 0)
    length = n
    counts = rows.map { Int32($0.count) }
    ids = rows.flatMap { $0 + Array(repeating: padding, count: n - $0.count) }
    lexical = rows.flatMap { row in
      row.map { special.contains($0) ? UInt8(0) : 1 } + Array(repeating: 0, count: n - row.count)
    }
  }
  public subscript(row b: Int) -> [Int32] { Array(ids[b * length..<b * length + Int(counts[b])]) }
  /// The captions `indices`, in that order, with the same length.
  public func selecting(_ indices: [Int]) -> TokenBatch { TokenBatch(of: self, indices) }
  private init(of whole: TokenBatch, _ indices: [Int]) {
    length = whole.length
    counts = indices.map { whole.counts[$0] }
    ids = indices.flatMap { whole.ids[$0 * whole.length..<($0 + 1) * whole.length] }
    lexical = indices.flatMap { whole.lexical[$0 * whole.length..<($0 + 1) * whole.length] }
  }

  /// Several batches one after another, padded to the longest.
  public init(joining parts: [TokenBatch], padding: Int32 = 0) {
    let n = parts.map(\.length).max() ?? 0
    func widen<T>(_ values: [T], _ part: TokenBatch, _ filler: T) -> [T] {
      (0..<part.batch).flatMap {
        values[$0 * part.length..<($0 + 1) * part.length]
          + Array(repeating: filler, count: n - part.length)
      }
    }
    length = n
    counts = parts.flatMap(\.counts)
    ids = parts.flatMap { widen($0.ids, $0, padding) }
    lexical = parts.flatMap { widen($0.lexical, $0, 0) }
  }
}
