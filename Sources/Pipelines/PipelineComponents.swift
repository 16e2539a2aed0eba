import Files
import Layers
import Models
import TensorRuntime

/// The parts of a generator directory beside its transformer: the autoencoder, the text layers of a
/// text encoder, the scheduler and the index.
public struct PipelineComponents: Sendable {
  let vae, textEncoder: String, shift: Double
  public init(vae: String, textEncoder: String, shift: Double) {
    (self.vae, self.textEncoder, self.shift) = (vae, textEncoder, shift)
  }

  public func write(to folder: String) throws {
    let config: AutoencoderConfig = try ModelFolder.config(vae)
    let holder = try WeightHolder.opening(vae)
    let parts = AutoencoderParts(
      encoder: try AutoencoderEncoder(config, from: holder.source),
      decoder: try AutoencoderDecoder(config, from: holder.source))
    try ModelFolder.write(
      parts, config: config, kind: "AutoencoderKLHunyuanVideo",
      weights: "diffusion_pytorch_model.safetensors", to: "\(folder)/vae")
    let prompts = try GeneratorFolder.promptEncoder(textEncoder)
    try ModelFolder.write(
      prompts.encoder, config: prompts.encoder.config, weights: "model.safetensors",
      to: "\(folder)/text_encoder")
    try OutputFile.write(
      try TextFile.read("\(textEncoder)/vocab.txt"), to: "\(folder)/text_encoder/vocab.txt")
    try createFolder("\(folder)/scheduler")
    let scheduler: JSONValue = [
      "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000,
      "shift": .number(shift),
    ]
    try OutputFile.write(scheduler.pretty + "\n", to: "\(folder)/scheduler/scheduler_config.json")
    let index: JSONValue = [
      "_class_name": "HunyuanVideoPipeline",
      "transformer": ["diffusers", "HunyuanVideoTransformer3DModel"],
      "vae": ["diffusers", "AutoencoderKLHunyuanVideo"],
    ]
    try OutputFile.write(index.pretty + "\n", to: "\(folder)/model_index.json")
  }
  private struct AutoencoderParts: Layer {
    var encoder: AutoencoderEncoder
    var decoder: AutoencoderDecoder
    mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
      try encoder.forEachParameter(body)
      try decoder.forEachParameter(body)
    }
  }

  /// Copies everything in a generator directory except its transformer.
  public static func copy(from source: String, to folder: String) throws {
    for part in [
      "vae", "text_encoder", "tokenizer", "scheduler", "scheduler.json", "model_index.json",
    ]
    where FileTree.exists("\(source)/\(part)") {
      try FileTree.copy("\(source)/\(part)", to: "\(folder)/\(part)")
    }
  }
}
