/// Character references of HTML, `&amp;` and `&#38;`, replaced by their characters: as Python's
/// `html.unescape` does, and as the library ftfy does in its repairs (videocrafter.md 4.2).
enum CharacterReferences {
  typealias Scalars = [Unicode.Scalar]

  /// Every reference, those without a semicolon that HTML allows among them: a number in full, a
  /// name by the longest one known (HTML Living Standard, 13.2.5.72 to 13.2.5.80).
  static func replaced(_ text: Scalars) -> Scalars {
    eachReference(in: text) { rest in
      if let (number, length) = number(rest) { return (character(number), length) }
      let longest = rest.prefix(32).prefix { !endsName($0) }
      if longest.isEmpty { return nil }
      let name = Scalars(longest)
      let hasEnd = rest.dropFirst(name.count).first == ";"
      if hasEnd, let value = HTMLEntities.values[name] { return (value, name.count + 1) }
      for length in stride(from: name.count, through: 2, by: -1) {
        let part = Scalars(name[..<length])
        if let value = HTMLEntities.values[part], HTMLEntities.needNoSemicolon.contains(part) {
          return (value + name[length...], name.count)
        }
      }
      // What a name ran over is no longer looked at.
      return (["&"] + name, name.count)
    }
  }

  /// References of at most 24 letters and digits with their semicolon; also names in capitals.
  static func replacedComplete(_ text: Scalars) -> Scalars {
    eachReference(in: text) { rest in
      let isNumber = rest.first == "#"
      let body = rest.dropFirst(isNumber ? 1 : 0).prefix(25).prefix(while: isLetterOrDigit)
      let length = body.count + (isNumber ? 1 : 0)
      if body.isEmpty || body.count > 24 || rest.dropFirst(length).first != ";" { return nil }
      let whole = Scalars(rest.prefix(length + 1))
      if !isNumber {
        let value = HTMLEntities.values[Scalars(body)] ?? capitals[Scalars(body)]
        return (value ?? ["&"] + whole, whole.count)
      }
      let value = replaced(["&"] + whole)
      return (value.contains(";") ? ["&"] + whole : value, whole.count)
    }
  }

  /// Calls `replace` with what follows each `&`. It returns what stands for the `&` and for how
  /// many of the scalars after it; nil if there is no reference.
  private static func eachReference(
    in text: Scalars, replace: (ArraySlice<Unicode.Scalar>) -> (Scalars, Int)?
  ) -> Scalars {
    if !text.contains("&") { return text }
    var out = Scalars()
    var i = 0
    while i < text.count {
      if text[i] == "&", let (value, length) = replace(text[(i + 1)...]) {
        out += value
        i += 1 + length
      } else {
        out.append(text[i])
        i += 1
      }
    }
    return out
  }

  /// `#38`, `#x26`, and their semicolon if there is one: the number (nil beyond 2^32), and how many
  /// scalars it takes.
  private static func number(_ rest: ArraySlice<Unicode.Scalar>) -> (UInt32?, length: Int)? {
    guard rest.first == "#" else { return nil }
    let isHex = rest.dropFirst().first.map { $0 == "x" || $0 == "X" } ?? false
    let mark = isHex ? 2 : 1
    let digits = rest.dropFirst(mark).prefix { digit($0, isHex ? 16 : 10) != nil }
    if digits.isEmpty { return nil }
    let end = mark + digits.count
    let value = UInt32(String(String.UnicodeScalarView(digits)), radix: isHex ? 16 : 10)
    return (value, end + (rest.dropFirst(end).first == ";" ? 1 : 0))
  }
  private static func digit(_ s: Unicode.Scalar, _ radix: Int) -> Int? {
    s.isASCII ? Int(String(s), radix: radix) : nil
  }

  /// What a number stands for: U+FFFD for none and for what is no scalar, nothing for characters
  /// that HTML does not allow, those of Windows-1252 for 80 to 9F.
  private static func character(_ number: UInt32?) -> Scalars {
    guard let number, number > 0, let scalar = Unicode.Scalar(number) else { return ["\u{FFFD}"] }
    if let printable = TextRepair.windows1252[scalar] { return [printable] }
    switch number {
    case 0x01...0x08, 0x0B, 0x0E...0x1F, 0x7F, 0xFDD0...0xFDEF: return []
    default: return number & 0xFFFE == 0xFFFE ? [] : [scalar]
    }
  }

  private static func endsName(_ s: Unicode.Scalar) -> Bool {
    switch s {
    case "\t", "\n", "\u{0C}", " ", "<", "&", "#", ";": true
    default: false
    }
  }
  private static func isLetterOrDigit(_ s: Unicode.Scalar) -> Bool {
    0x30...0x39 ~= s.value || 0x41...0x5A ~= s.value || 0x61...0x7A ~= s.value
  }

  /// Names in capitals that HTML does not know and of which it does not know a part: the capital of
  /// what the name in small letters stands for.
  private static let capitals: [Scalars: Scalars] = {
    var all: [Scalars: Scalars] = [:]
    for (name, value) in HTMLEntities.values where UnicodeText.lowercased(name) == name {
      let upper = name.flatMap { Scalars($0.properties.uppercaseMapping.unicodeScalars) }
      let reference = ["&"] + upper + [";"]
      if replaced(reference) != reference { continue }
      all[upper] = value.flatMap { Scalars($0.properties.uppercaseMapping.unicodeScalars) }
    }
    return all
  }()
}
