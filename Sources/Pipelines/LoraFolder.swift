public import Files
import Layers
public import Models
import TensorRuntime

/// Adapters in PEFT's layout (checkpoints.md 6.1): `adapter_model.safetensors`,
/// `adapter_config.json`, and `lora_config.json` as the published recipe writes it.
public enum LoraFolder {
  public static func write(
    _ model: VideoTransformer, rank: Int, alpha: Double, targets: [String], step: Int,
    to folder: String
  ) throws(FileError) {
    try createFolder(folder)
    let tensors = model.adapterParameters().map {
      (name: "base_model.model.\($0.name)", tensor: $0.value)
    }
    try SafetensorsWriter.write(
      tensors, metadata: [("format", "pt")], to: "\(folder)/adapter_model.safetensors")
    let names = JSONValue.array(targets.map { .string($0) })
    let adapter: JSONValue = [
      "peft_type": "LORA", "r": .integer(rank), "lora_alpha": .number(alpha),
      "target_modules": names, "lora_dropout": 0.0, "bias": "none", "fan_in_fan_out": false,
      "init_lora_weights": true, "use_rslora": false, "use_dora": false, "rank_pattern": [:],
      "alpha_pattern": [:], "modules_to_save": nil, "task_type": nil, "inference_mode": true,
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
