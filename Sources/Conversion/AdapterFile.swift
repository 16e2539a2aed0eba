public import Files
import FoundationEssentials
public import Models
public import TensorRuntime

/// LoRA files in and out: a PEFT directory, or diffusers' single file (checkpoints.md 6).
public enum AdapterFile {
  /// The adapters of a PEFT directory or a safetensors file. α comes from `adapter_config.json` (or `lora_config.json`), else from the file's
  /// `lora_adapter_metadata`, else from `.alpha` values, else it is r. Throws `badData` for forms that are not plain low-rank.
  public static func read(_ path: String) throws(FileError) -> [AdapterWeights] {
    let isFolder = TextFile.exists("\(path)/adapter_config.json") || TextFile.exists("\(path)/lora_config.json") || TextFile.exists("\(path)/adapter_model.safetensors") || TextFile.exists("\(path)/pytorch_lora_weights.safetensors")
    let folder = isFolder ? path : path.split(separator: "/").dropLast().reduce(path.hasPrefix("/") ? "" : ".") { "\($0)/\($1)" }
    let file = !isFolder ? path : TextFile.exists("\(path)/adapter_model.safetensors") ? "\(path)/adapter_model.safetensors" : "\(path)/pytorch_lora_weights.safetensors"
    let tensors = try SafetensorsFile(file), name = file.split(separator: "/").last.map(String.init) ?? file
    // A config file belongs to PEFT's own file name; a diffusers file speaks for itself.
    let belongs = name == "adapter_model.safetensors" || isFolder && name != "pytorch_lora_weights.safetensors"
    let scaling: Scaling
    if belongs, TextFile.exists("\(folder)/adapter_config.json") {
      scaling = try Scaling(try JSONValue(contentsOf: "\(folder)/adapter_config.json"), place: "\(folder)/adapter_config.json")
    } else if belongs, TextFile.exists("\(folder)/lora_config.json"), let parameters = try JSONValue(contentsOf: "\(folder)/lora_config.json")["lora_params"] {
      scaling = try Scaling(.object(["r": parameters["lora_rank"] ?? .null, "lora_alpha": parameters["lora_alpha"] ?? .null]), place: "\(folder)/lora_config.json")
    } else if let text = tensors.metadata["lora_adapter_metadata"] {
      var fields = JSONObject()
      for (key, value) in (try JSONValue(parsing: text, name: "\(file), lora_adapter_metadata").object ?? JSONObject()).members {
        fields[key.hasPrefix("transformer.") ? String(key.dropFirst("transformer.".count)) : key] = value
      }
      scaling = try Scaling(.object(fields), place: "\(file), lora_adapter_metadata")
    } else {
      scaling = Scaling()
    }

    var order: [String] = [], a: [String: Tensor] = [:], b: [String: Tensor] = [:], alpha: [String: Double] = [:]
    for key in tensors.names {
      guard let (module, factor) = AdapterNames.parse(key) else { throw FileError(.badData, "not a low-rank adapter's tensor", in: "\(file), '\(key)'", mend: "give a plain LoRA file") }
      let tensor = try tensors.tensor(named: key)
      switch factor {
      case .a:
        order.append(module)
        a[module] = tensor
      case .b: b[module] = tensor
      case .alpha: alpha[module] = tensor.count == 1 ? tensor.item : nil
      }
    }
    var all: [AdapterWeights] = []
    for module in order {
      guard let a = a[module], let b = b[module], a.shape.rank == 2, b.shape.rank == 2, a.shape[0] == b.shape[1] else {
        throw FileError(.badData, "factors A and B that do not fit", in: "\(file), '\(module)'", mend: "give a complete LoRA file")
      }
      all.append(AdapterWeights(module: module, a: a, b: b, scale: scaling.scale(module, rank: a.shape[0], alpha: alpha[module])))
    }
    if all.isEmpty { throw FileError(.badData, "no adapters", in: file, mend: "give a LoRA file") }
    return all
  }

  /// α and r by module.
  private struct Scaling {
    var alpha: Double?, alphaPattern: [String: Double] = [:], isRankStabilised = false

    init() {}
    init(_ config: JSONValue, place: String) throws(FileError) {
      for key in ["use_dora", "lora_bias"] where config[key]?.bool == true {
        throw FileError(.badData, "\(key) is not plain low-rank adaptation", in: place, mend: "merge it with its own tools first")
      }
      alpha = config["lora_alpha"]?.number
      isRankStabilised = config["use_rslora"]?.bool ?? false
      for (key, value) in (config["alpha_pattern"]?.object ?? JSONObject()).members { if let n = value.number { alphaPattern[key] = n } }
    }
    /// The rank is the tensor's own: `rank_pattern` can only repeat it.
    func scale(_ module: String, rank: Int, alpha own: Double?) -> Double {
      let alpha = AdapterNames.value(alphaPattern, for: module) ?? alpha ?? own ?? Double(rank)
      return alpha / (isRankStabilised ? Double(rank).squareRoot() : Double(rank))
    }
  }

  /// Writes diffusers' `pytorch_lora_weights.safetensors`: the factor is in B, so that every loader's convention (α = r) is right.
  public static func writeDiffusers(_ adapters: [AdapterWeights], to folder: String, type: ElementType?) throws(FileError) {
    try SafetensorsWriter.write(tensors(adapters, prefix: "transformer.", type), to: "\(folder)/pytorch_lora_weights.safetensors")
  }
  /// Writes a PEFT directory: `adapter_model.safetensors`, `adapter_config.json` and the recipe's `lora_config.json`, with α = r.
  public static func writePEFT(_ adapters: [AdapterWeights], to folder: String, type: ElementType?) throws(FileError) {
    try SafetensorsWriter.write(tensors(adapters, prefix: "base_model.model.", type), to: "\(folder)/adapter_model.safetensors")
    let rank = adapters.map(\.rank).max()!
    var ranks = JSONObject(), alphas = JSONObject()
    for x in adapters where x.rank != rank {
      ranks[x.module] = .integer(x.rank)
      alphas[x.module] = .integer(x.rank)
    }
    // The last part of a name; where that is a number (to_out.0), the last two.
    let targets = Set(adapters.map { x in
      let parts = x.module.split(separator: ".")
      return parts.suffix(parts.last?.allSatisfy(\.isNumber) == true ? 2 : 1).joined(separator: ".")
    }).sorted()
    let list = JSONValue.array(targets.map { .string($0) })
    let config: JSONObject = [
      "peft_type": "LORA", "r": .integer(rank), "lora_alpha": .integer(rank), "target_modules": list, "lora_dropout": .number(0), "bias": "none", "fan_in_fan_out": false,
      "init_lora_weights": true, "use_rslora": false, "use_dora": false, "rank_pattern": .object(ranks), "alpha_pattern": .object(alphas), "modules_to_save": nil,
      "base_model_name_or_path": nil, "inference_mode": true, "task_type": nil,
    ]
    try OutputFile.write(JSONValue.object(config).pretty, to: "\(folder)/adapter_config.json")
    let recipe: JSONObject = ["step": .integer(0), "lora_params": .object(["lora_rank": .integer(rank), "lora_alpha": .integer(rank), "target_modules": list])]
    try OutputFile.write(JSONValue.object(recipe).pretty, to: "\(folder)/lora_config.json")
  }
  private static func tensors(_ adapters: [AdapterWeights], prefix: String, _ type: ElementType?) -> [(name: String, tensor: Tensor)] {
    let work = Workspace()
    return adapters.flatMap { adapter in
      let x = adapter.normalised(in: work)
      func stored(_ t: Tensor) -> Tensor { type.map { work.converted(t, to: $0) } ?? t }
      return [("\(prefix)\(x.module).lora_A.weight", stored(x.a)), ("\(prefix)\(x.module).lora_B.weight", stored(x.b))]
    }
  }
}
