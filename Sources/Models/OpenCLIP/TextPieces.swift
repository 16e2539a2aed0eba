/// How CLIP's tokenizer cuts lower-case text: the pattern of videocrafter.md 4.2, step 4, which
/// ignores case. The first alternative that matches is taken.
enum TextPieces {
  static let start = Array("<start_of_text>".unicodeScalars)
  static let end = Array("<end_of_text>".unicodeScalars)
  private static let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map {
    Array($0.unicodeScalars)
  }

  /// Scalars of the piece that begins at `i`; 0 if none does.
  static func length(at i: Int, in text: [Unicode.Scalar]) -> Int {
    let rest = text[i...]
    if rest.first == "<" || rest.first == "'" {
      for fixed in [start, end] + contractions where begins(rest, with: fixed) {
        return fixed.count
      }
    }
    switch kind(text[i]) {
    case .number: return 1
    case .none: return 0
    case let first: return rest.prefix { kind($0) == first }.count
    }
  }

  /// Small letters have no other forms here, but for the long s.
  private static func begins(_ text: ArraySlice<Unicode.Scalar>, with fixed: [Unicode.Scalar])
    -> Bool
  {
    text.count >= fixed.count
      && zip(text, fixed).allSatisfy { $0 == $1 || ($0 == "\u{17F}" && $1 == "s") }
  }

  private enum Kind { case letter, number, other }
  /// nil: part of no piece. That is white space, and U+0345, a mark whose capital is a letter.
  private static func kind(_ s: Unicode.Scalar) -> Kind? {
    if 0x61...0x7A ~= s.value { return .letter }
    if s == " " || s == "\u{345}" || UnicodeText.isSpace(s) { return nil }
    return UnicodeText.isLetter(s) ? .letter : UnicodeText.isNumber(s) ? .number : .other
  }
}
