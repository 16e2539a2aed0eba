public import Files
public import Layers
import TensorRuntime

/// Adapters in PEFT's layout (checkpoints.md 6.1): `adapter_model.safetensors`,
/// `adapter_config.json`, and `lora_config.json` as the published recipe writes it.
public enum LoraFolder {
  /// Parameters that were trained as a whole are stored under their own names.
  public static func write(
    _ model: some AdaptableNetwork, rank: Int, alpha: Double, targets: [String], step: Int,
    to folder: String
  ) throws(FileError) {
    try createFolder(folder)
    let tensors = model.adapterParameters().map {
      (name: "base_model.model.\($0.name)", tensor: $0.value)
    }
    let full = model.parametersTrainedInFull()
    try SafetensorsWriter.write(
      tensors + full, metadata: [("format", "pt")], to: "\(folder)/adapter_model.safetensors")
    let names = JSONValue.array(targets.map { .string($0) })
    let adapter: JSONValue = [
      "peft_type": "LORA", "r": .integer(rank), "lora_alpha": .number(alpha),
      "target_modules": names, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": false,
      "init_lora_weights": true, "use_rslora": false, "use_dora": false,
      "rank_pattern": .object(model.rankPattern(besides: rank)),
      "alpha_pattern": .object(model.alphaPattern(besides: alpha)),
      "modules_to_save": full.isEmpty
        ? nil : .array(full.map { .string(String($0.name.dropLast(".weight".count))) }),
      "task_type": nil, "inference_mode": true,
    ]
    try OutputFile.write(adapter.pretty + "\n", to: "\(folder)/adapter_config.json")
    let recipe: JSONValue = [
      "step": .integer(step),
      "lora_params": [
        "lora_rank": .integer(rank), "lora_alpha": .number(alpha), "target_modules": names,
      ],
    ]
    try OutputFile.write(recipe.pretty + "\n", to: "\(folder)/lora_config.json")
  }
}

extension AdaptableNetwork {
  /// Parameters trained beside the adapters, under their names.
  fileprivate func parametersTrainedInFull() -> [(name: String, tensor: Tensor)] {
    var list: [(name: String, tensor: Tensor)] = []
    readParameters { if Self.trainedInFull.contains($0.name) { list.append(($0.name, $0.value)) } }
    return list
  }
  /// The ranks that differ from `rank`, by module, and their α.
  fileprivate func rankPattern(besides rank: Int) -> JSONObject {
    pattern { $0.rank == rank ? nil : .integer($0.rank) }
  }
  fileprivate func alphaPattern(besides alpha: Double) -> JSONObject {
    pattern {
      let own = $0.scale * Double($0.rank)
      return abs(own - alpha) < 1e-9 * alpha ? nil : .number(own)
    }
  }
  private func pattern(_ value: (LowRankAdapter) -> JSONValue?) -> JSONObject {
    var copy = self
    var object = JSONObject()
    copy.forEachAdaptable { layer in
      if let adapter = layer.adapter, let v = value(adapter) { object[layer.module] = v }
    }
    return object
  }
}
