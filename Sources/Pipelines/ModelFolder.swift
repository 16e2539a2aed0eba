public import Files
import FoundationEssentials
public import Layers
import TensorRuntime

/// Reads and writes a model directory: `config.json` and safetensors.
public enum ModelFolder {
  /// Writes `config.json` (with `_class_name` if `kind` is given) and the weights. Weights that
  /// were widened when read are written as they are.
  public static func write(
    _ model: some Layer, config: some Encodable, kind: String? = nil, weights: String,
    metadata: [(key: String, value: String)] = [("format", "pt")], to folder: String
  ) throws {
    try createFolder(folder)
    var json = try JSONValue(encoding: config).object ?? JSONObject()
    if let kind { json["_class_name"] = .string(kind) }
    var tensors: [(name: String, tensor: Tensor)] = []
    model.readParameters { tensors.append(($0.name, $0.value)) }
    try SafetensorsWriter.write(tensors, metadata: metadata, to: "\(folder)/\(weights)")
    try OutputFile.write(JSONValue.object(json).pretty + "\n", to: "\(folder)/config.json")
  }

  /// Decodes `config.json` of a folder. Throws `badData` for sizes that no network can have.
  public static func config<C: ModelConfig>(_ folder: String, as _: C.Type = C.self) throws -> C {
    let file = "\(folder)/config.json"
    let config: C = try JSONValue(contentsOf: file).decoded(name: file)
    if let problem = config.problem {
      throw FileError(.badData, problem, in: file, mend: "correct the field")
    }
    return config
  }
}

/// Lets several models take their weights from one table.
public final class WeightHolder {
  public var table: WeightTable
  public init(_ table: WeightTable) { self.table = table }
  /// A file, a sharded index, or a folder with one of them. Weights that are NaN or infinite are
  /// refused as they are taken, unless they will be looked at later.
  public static func opening(
    _ path: String, stripping prefixes: [String] = [], checksFinite: Bool = true
  ) throws(FileError) -> WeightHolder {
    let holder = WeightHolder(try WeightTable(opening: path, stripping: prefixes))
    holder.table.checksFinite = checksFinite
    return holder
  }
  /// Parameters by checkpoint name, strictly. The table records which tensors were never requested.
  public var source: ParameterSource {
    ParameterSource { [self] name, shape, _, need in
      if need == .optional && !table.contains(name) { return nil }
      return try need == .exact ? table.take(name, shape: shape) : table.take(name)
    }
  }
}
