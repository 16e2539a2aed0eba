/// Names of the image autoencoder's parameters in diffusers' layout, and in the original one, which
/// is ours (videocrafter.md 12).
public enum ImageAutoencoderNames {
  /// Whether a checkpoint with these names has diffusers' layout.
  public static func areDiffusers(_ names: some Sequence<String>) -> Bool {
    names.contains { $0.contains(".up_blocks.") || $0.contains(".down_blocks.") }
  }

  /// The original name of a parameter that diffusers calls `name`, in a network of `levels` levels;
  /// nil if it is none of the autoencoder. Matrices of the attention are `[C, C]` in diffusers and
  /// `[C, C, 1, 1]` in the original.
  public static func original(ofDiffusers name: String, levels: Int) -> String? {
    var parts = name.split(separator: ".").map(String.init)
    guard parts.count >= 2, let field = parts.popLast(), ["weight", "bias"].contains(field) else {
      return nil
    }
    guard let module = module(parts, levels: levels) else { return nil }
    return "\(module).\(field)"
  }

  private static func module(_ parts: [String], levels: Int) -> String? {
    if ["quant_conv", "post_quant_conv"].contains(parts.joined(separator: ".")) { return parts[0] }
    guard let side = parts.first, ["encoder", "decoder"].contains(side), parts.count >= 2 else {
      return nil
    }
    let rest = Array(parts[2...])
    switch parts[1] {
    case "conv_in", "conv_out": return rest.isEmpty ? "\(side).\(parts[1])" : nil
    case "conv_norm_out": return rest.isEmpty ? "\(side).norm_out" : nil
    case "mid_block": return middle(rest).map { "\(side).mid.\($0)" }
    case "down_blocks" where side == "encoder":
      return level(rest, "downsamplers", "downsample", levels).map { "\(side).down.\($0).\($1)" }
    case "up_blocks" where side == "decoder":
      // Blocks are in the order of execution, levels in that of the encoder.
      return level(rest, "upsamplers", "upsample", levels).map {
        "\(side).up.\(levels - 1 - $0).\($1)"
      }
    default: return nil
    }
  }
  /// `0.resnets.1.conv1`, `0.downsamplers.0.conv`: the block, and its part's original name.
  private static func level(
    _ parts: [String], _ resamplers: String, _ resampler: String, _ levels: Int
  ) -> (Int, String)? {
    guard parts.count == 4, let block = Int(parts[0]), (0..<levels).contains(block) else {
      return nil
    }
    if parts[1] == resamplers {
      return parts[2...] == ["0", "conv"] ? (block, "\(resampler).conv") : nil
    }
    guard parts[1] == "resnets", let index = Int(parts[2]), let part = residual(parts[3]) else {
      return nil
    }
    return (block, "block.\(index).\(part)")
  }
  /// `resnets.0.conv1`, `attentions.0.to_q`, `attentions.0.to_out.0`.
  private static func middle(_ parts: [String]) -> String? {
    if parts.count == 3, parts[0] == "resnets", let index = Int(parts[1]), (0...1).contains(index) {
      return residual(parts[2]).map { "block_\(index + 1).\($0)" }
    }
    guard parts.starts(with: ["attentions", "0"]) else { return nil }
    return attention[parts[2...].joined(separator: ".")].map { "attn_1.\($0)" }
  }
  private static func residual(_ part: String) -> String? {
    switch part {
    case "norm1", "conv1", "norm2", "conv2": part
    case "conv_shortcut": "nin_shortcut"
    default: nil
    }
  }
  /// Older files of diffusers have the second names.
  private static let attention = [
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out",
  ]
}
