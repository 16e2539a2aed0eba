import Files
import Models
import TensorRuntime

/// Configurations inferred from the shapes of a checkpoint. What shapes cannot tell (numbers of
/// heads, group counts) follows the published rule and is reported in a note. A given `config.json`
/// always wins.
enum InferredConfig {
  /// What was found, and what was assumed.
  struct Result {
    var config: JSONObject
    var supposed: [String] = []
  }

  static func reward(_ p: TensorProvider, path: String) throws(FileError) -> Result {
    let shapes = Shapes(p, path)
    let classToken = try shapes("vision_encoder.cls_token")
    let patch = try shapes("vision_encoder.patch_embed.proj.weight")
    let d = classToken.last
    let depth = shapes.count("vision_encoder.blocks.")
    let hidden = try shapes("vision_encoder.blocks.0.mlp.fc1.weight")[0]
    let rows = try shapes("vision_encoder.pos_embed")[1] - 1
    // The single-frame table gives the grid. Without it the table is assumed to have four frames,
    // as in the published file.
    let perFrame = shapes.optional("vision_encoder.img_pos_embed").map { $0[1] - 1 } ?? rows / 4
    let grid = Int(Double(perFrame).squareRoot().rounded())
    let tubelet = patch[2]
    let words = try shapes("text_encoder.bert.embeddings.word_embeddings.weight")
    let layers = shapes.count("text_encoder.bert.encoder.layer.")
    var fusion = layers
    for i in (0..<layers).reversed()
    where shapes.optional("text_encoder.bert.encoder.layer.\(i).crossattention.self.key.weight")
      != nil
    { fusion = i }
    let width =
      shapes.optional("text_encoder.bert.encoder.layer.\(fusion).crossattention.self.key.weight")
      .map { $0[1] } ?? d
    let heads = d % 16 == 0 ? 16 : 1
    let textHeads = words[1] % 64 == 0 ? words[1] / 64 : words[1] % 16 == 0 ? words[1] / 16 : 1
    let vision: JSONObject = [
      "img_size": .integer(grid * patch[3]),
      "num_frames": .integer(
        rows == 4 * perFrame && d == 1408 ? 8 : rows / max(perFrame, 1) * tubelet),
      "tubelet_size": .integer(tubelet),
      "patch_size": .integer(patch[3]), "d_model": .integer(d), "depth": .integer(depth),
      "num_heads": .integer(heads), "mlp_ratio": .number(Double(hidden) / Double(d)),
      "mlp_gelu": "tanh", "attn_pool_num_heads": .integer(heads),
      "clip_embed_dim": .integer(
        try shapes("vision_encoder.clip_projector.cross_attn.proj.weight")[0]),
    ]
    let positions = try shapes("text_encoder.bert.embeddings.position_embeddings.weight")[0]
    let text: JSONObject = [
      "vocab_size": .integer(words[0]), "hidden_size": .integer(words[1]),
      "num_hidden_layers": .integer(layers), "num_attention_heads": .integer(textHeads),
      "intermediate_size": .integer(
        try shapes("text_encoder.bert.encoder.layer.0.intermediate.dense.weight")[0]),
      "max_position_embeddings": .integer(positions),
      "type_vocab_size": .integer(
        try shapes("text_encoder.bert.embeddings.token_type_embeddings.weight")[0]),
      "layer_norm_eps": .number(1e-12),
      "fusion_layer": .integer(fusion), "encoder_width": .integer(width),
      "pad_token_id": .integer(0),
    ]
    let config: JSONObject = [
      "model_type": "internvideo2_stage2",
      "embed_dim": .integer(try shapes("vision_proj.weight")[0]),
      "max_txt_l": .integer(min(40, positions)),
      "vision_encoder": .object(vision), "text_encoder": .object(text),
    ]
    return Result(
      config: config,
      supposed: d == 1408 && words[1] == 1024
        ? [] : ["num_heads \(heads)", "num_attention_heads \(textHeads)"])
  }

  /// `p` in diffusers' layout.
  static func transformer(_ p: TensorProvider, path: String) throws(FileError) -> Result {
    let shapes = Shapes(p, path)
    let embed = try shapes("x_embedder.proj.weight")
    let d = embed[0]
    let doubles = shapes.count("transformer_blocks.")
    let singles = shapes.count("single_transformer_blocks.")
    let norm =
      shapes.optional("transformer_blocks.0.attn.norm_q.weight")
      ?? shapes.optional("single_transformer_blocks.0.attn.norm_q.weight")
    guard let head = norm?[0], d % head == 0 else {
      throw FileError(
        .badData, "no block that tells the width of a head", in: path,
        mend: "give config.json with --config")
    }
    let hidden =
      (shapes.optional("transformer_blocks.0.ff.net.0.proj.weight")
      ?? shapes.optional("single_transformer_blocks.0.proj_mlp.weight"))![0]
    // Published: 16, 56, 56 of 128. One eighth is for time, the rest is shared, and all are even.
    let space = (head - max(2, head / 16 * 2)) / 4 * 2
    let time = head - 2 * space
    let config: JSONObject = [
      "_class_name": "HunyuanVideoTransformer3DModel", "in_channels": .integer(embed[1]),
      "out_channels": .integer(try shapes("proj_out.weight")[0] / (embed[2] * embed[3] * embed[4])),
      "num_attention_heads": .integer(d / head), "attention_head_dim": .integer(head),
      "num_layers": .integer(doubles), "num_single_layers": .integer(singles),
      "num_refiner_layers": .integer(
        shapes.count("context_embedder.token_refiner.refiner_blocks.")),
      "mlp_ratio": .number(Double(hidden) / Double(d)), "patch_size": .integer(embed[3]),
      "patch_size_t": .integer(embed[2]), "qk_norm": "rms_norm",
      "guidance_embeds": .bool(
        shapes.optional("time_text_embed.guidance_embedder.linear_1.weight") != nil),
      "text_embed_dim": .integer(try shapes("context_embedder.proj_in.weight")[1]),
      "pooled_projection_dim": .integer(
        try shapes("time_text_embed.text_embedder.linear_1.weight")[1]), "rope_theta": .number(256),
      "rope_axes_dim": .array([.integer(time), .integer(space), .integer(space)]),
    ]
    return Result(
      config: config, supposed: head == 128 ? [] : ["rope_axes_dim [\(time), \(space), \(space)]"])
  }

  static func autoencoder(_ p: TensorProvider, path: String) throws(FileError) -> Result {
    let shapes = Shapes(p, path)
    let levels = shapes.count("encoder.down_blocks.")
    var channels: [Int] = []
    for i in 0..<levels {
      channels.append(try shapes("encoder.down_blocks.\(i).resnets.0.conv1.conv.weight")[0])
    }
    guard levels > 0 else {
      throw FileError(
        .badData, "no encoder levels", in: path, mend: "give a HunyuanVideo autoencoder")
    }
    let groups =
      channels.allSatisfy({ $0 % 32 == 0 }) ? 32 : channels.allSatisfy({ $0 % 8 == 0 }) ? 8 : 1
    let samplers = (0..<levels).filter {
      shapes.optional("encoder.down_blocks.\($0).downsamplers.0.conv.conv.weight") != nil
    }.count
    let hasAttention = shapes.optional("encoder.mid_block.attentions.0.to_q.weight") != nil
    func types(_ name: String) -> JSONValue {
      .array(Array(repeating: .string(name), count: levels))
    }
    let config: JSONObject = [
      "_class_name": "AutoencoderKLHunyuanVideo",
      "in_channels": .integer(try shapes("encoder.conv_in.conv.weight")[1]),
      "out_channels": .integer(try shapes("decoder.conv_out.conv.weight")[0]),
      "latent_channels": .integer(try shapes("post_quant_conv.weight")[0]),
      "down_block_types": types("HunyuanVideoDownBlock3D"),
      "up_block_types": types("HunyuanVideoUpBlock3D"),
      "block_out_channels": .array(channels.map { .integer($0) }),
      "layers_per_block": .integer(shapes.count("encoder.down_blocks.0.resnets.")),
      "act_fn": "silu",
      "norm_num_groups": .integer(groups), "scaling_factor": .number(0.476986),
      "spatial_compression_ratio": .integer(1 << min(3, samplers)),
      "temporal_compression_ratio": .integer(levels > 2 ? 4 : 1),
      "mid_block_add_attention": .bool(hasAttention),
    ]
    return Result(
      config: config,
      supposed: channels == [128, 256, 512, 512]
        ? [] : ["norm_num_groups \(groups)", "the compression ratios"])
  }

  /// Shapes by name, and the number of blocks.
  struct Shapes {
    let provider: TensorProvider, path: String, present: Set<String>
    init(_ provider: TensorProvider, _ path: String) {
      (self.provider, self.path, present) = (provider, path, Set(provider.names))
    }
    func optional(_ name: String) -> Shape? { present.contains(name) ? provider.shape(name) : nil }
    func callAsFunction(_ name: String) throws(FileError) -> Shape {
      guard let shape = optional(name), shape.rank > 0 else {
        throw FileError(
          .badData, "missing parameter", in: "\(path), '\(name)'",
          mend: "give a checkpoint of this kind")
      }
      return shape
    }
    /// The shape of a tensor that must have `rank` axes.
    func callAsFunction(_ name: String, rank: Int) throws(FileError) -> Shape {
      let shape = try self(name)
      if shape.rank == rank { return shape }
      throw FileError(
        .badData, "shape \(shape) where \(rank) axes were expected", in: "\(path), '\(name)'",
        mend: "give a checkpoint of this kind")
    }
    /// Number of different indices after `prefix`.
    func count(_ prefix: String) -> Int {
      Set(
        present.filter { $0.hasPrefix(prefix) }.compactMap {
          $0.dropFirst(prefix.count).split(separator: ".").first
        }
      ).count
    }
  }
}
