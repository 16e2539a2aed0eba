public import Files
import Models
import TensorRuntime

/// The kind of a set of weights, found from the names in it.
public enum ModelKind: String, Sendable, CaseIterable {
  case reward
  /// Of a small generator: the text layers alone.
  case textEncoder = "text-encoder"
  case hunyuanTransformer = "hunyuan-transformer"
  case hunyuanOriginal = "hunyuan-transformer-original"
  case autoencoder = "hunyuan-vae"
  /// VideoCrafter2's checkpoint as published, and its networks one by one.
  case videocrafterOriginal = "videocrafter2-original"
  case videocrafterUNet = "videocrafter-unet"
  case imageAutoencoder = "image-vae"
  case openCLIPText = "openclip-text"
  case otMap = "ot-map"
  case lora, tensors

  public init(names: [String]) {
    func has(_ suffix: String) -> Bool {
      names.contains { $0 == suffix || $0.hasSuffix("." + suffix) }
    }
    if names.contains(where: { AdapterNames.isAdapter($0) }) {
      self = .lora
    } else if names.contains(where: { $0.contains("vision_encoder.") }) {
      self = .reward
    } else if names.contains(where: { $0.contains("text_encoder.bert.") }) {
      self = .textEncoder
    } else if has("img_in.proj.weight") {
      self = .hunyuanOriginal
    } else if has("x_embedder.proj.weight") {
      self = .hunyuanTransformer
    } else if has("decoder.conv_in.conv.weight") || has("encoder.conv_in.conv.weight") {
      self = .autoencoder
    } else if names.contains(where: { $0.hasPrefix("cond_stage_model.") }) {
      self = .videocrafterOriginal
    } else if has("input_blocks.0.0.weight") && has("init_attn.0.proj_in.weight") {
      self = .videocrafterUNet
    } else if has("decoder.conv_in.weight") {
      self = .imageAutoencoder
    } else if has("transformer.resblocks.0.attn.in_proj_weight")
      || OpenCLIPTextNames.areTransformers(names)
    {
      self = .openCLIPText
    } else if has("net.0.weight") && has("net.6.weight") {
      self = .otMap
    } else {
      self = .tensors
    }
  }
}

/// A checkpoint in a few numbers, without running it.
public struct ModelSummary: Sendable {
  public let path: String
  public let kind: ModelKind
  public let tensors, parameters, bytes: Int
  /// Number of parameters of each stored type.
  public let types: [(name: String, parameters: Int)]
  /// `config.json` beside the weights, if it exists.
  public let config: JSONValue?
  /// Depends on every name, type, shape and byte (`WeightTable.fingerprint`).
  public let fingerprint: String

  /// Summaries of what is at `path`: a file, a model folder, or each model of a generator
  /// directory. Reads every byte. Throws `missingInput` or `badData`.
  public static func of(_ path: String) throws(FileError) -> [ModelSummary] {
    let parts = ["transformer", "unet", "vae", "text_encoder"].map { "\(path)/\($0)" }.filter {
      TextFile.exists("\($0)/config.json")
    }
    if !parts.isEmpty {
      var all: [ModelSummary] = []
      for part in parts { all.append(try ModelSummary(part)) }
      return all
    }
    return [try ModelSummary(path)]
  }

  init(_ path: String) throws(FileError) {
    let table = try WeightTable(opening: path, stripping: ["vae."])
    var parameters = 0
    var bytes = 0
    var types: [(name: String, parameters: Int)] = []
    for name in table.names {
      let entry = table.entry(name)!
      let count = entry.shape.reduce(1, *)
      parameters += count
      bytes += entry.byteCount ?? count * (entry.type?.byteCount ?? 1)
      let type = entry.type?.rawValue ?? entry.typeName.lowercased()
      if let i = types.firstIndex(where: { $0.name == type }) {
        types[i].parameters += count
      } else {
        types.append((type, count))
      }
    }
    (self.path, kind, tensors) = (path, ModelKind(names: table.names), table.names.count)
    (self.parameters, self.bytes, self.types) = (parameters, bytes, types)
    config =
      TextFile.exists("\(path)/config.json")
      ? try JSONValue(contentsOf: "\(path)/config.json") : nil
    fingerprint = hexadecimal(try table.fingerprint())
  }

  public var json: JSONValue {
    var o = JSONObject()
    o["path"] = .string(path)
    o["kind"] = .string(kind.rawValue)
    o["tensors"] = .integer(tensors)
    o["parameters"] = .integer(parameters)
    var stored = JSONObject()
    for (name, count) in types { stored[name] = .integer(count) }
    o["dtypes"] = .object(stored)
    o["bytes"] = .integer(bytes)
    o["config"] = config ?? .null
    o["fingerprint"] = .string(fingerprint)
    return .object(o)
  }
}

/// Sixteen hexadecimal digits.
func hexadecimal(_ x: UInt64) -> String {
  let text = String(x, radix: 16)
  return String(repeating: "0", count: 16 - text.count) + text
}
