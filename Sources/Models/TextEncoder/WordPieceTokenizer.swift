internal import CUtf8proc

/// BERT's uncased WordPiece, without a trailing [SEP] (algorithm.md 2.1). Works on Unicode scalars;
/// decomposition by utf8proc (NFD), then marks of category Mn are dropped.
public struct WordPieceTokenizer: Sendable {
  /// The key is the scalars, because String equality would merge canonically equivalent tokens.
  private let ids: [[Unicode.Scalar]: Int32]
  private let tokens: [String]
  public var count: Int { tokens.count }
  public let cls, unknown, pad: Int32
  /// Ids that never count as lexical: [PAD], [CLS], [SEP]. [UNK] and [MASK] count as words.
  public let special: Set<Int32>

  public enum VocabularyError: Error, Equatable {
    case missing(String)
  }

  /// `vocabulary`: one token in each line; the line number is the id.
  public init(vocabulary: [String]) throws(VocabularyError) {
    var ids: [[Unicode.Scalar]: Int32] = [:]
    ids.reserveCapacity(vocabulary.count)
    for (i, token) in vocabulary.enumerated() {
      let key = Array(token.unicodeScalars)
      if ids[key] == nil { ids[key] = Int32(i) }
    }
    func required(_ token: String) throws(VocabularyError) -> Int32 {
      guard let id = ids[Array(token.unicodeScalars)] else { throw .missing(token) }
      return id
    }
    cls = try required("[CLS]")
    unknown = try required("[UNK]")
    pad = try required("[PAD]")
    special = Set([cls, pad] + ["[SEP]"].compactMap { ids[Array($0.unicodeScalars)] })
    (self.ids, tokens) = (ids, vocabulary)
  }

  /// The token of an id.
  public func token(_ id: Int) -> String? { tokens.indices.contains(id) ? tokens[id] : nil }

  /// [CLS] and at most `maxLength - 1` pieces, not padded.
  public func encode(_ text: String, maxLength: Int) -> [Int32] {
    var out = [cls]
    Self.eachWord(of: text) { word in
      out += pieces(word)
      return out.count < maxLength
    }
    return Array(out.prefix(max(maxLength, 1)))
  }
  /// Whether `encode` leaves something out of a text.
  public func truncates(_ text: String, maxLength: Int) -> Bool {
    encode(text, maxLength: maxLength + 1).count > maxLength
  }

  /// A message that names what `encode` leaves out of a text; nil if nothing is.
  public func truncation(of text: String, maxLength: Int) -> String? {
    if !truncates(text, maxLength: maxLength) { return nil }
    let count = encode(text, maxLength: .max).count
    return "the prompt has \(count) tokens, the model reads the first \(maxLength)"
  }

  /// Clean, split at whitespace, lower-case, strip accents, split at punctuation: `take` is called
  /// with each word, until it wants no more.
  static func eachWord(of text: String, take: ([Unicode.Scalar]) -> Bool) {
    var isDone = false
    var current: [Unicode.Scalar] = []
    func flush() {
      if current.isEmpty { return }
      for word in splitAtPunctuation(stripped(current)) where !isDone { isDone = !take(word) }
      current = []
    }
    for s in text.unicodeScalars {
      if isDone { return }
      if isWhitespace(s) {
        flush()
      } else if s.value == 0 || s.value == 0xFFFD || isControl(s) {
        continue
      } else if isIdeograph(s.value) {
        flush()
        current = [s]
        flush()
      } else {
        current.append(s)
      }
    }
    flush()
  }

  /// Lower case, canonical decomposition, no Mn.
  private static func stripped(_ word: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var out: [Unicode.Scalar] = []
    for s in word {
      for lower in s.properties.lowercaseMapping.unicodeScalars { decompose(lower, into: &out) }
    }
    return out.filter { $0.properties.generalCategory != .nonspacingMark }
  }
  private static func decompose(_ s: Unicode.Scalar, into out: inout [Unicode.Scalar]) {
    if s.value < 0xC0 { return out.append(s) }
    var parts = [Int32](repeating: 0, count: 8)
    var boundary: Int32 = 0
    let n = unsafe utf8proc_decompose_char(
      Int32(bitPattern: s.value), &parts, parts.count,
      utf8proc_option_t(rawValue: UTF8PROC_DECOMPOSE.rawValue), &boundary)
    if n < 1 || n > parts.count { return out.append(s) }
    out += parts[..<n].compactMap { Unicode.Scalar(UInt32(bitPattern: $0)) }
  }
  private static func splitAtPunctuation(_ word: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
    var parts: [[Unicode.Scalar]] = []
    var current: [Unicode.Scalar] = []
    for s in word {
      // Decomposition may produce whitespace, which separates words like any other.
      if isWhitespace(s) || isPunctuation(s) {
        if !current.isEmpty { parts.append(current) }
        current = []
        if isPunctuation(s) { parts.append([s]) }
      } else {
        current.append(s)
      }
    }
    if !current.isEmpty { parts.append(current) }
    return parts
  }

  /// Greedy longest match from the left. The whole word is [UNK] if some position has no match, or
  /// if it has more than 100 scalars.
  private func pieces(_ word: [Unicode.Scalar]) -> [Int32] {
    if word.count > 100 { return [unknown] }
    var out: [Int32] = []
    var start = 0
    while start < word.count {
      var end = word.count
      var found: Int32?
      while end > start {
        if let id = ids[(start > 0 ? ["#", "#"] : []) + word[start..<end]] {
          found = id
          break
        }
        end -= 1
      }
      guard let found else { return [unknown] }
      out.append(found)
      start = end
    }
    return out
  }

  private static func isWhitespace(_ s: Unicode.Scalar) -> Bool {
    s == " " || s == "\t" || s == "\n" || s == "\r"
      || s.properties.generalCategory == .spaceSeparator
  }
  private static func isControl(_ s: Unicode.Scalar) -> Bool {
    switch s.properties.generalCategory {
    case .control, .format, .privateUse, .unassigned, .surrogate: true
    default: false
    }
  }
  private static func isPunctuation(_ s: Unicode.Scalar) -> Bool {
    switch s.value {
    case 33...47, 58...64, 91...96, 123...126: return true
    default: break
    }
    switch s.properties.generalCategory {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
      .initialPunctuation, .finalPunctuation, .otherPunctuation:
      return true
    default: return false
    }
  }
  private static func isIdeograph(_ v: UInt32) -> Bool {
    switch v {
    case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F,
      0x2B820...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
      true
    default: false
    }
  }
}
