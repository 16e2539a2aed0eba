public import Files
import FoundationEssentials

/// A settings value: its encoded defaults are the schema. Optionals are not used, so every key is visible.
public protocol Settings: Codable, Sendable { init() }

/// Settings of a training run, which keep the arithmetic it started with.
public protocol TrainingSettings: Settings {
  /// Operands of matrix products, attention and convolutions: `f32`, or `bf16` (about twice as fast on AMD's processors, for matrix products alone with Intel's AMX, not used
  /// where f32 is faster; sums and weights stay f32).
  var products: String { get }
  /// How AdamW's moments are stored: `f32`, or `bf16` rounded by lot (half the memory of the optimiser).
  var moments: String { get }
}
extension TrainingSettings {
  public var moments: String { "f32" }
  /// Refuses a type of moments that is neither.
  public func checkMoments() throws {
    guard ["f32", "bf16"].contains(moments) else { throw ConfigurationError("unknown type of moments \(moments)", "moments", "use f32 or bf16") }
  }
}

/// Something wrong with a configuration (exit status 64).
public struct ConfigurationError: Error, Sendable, CustomStringConvertible, Equatable {
  public let description: String
  public init(_ what: String, _ place: String, _ mend: String) { description = "\(what): \(place): \(mend)" }
}

public enum SettingsReader {
  /// Defaults, then the file (YAML or JSON), then `overrides` ("a.b=value" each), checked key by key.
  public static func read<S: Settings>(_: S.Type = S.self, file: String? = nil, overrides: [String] = []) throws -> S {
    var tree = try JSONValue(parsing: String(decoding: try JSONEncoder().encode(S()), as: UTF8.self), name: "defaults")
    if let file {
      let layer = try parse(file)
      guard case .object = layer else { throw ConfigurationError("the configuration is not a mapping", file, "write it as key: value lines") }
      tree = try overlay(tree, layer, path: "", file: file)
    }
    for text in overrides {
      guard let equals = text.firstIndex(of: "=") else { throw ConfigurationError("an override needs the form key=value", text, "for example steps=100") }
      let keys = text[..<equals].split(separator: ".").map(String.init), raw = String(text[text.index(after: equals)...])
      var layer = (try? JSONValue(parsing: raw, name: text)) ?? .string(raw)
      for key in keys.reversed() { layer = .object([key: layer]) }
      tree = try overlay(tree, layer, path: "", file: "--set")
    }
    do { return try tree.decoded(name: file ?? "configuration") } catch { throw ConfigurationError("a value does not fit", file ?? "configuration", "\(error)") }
  }
  /// The settings as JSON, for the run directory.
  public static func resolved(_ settings: some Settings) throws -> JSONValue {
    try JSONValue(parsing: String(decoding: try JSONEncoder().encode(settings), as: UTF8.self), name: "settings")
  }

  private static func parse(_ path: String) throws -> JSONValue {
    path.hasSuffix(".json") ? try JSONValue(contentsOf: path) : try YAMLText.parse(try TextFile.read(path), name: path)
  }

  /// `layer` over `base`; every key must exist in base and keep its kind.
  private static func overlay(_ base: JSONValue, _ layer: JSONValue, path: String, file: String) throws -> JSONValue {
    switch (base, layer) {
    case (.object(var object), .object(let new)):
      for (key, value) in new.members {
        let full = path.isEmpty ? key : "\(path).\(key)"
        guard let old = object[key] else {
          let near = nearest(key, object.keys).map { "did you mean \(path.isEmpty ? "" : path + ".")\($0)?" } ?? "remove it"
          throw ConfigurationError("unknown key \(full)", file, near)
        }
        object[key] = try overlay(old, value, path: full, file: file)
      }
      return .object(object)
    case (.number, .integer(let i)): return .number(Double(i))
    case (.integer, .number(let d)) where d == d.rounded() && abs(d) < 1e15: return .integer(Int(d))
    // A default such as 1.0 is written 1, so a whole default may take a fraction: the typed decoding has the last word.
    case (.integer, .number), (.number, .number), (.integer, .integer), (.bool, .bool), (.string, .string), (.array, .array): return layer
    case (.string, .integer(let i)): return .string("\(i)")
    default: throw ConfigurationError("\(path) takes a \(kind(base)), not a \(kind(layer))", file, "correct the value")
    }
  }
  private static func kind(_ v: JSONValue) -> String {
    switch v {
    case .object: "mapping"
    case .array: "list"
    case .string: "text"
    case .bool: "true/false"
    case .integer, .number: "number"
    case .null: "null"
    }
  }

  /// The candidate at the smallest edit distance, if it is close.
  public static func nearest(_ word: String, _ candidates: [String]) -> String? {
    func distance(_ a: [Character], _ b: [Character]) -> Int {
      var row = Array(0...b.count)
      for i in a.indices {
        var previous = row[0]
        row[0] = i + 1
        for j in b.indices {
          let cost = previous + (a[i] == b[j] ? 0 : 1)
          previous = row[j + 1]
          row[j + 1] = min(cost, row[j + 1] + 1, row[j] + 1)
        }
      }
      return row[b.count]
    }
    let scored = candidates.map { ($0, distance(Array(word), Array($0))) }.min { ($0.1, $0.0) < ($1.1, $1.0) }
    return scored.flatMap { $0.1 <= max(2, word.count / 2) ? $0.0 : nil }
  }
}
