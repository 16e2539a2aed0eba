import Files
import FoundationEssentials
import Layers
import Models
import Pipelines
import TensorRuntime
import TestSupport

/// A small VideoCrafter2 in every form in which it is published, with random values.
enum ShortVideoFiles {
  typealias Tensors = [(name: String, tensor: Tensor)]

  static func unet(guidance: Int? = nil, motion: Int? = nil) -> VideoUNetConfig {
    var c = VideoUNetConfig()
    (c.modelChannels, c.channelMult, c.numResBlocks, c.attentionResolutions) = (
      8, [1, 2, 2], 1, [2, 1]
    )
    (c.numHeadChannels, c.initAttnHeads, c.contextDim, c.normNumGroups) = (2, 8, 12, 8)
    (c.timeCondProjDim, c.motionCondProjDim) = (guidance, motion)
    return c
  }
  static var vae: ImageAutoencoderConfig {
    var c = ImageAutoencoderConfig()
    (c.channels, c.channelMult, c.numResBlocks, c.normNumGroups) = (4, [1, 1, 2], 1, 4)
    return c
  }
  /// As many words as the tokenizer has with ten merges.
  static var text: OpenCLIPTextConfig {
    var c = OpenCLIPTextConfig()
    (c.width, c.heads, c.layers, c.vocabSize) = (12, 1, 3, 524)
    (c.contextLength, c.embedDim) = (77, 6)
    return c
  }
  /// Every parameter random, also those that start at zero.
  static func random(seed: UInt64) -> ParameterSource {
    ParameterSource { name, shape, _, _ in
      let hash = name.utf8.reduce(seed) { ($0 &* 31) &+ UInt64($1) }
      return randomTensor(shape, seed: hash, scale: 0.2, type: .f32)
    }
  }
  static func tensors(_ networks: [any Layer]) -> Tensors {
    var all: Tensors = []
    for network in networks { network.readParameters { all.append(($0.name, $0.value)) } }
    return all
  }
  static func unetTensors(_ c: VideoUNetConfig = unet()) throws -> Tensors {
    tensors([try VideoUNet(c, from: random(seed: 1))])
  }
  static func vaeTensors() throws -> Tensors {
    tensors([
      try ImageAutoencoderEncoder(vae, from: random(seed: 2)),
      try ImageAutoencoderDecoder(vae, from: random(seed: 2)),
    ])
  }
  /// With the block, the projection and the scale that nothing reads.
  static func textTensors() throws -> Tensors {
    var all = text
    all.layer = .last
    return tensors([try OpenCLIPTextEncoder(all, from: random(seed: 3))]) + [
      ("text_projection", randomTensor(Shape(12, 6), seed: 4, type: .f32)),
      ("logit_scale", Tensor(scalar: 4.6)),
    ]
  }
  /// model.ckpt, with buffers.
  static func checkpoint() throws -> Tensors {
    try prefixed("model.diffusion_model.", unetTensors())
      + prefixed("first_stage_model.", vaeTensors())
      + prefixed("cond_stage_model.model.", textTensors()) + [
        ("betas", .ones(Shape(10))), ("scale_arr", .ones(Shape(14))),
        ("model_ema.decay", Tensor(scalar: 0.9)),
        ("cond_stage_model.model.attn_mask", .zeros(Shape(77, 77))),
      ]
  }
  static func prefixed(_ prefix: String, _ tensors: Tensors) -> Tensors {
    tensors.map { ("\(prefix)\($0.name)", $0.tensor) }
  }
  /// The sizes that tensors do not tell, for a whole generator.
  static let sizes = """
    {"vae": {"norm_num_groups": 4}, "text_encoder": {"heads": 1}}
    """

  /// A converted directory.
  static func directory(_ folder: ScratchFolder, _ name: String = "base") throws -> String {
    try TorchWriter.write(try checkpoint(), to: folder("model.ckpt"))
    try OutputFile.write(sizes, to: folder("sizes.json"))
    var converter = Converter(input: folder("model.ckpt"), output: folder(name))
    converter.config = folder("sizes.json")
    _ = try converter.run()
    return folder(name)
  }
  /// The noise that a directory's network predicts for fixed latents.
  static func noise(_ directory: String, guidance: Double? = nil) throws -> [Float] {
    let holder = try WeightHolder.opening("\(directory)/unet")
    let model = try VideoUNet(
      try ModelFolder.config("\(directory)/unet"), from: holder.source)
    guard holder.table.unexpected().isEmpty else { return [] }
    return noise(model, guidance: guidance)
  }
  static func noise(_ model: VideoUNet, guidance: Double? = nil) -> [Float] {
    let prompt = PromptEmbedding(
      states: randomTensor(Shape(1, 5, 12), seed: 6, type: .f32), counts: [5])
    return model(
      randomTensor(Shape(1, 4, 2, 4, 4), seed: 5, type: .f32), times: [400], prompt,
      guidance: guidance.map { [Float($0)] }, in: Workspace()
    ).floats
  }

  /// diffusers' name of one of the autoencoder's parameters: the tables of videocrafter.md 12.1,
  /// from right to left.
  static func diffusers(_ name: String, levels: Int) -> String {
    var parts = name.split(separator: ".").map(String.init)
    let field = parts.removeLast()
    if parts.count == 1 { return name }
    let (side, rest) = (parts[0], Array(parts[2...]))
    func residual(_ p: String) -> String { p == "nin_shortcut" ? "conv_shortcut" : p }
    switch parts[1] {
    case "norm_out": return "\(side).conv_norm_out.\(field)"
    case "mid" where rest[0] == "attn_1":
      let inner = [
        "norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0",
      ][rest[1]]!
      return "\(side).mid_block.attentions.0.\(inner).\(field)"
    case "mid":
      let index = rest[0] == "block_1" ? 0 : 1
      return "\(side).mid_block.resnets.\(index).\(residual(rest[1])).\(field)"
    case "down", "up":
      let level = Int(rest[0])!
      let block = parts[1] == "down" ? level : levels - 1 - level
      let place = "\(side).\(parts[1])_blocks.\(block)"
      return rest[1] == "block"
        ? "\(place).resnets.\(rest[2]).\(residual(rest[3])).\(field)"
        : "\(place).\(parts[1])samplers.0.conv.\(field)"
    default: return name
    }
  }
  /// The text tower as transformers stores it: queries, keys and values apart.
  static func transformers(_ tensors: Tensors) -> Tensors {
    var all: Tensors = [("text_model.embeddings.position_ids", .zeros(Shape(1, 77)))]
    for (name, tensor) in tensors {
      if ["text_projection", "logit_scale"].contains(name) { continue }
      let parts = name.split(separator: ".").map(String.init)
      guard parts[0] == "transformer" else {
        let outer = [
          "token_embedding.weight": "embeddings.token_embedding.weight",
          "positional_embedding": "embeddings.position_embedding.weight",
          "ln_final.weight": "final_layer_norm.weight", "ln_final.bias": "final_layer_norm.bias",
        ][name]!
        all.append(("text_model.\(outer)", tensor))
        continue
      }
      let block = "text_model.encoder.layers.\(parts[2])"
      if parts.last!.hasPrefix("in_proj_") {
        let field = String(parts.last!.dropFirst("in_proj_".count))
        let d = tensor.shape[0] / 3
        for (i, p) in ["q_proj", "k_proj", "v_proj"].enumerated() {
          all.append(("\(block).self_attn.\(p).\(field)", tensor.slice(i * d..<(i + 1) * d)))
        }
        continue
      }
      let module = [
        "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
      ][parts[3..<parts.count - 1].joined(separator: ".")]!
      all.append(("\(block).\(module).\(parts.last!)", tensor))
    }
    return all
  }
}
