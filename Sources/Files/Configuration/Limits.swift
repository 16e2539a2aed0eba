/// The type and range of a key of a run file or of an option. Check, message, help and the table in
/// the documentation are all made from this one declaration.
public struct Limits: Sendable, Equatable {
  indirect enum Kind: Sendable, Equatable {
    case whole(ClosedRange<Int>)
    case real(from: Double, to: Double, excluding: Excluded, takesInfinity: Bool)
    case choice([String])
    case text, path, toggle
    case list(of: Limits, count: ClosedRange<Int>)
  }
  /// The bound that is not part of the range.
  enum Excluded: Sendable { case none, lower, upper }
  let kind: Kind
  /// The meaning of 0, if it switches something off.
  let zero: String?
  private init(_ kind: Kind, zero: String? = nil) { (self.kind, self.zero) = (kind, zero) }

  public static func whole(_ range: ClosedRange<Int>, zero: String? = nil) -> Limits {
    Limits(.whole(range), zero: zero)
  }
  public static func whole(_ range: PartialRangeFrom<Int>, zero: String? = nil) -> Limits {
    Limits(.whole(range.lowerBound...Int.max), zero: zero)
  }
  public static func real(
    _ range: ClosedRange<Double>, zero: String? = nil, takesInfinity: Bool = false
  ) -> Limits {
    Limits(
      .real(
        from: range.lowerBound, to: range.upperBound, excluding: .none, takesInfinity: takesInfinity
      ), zero: zero)
  }
  public static func real(_ range: Range<Double>, zero: String? = nil) -> Limits {
    Limits(
      .real(from: range.lowerBound, to: range.upperBound, excluding: .upper, takesInfinity: false),
      zero: zero)
  }
  public static func real(above lower: Double, to upper: Double, takesInfinity: Bool = false)
    -> Limits
  {
    Limits(.real(from: lower, to: upper, excluding: .lower, takesInfinity: takesInfinity))
  }
  public static func choice(_ words: [String]) -> Limits { Limits(.choice(words)) }
  public static func choice<T: RawRepresentable<String> & CaseIterable>(_: T.Type) -> Limits {
    .choice(T.allCases.map(\.rawValue))
  }
  public static let text = Limits(.text)
  /// A file or folder: any text except the empty one.
  public static let path = Limits(.path)
  public static let toggle = Limits(.toggle)
  public static func list(of element: Limits, count: ClosedRange<Int>) -> Limits {
    Limits(.list(of: element, count: count))
  }
}

extension Limits: CustomStringConvertible {
  /// "whole number, 1 to 4096", as help and documentation say it.
  public var description: String {
    switch kind {
    case .whole(let r):
      let bounds =
        r.upperBound == .max ? "\(r.lowerBound) or more" : "\(r.lowerBound) to \(r.upperBound)"
      return "whole number, \(bounds)" + meaning
    case .real(let from, let to, let excluded, let takesInfinity):
      let bounds =
        switch excluded {
        case .none: "\(Self.short(from)) to \(Self.short(to))"
        case .lower: "above \(Self.short(from)), up to \(Self.short(to))"
        case .upper: "\(Self.short(from)) or more, below \(Self.short(to))"
        }
      return "number, \(bounds)\(takesInfinity ? ", or inf" : "")" + meaning
    case .choice(let words):
      return words.count == 1
        ? words[0] : words.dropLast().joined(separator: ", ") + " or " + words.last!
    case .text: return "text"
    case .path: return "path"
    case .toggle: return "true or false"
    case .list(let element, let count):
      let number =
        count.lowerBound == count.upperBound
        ? "\(count.lowerBound)"
        : count.upperBound == .max
          ? "\(count.lowerBound) or more" : "\(count.lowerBound) to \(count.upperBound)"
      return "list of \(number): \(element.description)"
    }
  }
  private var meaning: String { zero.map { "; 0: \($0)" } ?? "" }
  /// A number in the form that people write: 1e+06 and 4096, not 1000000.0 or 4096.0.
  public static func short(_ x: Double) -> String {
    let text = "\(x)"
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }
}

extension Limits {
  /// A value outside its range: what it should be, and the nearest allowed value if there is one.
  public struct Breach: Error, Equatable, CustomStringConvertible {
    public let expected: String, nearest: String?
    public var description: String {
      "give \(expected)" + (nearest.map { " (nearest: \($0))" } ?? "")
    }
  }
  private func breach(nearest: String?) -> Breach {
    switch kind {
    case .whole, .real, .path, .list: Breach(expected: "a \(description)", nearest: nearest)
    case .choice, .text, .toggle: Breach(expected: description, nearest: nearest)
    }
  }

  /// nil if `value` has this type and lies in this range.
  public func breach(_ value: JSONValue) -> Breach? {
    switch (kind, value) {
    case (.whole(let r), .integer(let i)):
      return r.contains(i) ? nil : breach(nearest: "\(min(max(i, r.lowerBound), r.upperBound))")
    case (.whole(let r), .number(let d)):
      if let i = Int(exactly: d) { return breach(.integer(i)) }
      if d.isNaN { return breach(nearest: nil) }
      let isAbove = d >= Double(r.upperBound)
      let isBelow = d <= Double(r.lowerBound)
      let nearest = isAbove ? r.upperBound : isBelow ? r.lowerBound : Int(d.rounded())
      return breach(nearest: "\(nearest)")
    case (.real, .integer(let i)): return breach(.number(Double(i)))
    case (.real(let from, let to, let excluded, let takesInfinity), .number(let d)):
      if takesInfinity && d == .infinity { return nil }
      let isLow = excluded == .lower ? d <= from : d < from
      let isHigh = excluded == .upper ? d >= to : d > to
      if !d.isNaN && !isLow && !isHigh { return nil }
      if d.isNaN || (isLow ? excluded == .lower : excluded == .upper) {
        return breach(nearest: nil)
      }
      return breach(nearest: Self.short(isLow ? from : to))
    case (.choice(let words), .string(let s)):
      return words.contains(s) ? nil : breach(nearest: SettingsReader.nearest(s, words))
    case (.text, .string), (.toggle, .bool): return nil
    case (.path, .string(let s)): return s.isEmpty ? breach(nearest: nil) : nil
    case (.list(let element, let count), .array(let list)):
      return list.lazy.compactMap { element.breach($0) }.first
        ?? (count.contains(list.count) ? nil : breach(nearest: nil))
    default: return breach(nearest: nil)
    }
  }

  /// A whole number from the command line.
  public func whole(_ text: String) throws(Breach) -> Int {
    guard let i = Int(text) else {
      if let d = Double(text), let breach = breach(.number(d)) { throw breach }
      if let d = Double(text), let i = Int(exactly: d) { return i }
      throw breach(nearest: nil)
    }
    if let breach = breach(.integer(i)) { throw breach }
    return i
  }
  /// A number from the command line.
  public func real(_ text: String) throws(Breach) -> Double {
    guard let d = Double(text) else { throw breach(nearest: nil) }
    if let breach = breach(.number(d)) { throw breach }
    return d
  }
  /// Text, a path or a choice from the command line.
  public func string(_ text: String) throws(Breach) -> String {
    if let breach = breach(.string(text)) { throw breach }
    return text
  }
}
