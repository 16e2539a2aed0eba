import Files
import TestSupport

/// Networks of a few thousand parameters, made once by the program itself in about a second: an
/// autoencoder, a reward model with its OT map and a generator, for 16x16 clips of the built-in
/// world; and a folder of the test's own, with the configurations.
struct TinyModels {
  private let base: String
  let folder: ScratchFolder
  var vae: String { "\(base)/vae/model" }
  var reward: String { "\(base)/reward" }
  var generator: String { "\(base)/generator/model" }
  /// Options every training run on these models needs.
  static let size = ["--size", "16", "--frames", "9", "--quiet"]

  static let vaeConfig = """
    seed: 1
    steps: 3
    clips_per_step: 2
    frames_per_step: 2
    model: {latent_channels: 4, block_out_channels: [4, 4, 8], layers_per_block: 1, \
    norm_num_groups: 2, spatial_compression_ratio: 4, temporal_compression_ratio: 4}
    """
  static let encoderConfig = """
    seed: 2
    steps: 3
    batch: 4
    malformed_per_step: 2
    model:
      embed_dim: 16
      max_txt_l: 40
      vision_encoder: {img_size: 16, num_frames: 9, tubelet_size: 3, patch_size: 8, d_model: 16, \
    depth: 1, num_heads: 2, mlp_ratio: 2, attn_pool_num_heads: 2, clip_embed_dim: 16, init_values: \
    1}
      text_encoder: {vocab_size: 66, hidden_size: 16, num_hidden_layers: 3, num_attention_heads: \
    2, intermediate_size: 32, max_position_embeddings: 48, type_vocab_size: 2, fusion_layer: 1, \
    encoder_width: 16}
      ot_map: {input_dim: 16, hidden_dim: 16, output_dim: 16}
    """
  static let generatorConfig = """
    seed: 3
    steps: 20
    batch: 4
    clips: 8
    learning_rate: 0.01
    warmup: 0
    ema_decay: 0.5
    model: {num_attention_heads: 2, attention_head_dim: 8, num_layers: 1, num_single_layers: 1, \
    num_refiner_layers: 1, patch_size: 2, patch_size_t: 1, guidance_embeds: false, rope_axes_dim: \
    [2, 2, 4], mlp_ratio: 2}
    """
  static let postConfig = """
    seed: 4
    steps: 12
    batch: 2
    accumulation: 2
    learning_rate: 0.001
    clips: 8
    lora: {rank: 4, alpha: 4}
    post: {pool: 8, sampler_steps: 3, refresh: 5}
    ema: {enabled: true}
    grpo: {generations: 4, best_of: 2, sampling_steps: 4}
    """

  init() async throws {
    base = try await Self.made.value
    folder = try ScratchFolder()
    try Self.writeConfigurations(folder.path)
  }
  private static func writeConfigurations(_ folder: String) throws {
    for (name, text) in [
      ("vae", vaeConfig), ("encoders", encoderConfig), ("generator", generatorConfig),
      ("post", postConfig),
    ] { try OutputFile.write(text + "\n", to: "\(folder)/\(name).yaml") }
  }
  /// The models' folder; removed when the tests end.
  private static let made = Task { () async throws -> String in
    let folder = try ScratchFolder.untilExit()
    let f = { (name: String) in "\(folder)/\(name)" }
    try writeConfigurations(folder)
    try await pisces(["train", "vae", "--config", f("vae.yaml"), "--run", f("vae")] + size)
    try await pisces(
      ["train", "encoders", "--config", f("encoders.yaml"), "--run", f("encoders")] + size)
    try await pisces(
      [
        "train", "generator", "--config", f("generator.yaml"), "--run", f("generator"), "--vae",
        f("vae/model"), "--text-encoder", f("encoders/model"),
      ] + size)
    try await pisces(
      [
        "train", "ot-map", "--reward", f("encoders/model"), "--run", f("map"), "--set", "steps=2",
        "--set", "pairs=16", "--set", "validation=16", "--set", "batch=8",
      ] + size)
    try FileTree.copy(f("encoders/model"), to: f("reward"))
    try FileTree.copy(f("map/model/ot_map.safetensors"), to: f("reward/ot_map.safetensors"))
    return folder
  }
  /// Runs the program; anything but success is an error of the test.
  func pisces(_ arguments: [String]) async throws { try await Self.pisces(arguments) }
  static func pisces(_ arguments: [String]) async throws {
    let run = try await ProgramRun(ProgramRun.program, arguments)
    if run.status != 0 {
      throw Unexpected(
        description:
          "pisces \(arguments.joined(separator: " ")): status \(run.status): \(run.error)")
    }
  }
  /// Runs a program of the system.
  func run(_ name: String, _ arguments: [String]) async throws {
    let run = try await ProgramRun("/usr/bin/env", [name] + arguments)
    if run.status != 0 {
      throw Unexpected(description: "\(name): status \(run.status): \(run.error)")
    }
  }
  struct Unexpected: Error, CustomStringConvertible { let description: String }

  /// Every byte of the weights in a folder, by relative path.
  static func weights(_ path: String) throws -> [String: [UInt8]] {
    var sums: [String: [UInt8]] = [:]
    for name in try FolderContents.files(path) where name.hasSuffix(".safetensors") {
      sums[name] = try FolderContents.bytes("\(path)/\(name)")
    }
    return sums
  }
}
