internal import FoundationEssentials

extension JSONValue {
  /// Parses exactly one JSON value (RFC 8259), strictly: no comments, no trailing commas, no NaN,
  /// no duplicate key, only UTF-8, nesting up to 512. `name` is the file (and line) for messages.
  /// Throws `badData` with the offset of the fault.
  public init(parsing text: String, name: String) throws(FileError) {
    try self.init(parsing: Array(text.utf8), name: name)
  }
  /// A value as it encodes itself, with keys in alphabetical order: the same bytes at any time.
  public init(encoding value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    self = try Self(
      parsing: String(decoding: try encoder.encode(value), as: UTF8.self), name: "settings")
  }
  public init(parsing bytes: [UInt8], name: String) throws(FileError) {
    var parser = JSONParser(bytes: bytes, name: name)
    self = try parser.document()
  }
  /// Reads a whole JSON file. A byte-order mark is skipped.
  public init(contentsOf path: String) throws(FileError) {
    try self.init(parsing: try TextFile.read(path), name: path)
  }
  /// This value as a Swift type, by the type's own `Decodable`.
  public func decoded<T: Decodable>(as type: T.Type = T.self, name: String) throws(FileError) -> T {
    do {
      return try JSONDecoder().decode(type, from: Data(line.utf8))
    } catch let error as DecodingError {
      throw FileError.bad(
        "unexpected content (\(Self.words(error)))", name, mend: "correct that field")
    } catch {
      throw FileError.bad("unexpected content", name, mend: "correct the file")
    }
  }
  private static func words(_ error: DecodingError) -> String {
    func at(_ context: DecodingError.Context) -> String {
      context.codingPath.map(\.stringValue).joined(separator: ".")
    }
    return switch error {
    case .keyNotFound(let key, let context):
      "no field '\((context.codingPath + [key]).map(\.stringValue).joined(separator: "."))'"
    case .typeMismatch(let type, let context): "'\(at(context))' is not a \(type)"
    case .valueNotFound(_, let context): "'\(at(context))' is null"
    case .dataCorrupted(let context): "'\(at(context))': \(context.debugDescription)"
    @unknown default: "not decodable"
    }
  }
}

/// A recursive-descent JSON parser over bytes. Numbers that f64 cannot hold, and duplicate keys,
/// are errors.
struct JSONParser {
  let bytes: [UInt8]
  let name: String
  private var at = 0
  private static let deepest = 512

  init(bytes: [UInt8], name: String) { (self.bytes, self.name) = (bytes, name) }

  mutating func document() throws(FileError) -> JSONValue {
    let value = try value(depth: 0)
    skipSpace()
    if at < bytes.count { throw fault("text after the JSON value") }
    return value
  }

  private func fault(_ what: String) -> FileError {
    FileError.bad(what, name, "byte \(at)", mend: "correct the JSON")
  }
  private var next: UInt8? { at < bytes.count ? bytes[at] : nil }
  private mutating func skipSpace() {
    while let c = next, c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09 { at += 1 }
  }

  private mutating func value(depth: Int) throws(FileError) -> JSONValue {
    if depth > Self.deepest { throw fault("JSON nested deeper than \(Self.deepest)") }
    skipSpace()
    guard let c = next else { throw fault("JSON ends too early") }
    switch c {
    case UInt8(ascii: "{"): return .object(try object(depth: depth))
    case UInt8(ascii: "["): return .array(try array(depth: depth))
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    default: throw fault("not JSON")
    }
  }

  private mutating func word(_ text: String, _ value: JSONValue) throws(FileError) -> JSONValue {
    guard bytes[at...].starts(with: text.utf8) else { throw fault("not JSON") }
    at += text.utf8.count
    return value
  }

  private mutating func object(depth: Int) throws(FileError) -> JSONObject {
    var object = JSONObject()
    at += 1
    skipSpace()
    if next == UInt8(ascii: "}") {
      at += 1
      return object
    }
    while true {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw fault("expected a key in quotes") }
      let key = try string()
      if object[key] != nil { throw fault("duplicate key '\(key.prefix(100))'") }
      skipSpace()
      guard next == UInt8(ascii: ":") else { throw fault("expected ':'") }
      at += 1
      object[key] = try value(depth: depth + 1)
      if try !another(before: UInt8(ascii: "}")) { return object }
    }
  }
  private mutating func array(depth: Int) throws(FileError) -> [JSONValue] {
    var items: [JSONValue] = []
    at += 1
    skipSpace()
    if next == UInt8(ascii: "]") {
      at += 1
      return items
    }
    while true {
      items.append(try value(depth: depth + 1))
      if try !another(before: UInt8(ascii: "]")) { return items }
    }
  }
  private mutating func another(before end: UInt8) throws(FileError) -> Bool {
    skipSpace()
    let c = next
    guard c == UInt8(ascii: ",") || c == end else {
      throw fault("expected ',' or '\(UnicodeScalar(end))'")
    }
    at += 1
    return c != end
  }

  private mutating func number() throws(FileError) -> JSONValue {
    let start = at
    var isInteger = true
    func digits(_ p: inout JSONParser) -> Int {
      let from = p.at
      while let c = p.next, c >= 0x30, c <= 0x39 { p.at += 1 }
      return p.at - from
    }
    if next == UInt8(ascii: "-") { at += 1 }
    let first = next
    let count = digits(&self)
    if count == 0 || (first == 0x30 && count > 1) { throw fault("not a JSON number") }
    if next == UInt8(ascii: ".") {
      isInteger = false
      at += 1
      if digits(&self) == 0 { throw fault("not a JSON number") }
    }
    if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
      isInteger = false
      at += 1
      if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { at += 1 }
      if digits(&self) == 0 { throw fault("not a JSON number") }
    }
    if at - start > 10_000 { throw fault("a number of more than 10000 digits") }
    let text = String(decoding: bytes[start..<at], as: UTF8.self)
    if isInteger, let i = Int(text) { return .integer(i) }
    guard let d = Double(text), d.isFinite else { throw fault("a number outside the range of f64") }
    return .number(d)
  }

  private mutating func string() throws(FileError) -> String {
    at += 1
    var out: [UInt8] = []
    while let c = next {
      at += 1
      switch c {
      case UInt8(ascii: "\""):
        guard let text = String(validating: out, as: UTF8.self) else {
          throw fault("text that is not UTF-8")
        }
        return text
      case UInt8(ascii: "\\"): try escape(&out)
      case 0..<0x20: throw fault("a control character in a string")
      default: out.append(c)
      }
    }
    throw fault("JSON ends inside a string")
  }
  private mutating func escape(_ out: inout [UInt8]) throws(FileError) {
    guard let c = next else { throw fault("JSON ends inside a string") }
    at += 1
    switch c {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(c)
    case UInt8(ascii: "b"): out.append(0x08)
    case UInt8(ascii: "f"): out.append(0x0c)
    case UInt8(ascii: "n"): out.append(0x0a)
    case UInt8(ascii: "r"): out.append(0x0d)
    case UInt8(ascii: "t"): out.append(0x09)
    case UInt8(ascii: "u"):
      var unit = try hex()
      if unit >= 0xd800 && unit < 0xdc00 {
        guard next == UInt8(ascii: "\\"), at + 1 < bytes.count, bytes[at + 1] == UInt8(ascii: "u")
        else { throw fault("half a surrogate pair") }
        at += 2
        let low = try hex()
        guard low >= 0xdc00 && low < 0xe000 else { throw fault("half a surrogate pair") }
        unit = 0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00)
      }
      guard let scalar = UnicodeScalar(unit) else { throw fault("half a surrogate pair") }
      out += Array(String(Character(scalar)).utf8)
    default: throw fault("unknown escape in a string")
    }
  }
  private mutating func hex() throws(FileError) -> UInt32 {
    guard at + 4 <= bytes.count else { throw fault("JSON ends inside a string") }
    var value: UInt32 = 0
    for c in bytes[at..<at + 4] {
      let digit: UInt8 =
        switch c {
        case 0x30...0x39: c - 0x30
        case 0x41...0x46: c - 0x37
        case 0x61...0x66: c - 0x57
        default: 255
        }
      if digit == 255 { throw fault("not four hexadecimal digits") }
      value = value << 4 | UInt32(digit)
    }
    at += 4
    return value
  }
}
