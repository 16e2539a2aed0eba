public import Diffusion
import Files
import Models

/// The parts of a generator directory beside its network: the autoencoder, the text layers of a
/// text encoder, the scheduler and the index.
public struct PipelineComponents: Sendable {
  let vae, textEncoder: String, process: GenerativeProcess
  public init(vae: String, textEncoder: String, process: GenerativeProcess) {
    (self.vae, self.textEncoder, self.process) = (vae, textEncoder, process)
  }

  public func write(to folder: String) throws {
    try AutoencoderFolder(vae).write(to: "\(folder)/vae")
    let prompts = try GeneratorFolder.promptEncoder(textEncoder)
    try ModelFolder.write(
      prompts.encoder, config: prompts.encoder.config, weights: "model.safetensors",
      to: "\(folder)/text_encoder")
    try OutputFile.write(
      try TextFile.read("\(textEncoder)/vocab.txt"), to: "\(folder)/text_encoder/vocab.txt")
    let index: JSONValue
    switch process {
    case .flow(let shift):
      try createFolder("\(folder)/scheduler")
      let scheduler: JSONValue = [
        "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000,
        "shift": .number(shift),
      ]
      try OutputFile.write(
        scheduler.pretty + "\n", to: "\(folder)/scheduler/scheduler_config.json")
      index = [
        "_class_name": "HunyuanVideoPipeline",
        "transformer": ["diffusers", "HunyuanVideoTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLHunyuanVideo"],
      ]
    case .diffusion(let parameters):
      try OutputFile.write(
        try JSONValue(encoding: parameters).pretty + "\n", to: "\(folder)/scheduler.json")
      index = ["generator": "videocrafter2"]
    }
    try OutputFile.write(index.pretty + "\n", to: "\(folder)/model_index.json")
  }

  /// Copies everything in a generator directory except its network.
  public static func copy(from source: String, to folder: String) throws {
    for part in [
      "vae", "text_encoder", "tokenizer", "scheduler", "scheduler.json", "model_index.json",
    ]
    where FileTree.exists("\(source)/\(part)") {
      try FileTree.copy("\(source)/\(part)", to: "\(folder)/\(part)")
    }
  }
}
