import ArgumentParser
import Files

// An option that is declared with its limits: `@Option(in: .frames, help: "Frames of a clip.") var
// frames = 9`. Its help, its check and its message are made from this declaration. A value that
// begins with a minus sign is a value, never another option.

private func described(_ help: String, _ limits: Limits, default value: String? = nil)
  -> ArgumentHelp
{
  let range = limits == .text || limits == .path ? nil : "\(limits)"
  let notes = [range, value.map { "default: \($0)" }].compactMap { $0 }.joined(separator: "; ")
  return ArgumentHelp(
    stringLiteral: [help, notes.isEmpty ? "" : "(\(notes))"].filter { !$0.isEmpty }.joined(
      separator: " "))
}

extension Option where Value == Int {
  init(wrappedValue: Int, name: NameSpecification = .long, in limits: Limits, help: String = "") {
    let help = described(help, limits, default: "\(wrappedValue)")
    self.init(wrappedValue: wrappedValue, name: name, parsing: .unconditional, help: help) {
      try limits.whole($0)
    }
  }
}
extension Option where Value == Int? {
  init(name: NameSpecification = .long, in limits: Limits, help: String = "") {
    self.init(name: name, parsing: .unconditional, help: described(help, limits)) {
      try limits.whole($0)
    }
  }
}
extension Option where Value == Double {
  init(wrappedValue: Double, name: NameSpecification = .long, in limits: Limits, help: String = "")
  {
    let help = described(help, limits, default: Limits.short(wrappedValue))
    self.init(wrappedValue: wrappedValue, name: name, parsing: .unconditional, help: help) {
      try limits.real($0)
    }
  }
  init(name: NameSpecification = .long, in limits: Limits, help: String = "") {
    self.init(name: name, parsing: .unconditional, help: described(help, limits)) {
      try limits.real($0)
    }
  }
}
extension Option where Value == Double? {
  init(name: NameSpecification = .long, in limits: Limits, help: String = "") {
    self.init(name: name, parsing: .unconditional, help: described(help, limits)) {
      try limits.real($0)
    }
  }
}
extension Option where Value == String {
  init(wrappedValue: String, name: NameSpecification = .long, in limits: Limits, help: String = "")
  {
    self.init(
      wrappedValue: wrappedValue, name: name, help: described(help, limits, default: wrappedValue)
    ) { try limits.string($0) }
  }
  init(name: NameSpecification = .long, in limits: Limits, help: String = "") {
    self.init(name: name, help: described(help, limits)) { try limits.string($0) }
  }
}
extension Option where Value == String? {
  init(name: NameSpecification = .long, in limits: Limits, help: String = "") {
    self.init(name: name, help: described(help, limits)) { try limits.string($0) }
  }
}
extension Option where Value == [String] {
  init(
    wrappedValue: [String], name: NameSpecification = .long, parsing: ArrayParsingStrategy,
    in limits: Limits, help: String = ""
  ) {
    self.init(
      wrappedValue: wrappedValue, name: name, parsing: parsing, help: described(help, limits)
    ) { try limits.string($0) }
  }
}
extension Option where Value == Sweep<Int> {
  init(wrappedValue: Sweep<Int>, in limits: Limits, help: String = "") {
    let help = described(help, limits, default: wrappedValue.text { "\($0)" })
    self.init(wrappedValue: wrappedValue, parsing: .unconditional, help: help) {
      try Sweep($0) { try limits.whole($0) }
    }
  }
}
extension Option where Value == Sweep<Int>? {
  init(in limits: Limits, help: String = "") {
    self.init(parsing: .unconditional, help: described(help, limits)) {
      try Sweep($0) { try limits.whole($0) }
    }
  }
}
extension Option where Value == Sweep<Double> {
  init(wrappedValue: Sweep<Double>, in limits: Limits, help: String = "") {
    let help = described(help, limits, default: wrappedValue.text { Limits.short($0) })
    self.init(wrappedValue: wrappedValue, parsing: .unconditional, help: help) {
      try Sweep($0) { try limits.real($0) }
    }
  }
}
extension Option {
  init<T: RawRepresentable<String>>(wrappedValue: Value, in limits: Limits, help: String = "")
  where Value == Sweep<T> {
    let help = described(help, limits, default: wrappedValue.text(\.rawValue))
    self.init(wrappedValue: wrappedValue, parsing: .unconditional, help: help) {
      try Sweep($0) { T(rawValue: try limits.string($0))! }
    }
  }
}
extension Option where Value: RawRepresentable<String> & Sendable {
  init(
    wrappedValue: Value, name: NameSpecification = .long, in limits: Limits, help: String = ""
  ) {
    let help = described(help, limits, default: wrappedValue.rawValue)
    self.init(wrappedValue: wrappedValue, name: name, parsing: .unconditional, help: help) {
      Value(rawValue: try limits.string($0))!
    }
  }
}
extension Option {
  init<T: RawRepresentable<String> & Sendable>(in limits: Limits, help: String = "")
  where Value == T? {
    self.init(parsing: .unconditional, help: described(help, limits)) {
      T(rawValue: try limits.string($0))!
    }
  }
}
extension Option where Value == Bool? {
  /// true, false or not given; `limits` offers the two words.
  init(in limits: Limits, help: String = "") {
    self.init(parsing: .unconditional, help: described(help, limits)) {
      try limits.string($0) == "true"
    }
  }
}
extension Argument where Value: RawRepresentable<String> & Sendable {
  init(in limits: Limits, help: String = "") {
    self.init(help: described(help, limits)) { Value(rawValue: try limits.string($0))! }
  }
}
extension Argument where Value == String {
  init(in limits: Limits, help: String = "") {
    self.init(help: described(help, limits)) { try limits.string($0) }
  }
}
extension Argument where Value == String? {
  init(in limits: Limits, help: String = "") {
    self.init(help: described(help, limits)) { try limits.string($0) }
  }
}
