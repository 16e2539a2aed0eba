/// CLIP's byte-pair tokenizer as open_clip has it (videocrafter.md 4.2; Sennrich et al. 2016,
/// arXiv:1508.07909): repaired, lower-case text is cut into pieces, and the bytes of a piece are
/// merged pair by pair.
///
/// Ids: 0 to 255 bytes, 256 to 511 the same at the end of a piece, 512 + r the result of merge r,
/// then start and end.
public struct BytePairTokenizer: Sendable {
  public let start, end: Int32
  /// Fills up a row behind its end.
  public static let padding: Int32 = 0
  /// Merges of CLIP's vocabulary; its file has more, which are not used.
  public static let mergeCount = 48_894
  /// What two neighbouring symbols become. The lower the id, the earlier the merge.
  private let merged: [Pair: Int32]

  private struct Pair: Hashable { let left, right: Int32 }

  public enum MergeError: Error, Equatable {
    /// The line (from 1) is not two symbols made by the lines before it.
    case badLine(Int)
    /// The line's result is that of an earlier one.
    case repeated(Int)
  }

  /// `merges`: `left right` in order of rank. A heading with `#version` is skipped, and so are
  /// lines beyond `mergeCount`.
  public init(merges: [String]) throws(MergeError) {
    let heading = merges.first?.contains("#version") == true ? 1 : 0
    let lines = merges.dropFirst(heading).prefix(Self.mergeCount)
    var ids: [[Unicode.Scalar]: Int32] = [:]
    ids.reserveCapacity(512 + lines.count)
    for (id, symbol) in Self.byteSymbols.enumerated() {
      ids[[symbol]] = Int32(id)
      ids[[symbol] + Self.endOfPiece] = Int32(256 + id)
    }
    var merged: [Pair: Int32] = [:]
    merged.reserveCapacity(lines.count)
    for (rank, line) in lines.enumerated() {
      let parts = line.unicodeScalars.split(separator: " ").map { Array($0) }
      guard parts.count == 2, let left = ids[parts[0]], let right = ids[parts[1]] else {
        throw .badLine(1 + heading + rank)
      }
      let id = Int32(512 + rank)
      if ids.updateValue(id, forKey: parts[0] + parts[1]) != nil {
        throw .repeated(1 + heading + rank)
      }
      merged[Pair(left: left, right: right)] = id
    }
    self.merged = merged
    start = Int32(512 + lines.count)
    end = start + 1
  }

  /// Start, at most `length - 2` ids, end, and padding up to `length` (at least 2).
  public func encode(_ text: String, length: Int = 77) -> [Int32] {
    precondition(length >= 2, "a text takes 2 ids, not \(length)")
    let row = [start] + ids(text, limit: length - 2).prefix(length - 2) + [end]
    return row + Array(repeating: Self.padding, count: length - row.count)
  }
  /// A message that names what `encode` leaves out of a text; nil if nothing is.
  public func truncation(of text: String, length: Int = 77) -> String? {
    let count = ids(text, limit: .max).count + 2
    if count <= length { return nil }
    return "the prompt has \(count) tokens, the model reads the first \(length)"
  }

  /// The text that is cut into pieces: repaired, references replaced, lower case, single spaces.
  public static func cleaned(_ text: String) -> String {
    String(String.UnicodeScalarView(cleanedScalars(text)))
  }
  private static func cleanedScalars(_ text: String) -> [Unicode.Scalar] {
    var scalars = TextRepair.repaired(Array(text.unicodeScalars))
    for _ in 0..<2 { scalars = CharacterReferences.replaced(scalars) }
    return UnicodeText.lowercased(UnicodeText.withSingleSpaces(scalars))
  }

  /// The ids of the pieces; those of whole pieces up to the first beyond `limit` ids.
  private func ids(_ text: String, limit: Int) -> [Int32] {
    var out: [Int32] = []
    let scalars = Self.cleanedScalars(text)
    var at = 0
    while at < scalars.count, out.count <= limit {
      let length = TextPieces.length(at: at, in: scalars)
      let piece = scalars[at..<at + max(length, 1)]
      at += piece.count
      if length == 0 { continue }
      if piece.elementsEqual(TextPieces.start) {
        out.append(start)
      } else if piece.elementsEqual(TextPieces.end) {
        out.append(end)
      } else {
        merge(piece, into: &out)
      }
    }
    return out
  }

  /// The pair of lowest rank is merged wherever it occurs, from left to right, until no pair has a
  /// rank.
  private func merge(_ piece: ArraySlice<Unicode.Scalar>, into out: inout [Int32]) {
    var symbols = piece.flatMap { UTF8.encode($0)!.map { Self.byteIds[Int($0)] } }
    symbols[symbols.count - 1] += 256
    while true {
      let pairs = zip(symbols, symbols.dropFirst()).map { Pair(left: $0, right: $1) }
      guard let first = pairs.compactMap({ merged[$0] }).min() else { break }
      var next: [Int32] = []
      var i = 0
      while i < symbols.count {
        let isMerged = i < pairs.count && merged[pairs[i]] == first
        next.append(isMerged ? first : symbols[i])
        i += isMerged ? 2 : 1
      }
      symbols = next
    }
    out += symbols
  }

  private static let endOfPiece = Array("</w>".unicodeScalars)
  /// Bytes in the order of their ids: the printable ones, then the others.
  private static let bytes: [UInt8] = {
    let printable = Array(33...126) + Array(161...172) + Array(174...255) as [UInt8]
    return printable + (0...255).filter { !printable.contains($0) }
  }()
  /// How the file of merges writes the byte of each id.
  private static let byteSymbols: [Unicode.Scalar] = bytes.enumerated().map { id, byte in
    id < 188 ? Unicode.Scalar(byte) : Unicode.Scalar(UInt32(0x100 + id - 188))!
  }
  private static let byteIds: [Int32] = {
    var ids = [Int32](repeating: 0, count: 256)
    for (id, byte) in bytes.enumerated() { ids[Int(byte)] = Int32(id) }
    return ids
  }()
}
