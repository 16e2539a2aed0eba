import TensorRuntime

/// One key of a run file: its default, its range and its meaning in one line.
///
///     @Setting(.whole(1...1_000_000), "Outer steps.") public var steps = 160_000
///
/// Only the value is encoded and decoded. A value from a file has been checked against `Limits`
/// before (`SettingsReader`).
@propertyWrapper
public struct Setting<Value: Codable & Sendable & Equatable>: Codable, Sendable, Equatable {
  public var wrappedValue: Value
  let declaration: Declaration

  /// `formerly`: the name of the key in the previous version. It is still read, with a note.
  public init(wrappedValue: Value, _ limits: Limits, _ meaning: String, formerly: String? = nil) {
    (self.wrappedValue, declaration) = (wrappedValue, .key(limits, meaning, formerly: formerly))
  }
  /// A key that several run files share.
  public init(wrappedValue: Value, _ shared: SharedKey) {
    self.init(
      wrappedValue: wrappedValue, shared.limits, shared.meaning, formerly: shared.formerly)
  }
  /// A part whose keys are declared by name, with dots between levels: the configuration of a
  /// model, which knows nothing of run files.
  public init(wrappedValue: Value, keys: [DeclaredKey]) {
    (self.wrappedValue, declaration) = (wrappedValue, .section(keys))
  }
  public init(from decoder: any Decoder) throws {
    (wrappedValue, declaration) = (try Value(from: decoder), .none)
  }
  public func encode(to encoder: any Encoder) throws { try wrappedValue.encode(to: encoder) }
  public static func == (a: Setting, b: Setting) -> Bool { a.wrappedValue == b.wrappedValue }
}

/// Range, meaning and former name of a key that several run files share.
public struct SharedKey: Sendable {
  let limits: Limits, meaning: String, formerly: String?
  public init(_ limits: Limits, _ meaning: String, formerly: String? = nil) {
    (self.limits, self.meaning, self.formerly) = (limits, meaning, formerly)
  }
  /// `compute_dtype` of every kind of training.
  public static let computeType = SharedKey(
    .choice(Machine.ComputeType.self),
    """
    Operands of products, attention and convolutions (bf16 where it is faster), and what is kept \
    for backward.
    """,
    formerly: "products")
}

/// The declaration of one key.
public struct DeclaredKey: Sendable, Equatable {
  public let name: String, limits: Limits, meaning: String, formerly: String?
  public init(_ name: String, _ limits: Limits, _ meaning: String, formerly: String? = nil) {
    (self.name, self.limits, self.meaning, self.formerly) = (name, limits, meaning, formerly)
  }
}

enum Declaration: Sendable, Equatable {
  case key(Limits, String, formerly: String?)
  case section([DeclaredKey])
  /// A value that was decoded. Its declaration is in the defaults.
  case none
}
private protocol DeclaringSetting { var declaration: Declaration { get } }
extension Setting: DeclaringSetting {}

extension Settings {
  /// Every key in the order of declaration, with dots between levels.
  public static var keys: [DeclaredKey] { Self.keys(of: Self(), prefix: "") }

  private static func keys(of part: Any, prefix: String) -> [DeclaredKey] {
    Mirror(reflecting: part).children.flatMap { child -> [DeclaredKey] in
      // The storage of a wrapped property is called by its name with an underscore in front.
      guard let label = child.label else { return [] }
      guard let setting = child.value as? any DeclaringSetting else {
        return keys(of: child.value, prefix: "\(prefix)\(label).")
      }
      let name = prefix + label.dropFirst()
      switch setting.declaration {
      case .key(let limits, let meaning, let formerly):
        return [
          DeclaredKey(name, limits, meaning, formerly: formerly.map { prefix + $0 })
        ]
      case .section(let list):
        return list.map { DeclaredKey("\(name).\($0.name)", $0.limits, $0.meaning) }
      case .none: return []
      }
    }
  }
}
