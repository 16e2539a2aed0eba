/// Names of the text tower's parameters in transformers' layout, and in OpenCLIP's, which is ours
/// (videocrafter.md 12.1).
public enum OpenCLIPTextNames {
  /// Whether a checkpoint with these names has transformers' layout.
  public static func areTransformers(_ names: some Sequence<String>) -> Bool {
    names.contains { $0.hasSuffix("self_attn.q_proj.weight") }
  }

  /// The original name of a parameter that transformers calls `name`, and which part of its rows
  /// it is: queries, keys and values are three tensors there. nil if it is none of the tower.
  public static func original(ofTransformers name: String) -> (name: String, part: Int)? {
    let bare = name.hasPrefix("text_model.") ? name.dropFirst("text_model.".count) : name[...]
    if let known = outer[String(bare)] { return (known, 0) }
    let parts = bare.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard parts.count >= 5, parts[0] == "encoder", parts[1] == "layers", let i = Int(parts[2]),
      i >= 0, let field = parts.last, ["weight", "bias"].contains(field)
    else { return nil }
    let block = "transformer.resblocks.\(i)"
    let module = parts[3..<parts.count - 1].joined(separator: ".")
    if let part = projections.firstIndex(of: module) {
      return ("\(block).attn.in_proj_\(field)", part)
    }
    return modules[module].map { ("\(block).\($0).\(field)", 0) }
  }

  private static let outer = [
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias",
  ]
  private static let projections = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
  private static let modules = [
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
  ]
}

extension OpenCLIPTextEncoder {
  /// Tensors of a checkpoint that the tower does not read; `*` stands for any end.
  public static func ignoredNames(_ c: OpenCLIPTextConfig) -> [String] {
    let buffers = [
      "text_projection", "text_projection.weight", "logit_scale", "attn_mask", "visual.*",
      "embeddings.position_ids", "text_model.embeddings.position_ids",
    ]
    return buffers + (c.usedLayers..<c.layers).map { "transformer.resblocks.\($0).*" }
  }
}
