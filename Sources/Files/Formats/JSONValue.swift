/// A JSON value. Objects keep the order in which keys were added. Integers stay integers. Every
/// finite number is written in the shortest form that reads back to the same bits. NaN and
/// infinities, which JSON lacks, are written as null.
public enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)

  /// Exact: the f32 value written as the f64 it equals.
  public init(_ value: Float) { self = .number(Double(value)) }
  public init(_ value: Float?) { self = value.map { .number(Double($0)) } ?? .null }
  public init(_ value: Double?) { self = value.map { .number($0) } ?? .null }

  public var string: String? { if case .string(let s) = self { s } else { nil } }
  public var bool: Bool? { if case .bool(let b) = self { b } else { nil } }
  /// An integer, or a number without a fraction.
  public var integer: Int? {
    switch self {
    case .integer(let i): i
    case .number(let d): Int(exactly: d)
    default: nil
    }
  }
  public var number: Double? {
    switch self {
    case .integer(let i): Double(i)
    case .number(let d): d
    default: nil
    }
  }
  public var array: [JSONValue]? { if case .array(let a) = self { a } else { nil } }
  public var object: JSONObject? { if case .object(let o) = self { o } else { nil } }
  /// The member `key` of an object.
  public subscript(key: String) -> JSONValue? { object?[key] }

  /// One line of JSON, without a line break.
  public var line: String {
    var out: [UInt8] = []
    write(to: &out)
    return String(decoding: out, as: UTF8.self)
  }
  /// JSON over several lines, indented by two spaces, with a line break at the end, for files that
  /// people read.
  public var pretty: String {
    var out: [UInt8] = []
    write(to: &out, indent: 0)
    return String(decoding: out, as: UTF8.self) + "\n"
  }

  private func write(to out: inout [UInt8], indent: Int? = nil) {
    func newline(_ depth: Int) {
      out += Array("\n".utf8) + Array(repeating: 0x20, count: 2 * depth)
    }
    switch self {
    case .null: out += "null".utf8
    case .bool(let b): out += (b ? "true" : "false").utf8
    case .integer(let i): out += String(i).utf8
    case .number(let d): out += (d.isFinite ? d.description : "null").utf8
    case .string(let s): Self.write(s, to: &out)
    case .array(let items):
      out.append(UInt8(ascii: "["))
      for (i, item) in items.enumerated() {
        if i > 0 { out += (indent == nil ? "," : ", ").utf8 }
        item.write(to: &out, indent: indent)
      }
      out.append(UInt8(ascii: "]"))
    case .object(let object):
      out.append(UInt8(ascii: "{"))
      for (i, (key, value)) in object.members.enumerated() {
        if i > 0 { out.append(UInt8(ascii: ",")) }
        if let indent { newline(indent + 1) }
        Self.write(key, to: &out)
        out += (indent == nil ? ":" : ": ").utf8
        value.write(to: &out, indent: indent.map { $0 + 1 })
      }
      if let indent, !object.isEmpty { newline(indent) }
      out.append(UInt8(ascii: "}"))
    }
  }
  private static func write(_ text: String, to out: inout [UInt8]) {
    let hex = Array("0123456789abcdef".utf8)
    out.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): out += [UInt8(ascii: "\\"), byte]
      case 0x0a: out += "\\n".utf8
      case 0x0d: out += "\\r".utf8
      case 0x09: out += "\\t".utf8
      case 0..<0x20, 0x7f: out += Array("\\u00".utf8) + [hex[Int(byte >> 4)], hex[Int(byte & 15)]]
      default: out.append(byte)
      }
    }
    out.append(UInt8(ascii: "\""))
  }
}

/// The members of a JSON object, in order.
public struct JSONObject: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  public private(set) var members: [(key: String, value: JSONValue)] = []
  private var index: [String: Int] = [:]

  public init() {}
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    for (key, value) in elements { self[key] = value }
  }
  public var isEmpty: Bool { members.isEmpty }
  public var keys: [String] { members.map(\.key) }

  /// Setting a new key adds it at the end. Setting nil removes a key.
  public subscript(key: String) -> JSONValue? {
    get { index[key].map { members[$0].value } }
    set {
      if let newValue {
        if let i = index[key] {
          members[i].value = newValue
        } else {
          index[key] = members.count
          members.append((key, newValue))
        }
      } else if let i = index.removeValue(forKey: key) {
        members.remove(at: i)
        for j in i..<members.count { index[members[j].key] = j }
      }
    }
  }
  /// Equal members, in any order.
  public static func == (a: JSONObject, b: JSONObject) -> Bool {
    a.members.count == b.members.count && a.members.allSatisfy { b[$0.key] == $0.value }
  }
}

extension JSONValue: ExpressibleByNilLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
  ExpressibleByStringLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  public init(nilLiteral: ()) { self = .null }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(integerLiteral value: Int) { self = .integer(value) }
  public init(floatLiteral value: Double) { self = .number(value) }
  public init(stringLiteral value: String) { self = .string(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    var object = JSONObject()
    for (key, value) in elements { object[key] = value }
    self = .object(object)
  }
}

extension JSONValue: Codable {
  private struct MemberKey: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }
  public init(from decoder: any Decoder) throws {
    if let container = try? decoder.container(keyedBy: MemberKey.self) {
      var object = JSONObject()
      for key in container.allKeys {
        object[key.stringValue] = try container.decode(JSONValue.self, forKey: key)
      }
      self = .object(object)
    } else if var container = try? decoder.unkeyedContainer() {
      var items: [JSONValue] = []
      while !container.isAtEnd { items.append(try container.decode(JSONValue.self)) }
      self = .array(items)
    } else {
      let container = try decoder.singleValueContainer()
      if container.decodeNil() {
        self = .null
      } else if let b = try? container.decode(Bool.self) {
        self = .bool(b)
      } else if let i = try? container.decode(Int.self) {
        self = .integer(i)
      } else if let d = try? container.decode(Double.self) {
        self = .number(d)
      } else {
        self = .string(try container.decode(String.self))
      }
    }
  }
  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .object(let object):
      var container = encoder.container(keyedBy: MemberKey.self)
      for (key, value) in object.members {
        try container.encode(value, forKey: MemberKey(stringValue: key))
      }
    case .array(let items):
      var container = encoder.unkeyedContainer()
      for item in items { try container.encode(item) }
    default:
      var container = encoder.singleValueContainer()
      switch self {
      case .bool(let b): try container.encode(b)
      case .integer(let i): try container.encode(i)
      case .number(let d) where d.isFinite: try container.encode(d)
      case .string(let s): try container.encode(s)
      default: try container.encodeNil()
      }
    }
  }
}
