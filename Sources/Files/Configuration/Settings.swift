import FoundationEssentials
public import TensorRuntime

/// Settings whose encoded defaults are the schema. There are no optionals, so every key is visible.
public protocol Settings: Codable, Sendable { init() }

/// Settings of a training run, which include the arithmetic of the run.
public protocol TrainingSettings: Settings {
  /// Type of the operands of matrix products, attention and convolutions.
  var compute_dtype: Machine.ComputeType { get }
}

/// A fault in a configuration (exit status 64).
public struct ConfigurationError: Error, Sendable, CustomStringConvertible, Equatable {
  public let description: String
  public init(_ what: String, _ place: String, _ mend: String) {
    description = "\(what): \(place): \(mend)"
  }
}

public enum SettingsReader {
  /// Applies the defaults (or `published` ones), then the file (YAML or JSON), then `overrides`
  /// ("a.b=value" each). Each key is checked against its declaration. A key under its former name
  /// is accepted, and `note` is called.
  public static func read<S: Settings>(
    _: S.Type = S.self, over published: S = S(), file: String? = nil, overrides: [String] = [],
    note: @escaping (String) -> Void = { _ in }
  ) throws -> S {
    let renamed = S.keys.compactMap { key in key.formerly.map { ($0, key.name) } }
    var layers = Layers(
      tree: try resolved(published),
      limits: Dictionary(uniqueKeysWithValues: S.keys.map { ($0.name, $0.limits) }),
      renamed: Dictionary(uniqueKeysWithValues: renamed))
    if let file {
      let layer = try parse(file)
      guard case .object = layer else {
        throw ConfigurationError(
          "the configuration is not a mapping", file, "write it as key: value lines")
      }
      try layers.add(layer, from: file)
    }
    for text in overrides {
      guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
        throw ConfigurationError(
          "an override needs the form key=value", text.isEmpty ? "--set" : text,
          "for example steps=100")
      }
      let keys = text[..<equals].split(separator: ".", omittingEmptySubsequences: false).map(
        String.init)
      let raw = String(text[text.index(after: equals)...])
      var layer = (try? JSONValue(parsing: raw, name: text)) ?? .string(raw)
      for key in keys.reversed() { layer = .object([key: layer]) }
      try layers.add(layer, from: "--set")
    }
    do {
      let settings: S = try layers.tree.decoded(name: file ?? "configuration")
      for (was, now) in layers.taken.sorted(by: { $0.key < $1.key }) {
        note("\(was) is called \(now) now: the old name is read in this version only")
      }
      return settings
    } catch {
      throw ConfigurationError("a value does not fit", file ?? "configuration", "\(error)")
    }
  }
  /// The settings as JSON, for the run directory.
  public static func resolved(_ settings: some Settings) throws -> JSONValue {
    try JSONValue(encoding: settings)
  }

  private static func parse(_ path: String) throws -> JSONValue {
    path.hasSuffix(".json")
      ? try JSONValue(contentsOf: path) : try YAMLText.parse(try TextFile.read(path), name: path)
  }

  /// Settings under construction.
  private struct Layers {
    var tree: JSONValue
    let limits: [String: Limits]
    /// Full names of keys by their former names.
    let renamed: [String: String]
    /// Keys that were written under the former name.
    var taken: [String: String] = [:]

    mutating func add(_ layer: JSONValue, from file: String) throws {
      tree = try overlay(tree, layer, path: "", file: file)
    }

    /// `layer` over `base`; every key must exist in base, and its value lie within its limits.
    private mutating func overlay(_ base: JSONValue, _ layer: JSONValue, path: String, file: String)
      throws
      -> JSONValue
    {
      if let limits = limits[path] { return try value(layer, limits, path, file) }
      guard case .object(var object) = base, case .object(let new) = layer else {
        throw ConfigurationError(
          "\(path) is \(layer.string ?? layer.line)", file,
          "it has keys of its own: write \(path).KEY=VALUE, or a mapping")
      }
      for (written, value) in new.members {
        var (key, full) = (written, path.isEmpty ? written : "\(path).\(written)")
        if object[key] == nil, let now = renamed[full] {
          taken[full] = now
          (key, full) = (String(now.split(separator: ".").last!), now)
        }
        guard let old = object[key] else {
          let near =
            nearest(key, object.keys).map { "did you mean \(path.isEmpty ? "" : path + ".")\($0)?" }
            ?? "remove it"
          throw ConfigurationError("unknown key \(full)", file, near)
        }
        object[key] = try overlay(old, value, path: full, file: file)
      }
      return .object(object)
    }
    /// `given` in the declared type. A whole number may be written with a fraction of zero, and
    /// text as a number.
    private func value(_ given: JSONValue, _ limits: Limits, _ path: String, _ file: String) throws
      -> JSONValue
    {
      var value = given
      switch (limits.kind, given) {
      case (.text, .integer(let i)), (.choice, .integer(let i)), (.path, .integer(let i)):
        value = .string("\(i)")
      case (.whole, .number): value = given.integer.map { .integer($0) } ?? given
      default: break
      }
      if let breach = limits.breach(value) {
        let was = taken.first { $0.value == path }.map { " (written as \($0.key))" } ?? ""
        throw ConfigurationError("\(path)\(was) is \(oneValue(given))", file, "\(breach)")
      }
      return value
    }
    private func oneValue(_ v: JSONValue) -> String {
      let text = v.string ?? v.line
      return text.isEmpty ? "empty" : text.count > 200 ? "\(text.prefix(200))..." : text
    }
  }

  /// The candidate with the smallest edit distance, if that is small.
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
    let scored = candidates.map { ($0, distance(Array(word), Array($0))) }.min {
      ($0.1, $0.0) < ($1.1, $1.0)
    }
    return scored.flatMap { $0.1 <= max(2, word.count / 2) ? $0.0 : nil }
  }
}
