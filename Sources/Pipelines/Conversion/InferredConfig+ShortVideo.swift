import Files
import Models
import TensorRuntime

/// Sizes of VideoCrafter2's networks. Numbers of heads and of groups follow the published ones.
extension InferredConfig {
  static func unet(_ p: TensorProvider, path: String) throws(FileError) -> (
    config: VideoUNetConfig, supposed: [String]
  ) {
    let shapes = Shapes(p, path)
    var c = VideoUNetConfig()
    let first = try shapes("input_blocks.0.0.weight", rank: 4)
    (c.modelChannels, c.inChannels) = (first[0], first[1])
    c.outChannels = try shapes("out.2.weight", rank: 4)[0]
    let levels = try unetLevels(shapes)
    guard c.modelChannels > 0, levels.allSatisfy({ $0.width % c.modelChannels == 0 }) else {
      throw FileError(
        .badData, "widths \(levels.map(\.width)) that are not multiples of \(c.modelChannels)",
        in: path, mend: "give a checkpoint of VideoCrafter2's UNet")
    }
    c.channelMult = levels.map { $0.width / c.modelChannels }
    c.numResBlocks = levels[0].blocks
    c.attentionResolutions = levels.indices.filter { levels[$0].attends }.map { 1 << $0 }.reversed()
    c.transformerDepth = max(1, shapes.count("middle_block.1.transformer_blocks."))
    c.contextDim =
      try shapes("middle_block.1.transformer_blocks.0.attn2.to_k.weight", rank: 2)[1]
    func width(_ name: String) throws(FileError) -> Int? {
      shapes.optional(name) == nil ? nil : try shapes(name, rank: 2)[1]
    }
    c.timeCondProjDim = try width("time_cond_proj.weight")
    c.motionCondProjDim = try width("motion_cond_proj.weight")
    let inner = try shapes("init_attn.0.proj_in.weight", rank: 3)[0]
    let supposed = suppose(
      &c, inner: inner, attending: levels.filter(\.attends).map(\.width) + [levels.last!.width],
      widths: levels.map(\.width))
    return (c, supposed)
  }
  /// The transformer at the start has eight heads; heads are as wide everywhere (videocrafter.md
  /// 2.1). Small networks may have others.
  private static func suppose(
    _ c: inout VideoUNetConfig, inner: Int, attending: [Int], widths: [Int]
  ) -> [String] {
    var supposed: [String] = []
    c.numHeadChannels = inner / c.initAttnHeads
    if c.numHeadChannels < 1 || inner % c.initAttnHeads != 0
      || attending.contains(where: { $0 % c.numHeadChannels != 0 })
    {
      c.numHeadChannels = max(1, attending.reduce(inner, greatestCommonDivisor))
      c.initAttnHeads = max(1, inner / c.numHeadChannels)
    }
    if c.numHeadChannels != 64 {
      supposed.append(
        "num_head_channels \(c.numHeadChannels), init_attn_heads \(c.initAttnHeads)")
    }
    c.normNumGroups = groups(widths)
    if c.normNumGroups != 32 { supposed.append("norm_num_groups \(c.normNumGroups)") }
    return supposed
  }
  private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int {
    b == 0 ? a : greatestCommonDivisor(b, a % b)
  }
  /// The published 32 groups, or the most by which all widths can be divided.
  private static func groups(_ widths: [Int]) -> Int {
    [32, 16, 8, 4, 2].first { n in widths.allSatisfy { $0 % n == 0 } } ?? 1
  }

  private typealias Level = (width: Int, blocks: Int, attends: Bool)
  /// The levels on the way down, which downsamplings separate. The blocks of a level are alike.
  private static func unetLevels(_ shapes: Shapes) throws(FileError) -> [Level] {
    var levels: [Level] = []
    var isNew = true
    var n = 1
    while true {
      let block = "input_blocks.\(n)"
      if shapes.optional("\(block).0.op.weight") != nil {
        isNew = true
      } else if shapes.optional("\(block).0.in_layers.2.weight") != nil {
        let width = try shapes("\(block).0.in_layers.2.weight", rank: 4)[0]
        let attends = shapes.optional("\(block).1.norm.weight") != nil
        if isNew { levels.append((width, 0, attends)) }
        isNew = false
        levels[levels.count - 1].blocks += 1
        if levels.last!.width != width || levels.last!.attends != attends {
          throw FileError(
            .badData, "blocks of one level that differ", in: "\(shapes.path), '\(block)'",
            mend: "give a checkpoint of VideoCrafter2's UNet")
        }
      } else {
        break
      }
      n += 1
    }
    guard let blocks = levels.first?.blocks, levels.allSatisfy({ $0.blocks == blocks }) else {
      throw FileError(
        .badData, "levels of \(levels.map(\.blocks)) residual blocks", in: shapes.path,
        mend: "give a checkpoint of VideoCrafter2's UNet")
    }
    return levels
  }

  /// `p` in the original names.
  static func imageAutoencoder(_ p: TensorProvider, path: String) throws(FileError) -> (
    config: ImageAutoencoderConfig, supposed: [String]
  ) {
    let shapes = Shapes(p, path)
    var c = ImageAutoencoderConfig()
    let first = try shapes("encoder.conv_in.weight", rank: 4)
    (c.channels, c.inChannels) = (first[0], first[1])
    c.outChannels = try shapes("decoder.conv_out.weight", rank: 4)[0]
    c.zChannels = try shapes("decoder.conv_in.weight", rank: 4)[1]
    c.embedDim = try shapes("post_quant_conv.weight", rank: 4)[1]
    c.numResBlocks = shapes.count("encoder.down.0.block.")
    var widths: [Int] = []
    for i in 0..<shapes.count("encoder.down.") {
      widths.append(try shapes("encoder.down.\(i).block.0.conv1.weight", rank: 4)[0])
    }
    guard c.channels > 0, widths.allSatisfy({ $0 % c.channels == 0 }) else {
      throw FileError(
        .badData, "widths \(widths) that are not multiples of \(c.channels)", in: path,
        mend: "give a checkpoint of Stable Diffusion's autoencoder")
    }
    c.channelMult = widths.map { $0 / c.channels }
    c.normNumGroups = groups([c.channels])
    return (
      c, c.channels == 128 ? [] : ["norm_num_groups \(c.normNumGroups)", "scaling_factor 0.18215"]
    )
  }

  /// `p` in OpenCLIP's names. `given` may be transformers' configuration.
  static func openCLIPText(
    _ p: TensorProvider, _ given: [(json: JSONObject, path: String)], path: String
  ) throws(FileError) -> (config: OpenCLIPTextConfig, supposed: [String]) {
    let shapes = Shapes(p, path)
    var c = OpenCLIPTextConfig()
    let table = try shapes("token_embedding.weight", rank: 2)
    (c.vocabSize, c.width) = (table[0], table[1])
    c.contextLength = try shapes("positional_embedding", rank: 2)[0]
    c.layers = shapes.count("transformer.resblocks.")
    c.embedDim = shapes.optional("text_projection").map { $0.last } ?? c.width
    c.heads = c.width % 64 == 0 ? c.width / 64 : 1
    // Stable Diffusion 2 publishes the tower without its last block.
    if c.layers == 23 && c.width == 1024 { c.layer = .last }
    var supposed = c.width == 1024 ? [] : ["heads \(c.heads)"]
    for (json, place) in given {
      if let heads = json["num_attention_heads"]?.integer { (c.heads, supposed) = (heads, []) }
      if let activation = json["hidden_act"]?.string, activation != "gelu" {
        throw FileError(
          .badData, "hidden_act \(activation): only gelu is supported", in: place,
          mend: "give OpenCLIP's ViT-H-14, which VideoCrafter2 uses")
      }
    }
    if c.width != 1024 || !(23...24).contains(c.layers) {
      supposed.append("layer \(c.layer.rawValue)")
    }
    return (c, supposed)
  }
}
