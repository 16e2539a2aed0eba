internal import CUtf8proc

/// What Unicode says of scalars, as Python's `str` and the library regex use it: normal forms,
/// white space, lower case.
enum UnicodeText {
  typealias Scalars = [Unicode.Scalar]
  enum Form { case nfc, nfkc }

  /// A normal form (Unicode Standard Annex 15).
  static func normalized(_ text: Scalars, _ form: Form) -> Scalars {
    // Below U+0300 every scalar is its own NFC, and no two of them compose.
    if form == .nfc && text.allSatisfy({ $0.value < 0x300 }) { return text }
    var utf8: [UInt8] = []
    for scalar in text { utf8 += UTF8.encode(scalar)! }
    var options = UTF8PROC_STABLE.rawValue | UTF8PROC_COMPOSE.rawValue
    if form == .nfkc { options |= UTF8PROC_COMPAT.rawValue }
    let option = utf8proc_option_t(rawValue: options)
    // A scalar becomes at most 18 (U+FDFA).
    var buffer = [Int32](repeating: 0, count: 18 * text.count + 1)
    var count = unsafe utf8proc_decompose(utf8, utf8.count, &buffer, buffer.count, option)
    precondition(count >= 0 && count < buffer.count, "utf8proc_decompose: \(count)")
    count = unsafe utf8proc_normalize_utf32(&buffer, count, option)
    precondition(count >= 0, "utf8proc_normalize_utf32: \(count)")
    return buffer[..<count].map { Unicode.Scalar(UInt32(bitPattern: $0))! }
  }

  /// Python's `str.isspace`: the white space of Unicode and the four information separators.
  static func isSpace(_ s: Unicode.Scalar) -> Bool {
    s.properties.isWhitespace || 0x1C...0x1F ~= s.value
  }
  static func trimmed(_ text: Scalars) -> Scalars {
    guard let first = text.firstIndex(where: { !isSpace($0) }),
      let last = text.lastIndex(where: { !isSpace($0) })
    else { return [] }
    return Array(text[first...last])
  }
  /// Runs of white space become one space; none at the ends.
  static func withSingleSpaces(_ text: Scalars) -> Scalars {
    Scalars(text.split(whereSeparator: isSpace).joined(separator: [" "]))
  }

  /// Full lower case. Capital sigma at the end of a word becomes final sigma (Unicode Standard
  /// 3.13, Final_Sigma).
  static func lowercased(_ text: Scalars) -> Scalars {
    var out = Scalars()
    out.reserveCapacity(text.count)
    for (i, scalar) in text.enumerated() {
      if scalar.value < 0x80 {
        let isCapital = 0x41...0x5A ~= scalar.value
        out.append(isCapital ? Unicode.Scalar(scalar.value + 0x20)! : scalar)
      } else if scalar == "\u{3A3}" {
        let isFinal = isCased(text[..<i].reversed()) && !isCased(text[(i + 1)...])
        out.append(isFinal ? "\u{3C2}" : "\u{3C3}")
      } else {
        out += scalar.properties.lowercaseMapping.unicodeScalars
      }
    }
    return out
  }
  /// Whether the first scalar that counts for case has one.
  private static func isCased(_ scalars: some Sequence<Unicode.Scalar>) -> Bool {
    scalars.first { !$0.properties.isCaseIgnorable }?.properties.isCased ?? false
  }

  /// General category L.
  static func isLetter(_ s: Unicode.Scalar) -> Bool {
    switch s.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }
  /// General category N.
  static func isNumber(_ s: Unicode.Scalar) -> Bool {
    switch s.properties.generalCategory {
    case .decimalNumber, .letterNumber, .otherNumber: true
    default: false
    }
  }
}
