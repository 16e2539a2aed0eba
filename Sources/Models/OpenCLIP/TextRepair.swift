/// The repairs of the Python library ftfy with its default settings, without that of wrongly
/// decoded text (D-47): videocrafter.md 4.2, steps a and c to k.
struct TextRepair {
  typealias Scalars = [Unicode.Scalar]

  /// A line, with its line end, is repaired until nothing changes. Character references are not
  /// replaced in a line with `<`, nor in any later one.
  static func repaired(_ text: Scalars) -> Scalars {
    if text.allSatisfy({ 0x20...0x7E ~= $0.value && $0 != "&" }) { return text }
    var out = Scalars()
    var replacesReferences = true
    var start = text.startIndex
    while start < text.endIndex {
      let end = text[start...].firstIndex(of: "\n").map { $0 + 1 } ?? text.endIndex
      var line = Array(text[start..<end])
      if line.contains("<") { replacesReferences = false }
      var before = Scalars()
      repeat {
        before = line
        line = repairedOnce(line, replacesReferences: replacesReferences)
      } while line != before
      out += line
      start = end
    }
    return out
  }

  private static func repairedOnce(_ line: Scalars, replacesReferences: Bool) -> Scalars {
    var text = replacesReferences ? CharacterReferences.replacedComplete(line) : line
    text = text.flatMap(plain)
    text = withoutTerminalEscapes(withUnixLineEnds(text)).filter { !isUnwanted($0) }
    return UnicodeText.normalized(text, .nfc)
  }

  /// Steps c to f, which look at one scalar at a time.
  private static func plain(_ scalar: Unicode.Scalar) -> Scalars {
    if scalar.value < 0x80 { return [scalar] }
    let printable = windows1252[scalar] ?? scalar
    return (ligatures[printable] ?? [printable]).flatMap(fullWidth).map(straight)
  }
  private static func fullWidth(_ scalar: Unicode.Scalar) -> Scalars {
    switch scalar.value {
    case 0x3000: [" "]
    case 0xFF01...0xFFEF: UnicodeText.normalized([scalar], .nfkc)
    default: [scalar]
    }
  }
  private static func straight(_ quote: Unicode.Scalar) -> Unicode.Scalar {
    switch quote.value {
    case 0x201C...0x201F: "\""
    case 0x2BC, 0x2018...0x201B: "'"
    default: quote
    }
  }

  /// Step g.
  private static func withUnixLineEnds(_ text: Scalars) -> Scalars {
    var out = Scalars()
    for (i, scalar) in text.enumerated() {
      switch scalar {
      case "\r": if i + 1 == text.count || text[i + 1] != "\n" { out.append("\n") }
      case "\u{2028}", "\u{2029}", "\u{85}": out.append("\n")
      default: out.append(scalar)
      }
    }
    return out
  }

  /// Step i: ESC [, digits and semicolons, a letter.
  private static func withoutTerminalEscapes(_ text: Scalars) -> Scalars {
    var out = Scalars()
    var i = 0
    while i < text.count {
      if text[i] == "\u{1B}", i + 1 < text.count, text[i + 1] == "[" {
        let end = text[(i + 2)...].firstIndex { !isDigit($0) && $0 != ";" }
        if let end, isLetterOfASCII(text[end]) {
          i = end + 1
          continue
        }
      }
      out.append(text[i])
      i += 1
    }
    return out
  }
  private static func isDigit(_ s: Unicode.Scalar) -> Bool {
    s.properties.generalCategory == .decimalNumber
  }
  private static func isLetterOfASCII(_ s: Unicode.Scalar) -> Bool {
    0x41...0x5A ~= s.value || 0x61...0x7A ~= s.value
  }

  /// Step j.
  private static func isUnwanted(_ s: Unicode.Scalar) -> Bool {
    switch s.value {
    case 0x00...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFC: true
    default: false
    }
  }

  /// Step c: the bytes 80 to 9F of Windows-1252; five of them are not defined.
  static let windows1252: [Unicode.Scalar: Unicode.Scalar] = {
    let characters: Scalars = Array(
      "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8D}Ž\u{8F}\u{90}‘’“”•–—˜™š›œ\u{9D}žŸ".unicodeScalars)
    return Dictionary(
      uniqueKeysWithValues: characters.enumerated().map { (Unicode.Scalar(UInt8(0x80 + $0)), $1) })
  }()
  /// Step d.
  private static let ligatures: [Unicode.Scalar: Scalars] = {
    let pairs: [(Unicode.Scalar, String)] = [
      ("\u{132}", "IJ"), ("\u{133}", "ij"), ("\u{149}", "\u{2BC}n"), ("\u{1F1}", "DZ"),
      ("\u{1F2}", "Dz"), ("\u{1F3}", "dz"), ("\u{1C4}", "D\u{17D}"), ("\u{1C5}", "D\u{17E}"),
      ("\u{1C6}", "d\u{17E}"), ("\u{1C7}", "LJ"), ("\u{1C8}", "Lj"), ("\u{1C9}", "lj"),
      ("\u{1CA}", "NJ"), ("\u{1CB}", "Nj"), ("\u{1CC}", "nj"), ("\u{FB00}", "ff"),
      ("\u{FB01}", "fi"), ("\u{FB02}", "fl"), ("\u{FB03}", "ffi"), ("\u{FB04}", "ffl"),
      ("\u{FB05}", "\u{17F}t"), ("\u{FB06}", "st"),
    ]
    return Dictionary(uniqueKeysWithValues: pairs.map { ($0, Array($1.unicodeScalars)) })
  }()
}
