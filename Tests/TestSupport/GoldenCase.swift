public import Files
import FoundationEssentials
public import Layers
public import TensorRuntime
import Testing

/// One reference case: inputs, weights, expected outputs and gradients (Tests/Golden/README.md).
public struct GoldenCase: Sendable, CustomStringConvertible {
  public let path: String
  public let kind: String
  public let config: JSONValue
  public let notCompared: Set<String>
  public let tolerance: (forward: Double, backward: Double)
  private let tensors: SafetensorsFile

  public var description: String { path.split(separator: "/").last.map(String.init) ?? path }

  public init(_ path: String) throws {
    let description = try JSONValue(contentsOf: path + "/case.json")
    self.path = path
    kind = description["kind"]?.string ?? ""
    config = description["config"] ?? .null
    notCompared = Set(description["not_compared"]?.array?.compactMap(\.string) ?? [])
    tolerance = (
      description["tolerance"]?["forward"]?.number ?? 0,
      description["tolerance"]?["backward"]?.number ?? 0
    )
    tensors = try SafetensorsFile(path + "/tensors.safetensors")
  }

  public func has(_ name: String) -> Bool { tensors.entry(named: name) != nil }
  public func tensor(_ name: String) throws -> Tensor { try tensors.tensor(named: name) }
  public func input(_ name: String) throws -> Tensor { try tensor("input.\(name)") }
  public func weight(_ name: String) throws -> Tensor { try tensor("weight.\(name)") }
  /// Upstream gradient of an output; nil when it is not differentiated.
  public func gradOutput(_ name: String) throws -> Tensor? {
    has("grad_output.\(name)") ? try tensor("grad_output.\(name)") : nil
  }
  public func number(_ key: String) -> Double { config[key]?.number ?? .nan }
  public func integer(_ key: String) -> Int { config[key]?.integer ?? -1 }
  public func string(_ key: String) -> String? { config[key]?.string }
  public func decode<T: Decodable>(_ value: JSONValue? = nil) throws -> T {
    try (value ?? config).decoded(name: path)
  }

  /// Parameters under `weight.<prefix>`; a leading `dropping` is taken off their names first.
  public func source(prefix: String = "", dropping: String = "") -> ParameterSource {
    ParameterSource { name, shape, _, need in
      let bare =
        !dropping.isEmpty && name.hasPrefix(dropping)
        ? String(name.dropFirst(dropping.count)) : name
      let full = "weight.\(prefix)\(bare)"
      if !has(full) && need == .optional { return nil }
      let t = try tensor(full)
      if need == .exact && t.shape != shape {
        throw Mismatch(name: full, expected: shape, found: t.shape)
      }
      return t
    }
  }
  public struct Mismatch: Error { let name: String, expected: Shape, found: Shape }

  /// Gradients of a model's parameters as `grad.weight.<prefix><name>`.
  public func gradients(of model: some Layer, prefix: String = "") -> [String: Tensor] {
    var all: [String: Tensor] = [:]
    model.readParameters { if let g = $0.gradient { all["grad.weight.\(prefix)\($0.name)"] = g } }
    return all
  }

  /// Compares every expected tensor with what was computed, by the rule of the README; records each
  /// disagreement.
  /// `coarser`: how many times coarser than f32 the arithmetic is; discrete results are then not
  /// compared.
  public func compare(_ computed: [String: Tensor], coarser: Double = 1) {
    var compared = 0
    for name in tensors.names
    where name.hasPrefix("output.") || name.hasPrefix("grad.") || name.hasPrefix("grad_from.") {
      if notCompared.contains(name) { continue }
      guard let value = computed[name], let expected = try? tensor(name) else {
        Issue.record("\(self): \(name) was not computed")
        continue
      }
      compared += 1
      if value.count != expected.count || (value.shape != expected.shape && value.count > 1) {
        Issue.record("\(self): \(name) is \(value.shape), expected \(expected.shape)")
        continue
      }
      let x = value.doubles
      let r = expected.doubles
      if !expected.type.isFloating {
        if x != r && coarser == 1 {
          Issue.record("\(self): \(name) is \(x.prefix(8)), expected \(r.prefix(8))")
        }
        continue
      }
      let scale = r.reduce(0) { max($0, abs($1)) }
      let worst = zip(x, r).reduce(0.0) { $1.0.isFinite ? max($0, abs($1.0 - $1.1)) : .infinity }
      let allowed =
        coarser * (name.hasPrefix("output.") ? tolerance.forward : tolerance.backward)
        * (1e-6 + scale)
      if !(worst <= allowed) {
        Issue.record("\(self): \(name) is off by \(worst), allowed \(allowed) (scale \(scale))")
      }
    }
    if compared == 0 { Issue.record("\(self): nothing was compared") }
  }

  /// Every case directory under `Tests/Golden` and, when set, under `PISCES_GOLDENS`.
  /// Every case directory under `Tests/Golden` and, when set, under `PISCES_GOLDENS`, in name
  /// order.
  public static let all: [GoldenCase] = {
    let here = "\(#filePath)".split(separator: "/").dropLast(2)
    var roots = ["/" + here.joined(separator: "/") + "/Golden"]
    if let more = ProcessInfo.processInfo.environment["PISCES_GOLDENS"], !more.isEmpty {
      roots.append(more)
    }
    return roots.flatMap { root in
      let names = (try? FileManager.default.contentsOfDirectory(atPath: root))?.sorted() ?? []
      return names.filter { FileManager.default.fileExists(atPath: "\(root)/\($0)/case.json") }.map
      { name in
        do { return try GoldenCase("\(root)/\(name)") } catch {
          fatalError("\(root)/\(name): \(error)")
        }
      }
    }
  }()
}
