import Files
import FoundationEssentials
import Glibc
import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

@testable import Pipelines

/// The published sizes. The names and shapes are written out here from the tables of
/// videocrafter.md 12.1; a file that is all hole holds them, so it takes neither disk nor memory.
@Suite struct FullSizeTests {
  private typealias Names = [(name: String, shape: [Int])]
  private static func pair(_ name: String, _ weight: [Int]) -> Names {
    [("\(name).weight", weight), ("\(name).bias", [weight[0]])]
  }
  private static func residual(_ p: String, _ input: Int, _ output: Int) -> Names {
    var all = pair("\(p).in_layers.0", [input])
    all += pair("\(p).in_layers.2", [output, input, 3, 3])
    all += pair("\(p).emb_layers.1", [output, 1280]) + pair("\(p).out_layers.0", [output])
    all += pair("\(p).out_layers.3", [output, output, 3, 3])
    if input != output { all += pair("\(p).skip_connection", [output, input, 1, 1]) }
    for k in 1...4 {
      all += pair("\(p).temopral_conv.conv\(k).0", [output])
      all += pair(
        "\(p).temopral_conv.conv\(k).\(k == 1 ? 2 : 3)", [output, output, 3, 1, 1])
    }
    return all
  }
  private static func transformer(
    _ p: String, _ width: Int, context: Int, outer: Int? = nil
  ) -> Names {
    let (c, q) = (width, "\(p).transformer_blocks.0")
    var all = pair("\(p).norm", [outer ?? c])
    all += pair("\(p).proj_in", outer.map { [c, $0, 1] } ?? [c, c])
    for (attention, keys) in [("attn1", c), ("attn2", context)] {
      all += [
        ("\(q).\(attention).to_q.weight", [c, c]), ("\(q).\(attention).to_k.weight", [c, keys]),
        ("\(q).\(attention).to_v.weight", [c, keys]),
      ]
      all += pair("\(q).\(attention).to_out.0", [c, c])
    }
    all += pair("\(q).ff.net.0.proj", [8 * c, c]) + pair("\(q).ff.net.2", [c, 4 * c])
    for k in 1...3 { all += pair("\(q).norm\(k)", [c]) }
    return all + pair("\(p).proj_out", outer.map { [$0, c, 1] } ?? [c, c])
  }
  private static func unet(student: Bool = false, motion: Bool = false) -> Names {
    var all: Names = []
    for name in ["time_embed", "fps_embedding"] {
      all += pair("\(name).0", [1280, 320]) + pair("\(name).2", [1280, 1280])
    }
    if student { all.append(("time_cond_proj.weight", [320, 256])) }
    if motion {
      all += [("motion_cond_proj.weight", [320, 256]), ("combine_proj.weight", [320, 640])]
    }
    all += pair("input_blocks.0.0", [320, 4, 3, 3])
    all += transformer("init_attn.0", 512, context: 512, outer: 320)
    func block(_ p: String, _ input: Int, _ output: Int, _ attends: Bool) {
      all += residual("\(p).0", input, output)
      if !attends { return }
      all += transformer("\(p).1", output, context: 1024)
      all += transformer("\(p).2", output, context: output)
    }
    let down: [Int: (Int, Int, Bool)] = [
      1: (320, 320, true), 2: (320, 320, true), 4: (320, 640, true), 5: (640, 640, true),
      7: (640, 1280, true), 8: (1280, 1280, true), 10: (1280, 1280, false),
      11: (1280, 1280, false),
    ]
    for (i, (input, output, attends)) in down { block("input_blocks.\(i)", input, output, attends) }
    for (i, c) in [(3, 320), (6, 640), (9, 1280)] {
      all += pair("input_blocks.\(i).0.op", [c, c, 3, 3])
    }
    block("middle_block", 1280, 1280, true)
    all += residual("middle_block.3", 1280, 1280)
    let up = [
      (2560, 1280), (2560, 1280), (2560, 1280), (2560, 1280), (2560, 1280), (1920, 1280),
      (1920, 640), (1280, 640), (960, 640), (960, 320), (640, 320), (640, 320),
    ]
    for (i, (input, output)) in up.enumerated() {
      block("output_blocks.\(i)", input, output, i > 2)
    }
    for (name, c) in [("2.1", 1280), ("5.3", 1280), ("8.3", 640)] {
      all += pair("output_blocks.\(name).conv", [c, c, 3, 3])
    }
    return all + pair("out.0", [320]) + pair("out.2", [4, 320, 3, 3])
  }
  private static func autoencoder() -> Names {
    func block(_ p: String, _ input: Int, _ output: Int) -> Names {
      var all = pair("\(p).norm1", [input]) + pair("\(p).conv1", [output, input, 3, 3])
      all += pair("\(p).norm2", [output]) + pair("\(p).conv2", [output, output, 3, 3])
      return input == output
        ? all : all + pair("\(p).nin_shortcut", [output, input, 1, 1])
    }
    var all = pair("quant_conv", [8, 8, 1, 1]) + pair("post_quant_conv", [4, 4, 1, 1])
    all += pair("encoder.conv_in", [128, 3, 3, 3]) + pair("encoder.conv_out", [8, 512, 3, 3])
    all += pair("decoder.conv_in", [512, 4, 3, 3]) + pair("decoder.conv_out", [3, 128, 3, 3])
    all += pair("encoder.norm_out", [512]) + pair("decoder.norm_out", [128])
    let widths = [128, 256, 512, 512]
    for i in 0..<4 {
      let (from, above) = (widths[max(i - 1, 0)], widths[min(i + 1, 3)])
      for j in 0..<2 {
        all += block("encoder.down.\(i).block.\(j)", j == 0 ? from : widths[i], widths[i])
      }
      for j in 0..<3 {
        all += block("decoder.up.\(i).block.\(j)", j == 0 ? above : widths[i], widths[i])
      }
      let square = [widths[i], widths[i], 3, 3]
      if i < 3 { all += pair("encoder.down.\(i).downsample.conv", square) }
      if i > 0 { all += pair("decoder.up.\(i).upsample.conv", square) }
    }
    for side in ["encoder", "decoder"] {
      all += block("\(side).mid.block_1", 512, 512) + block("\(side).mid.block_2", 512, 512)
      all += pair("\(side).mid.attn_1.norm", [512])
      for m in ["q", "k", "v", "proj_out"] {
        all += pair("\(side).mid.attn_1.\(m)", [512, 512, 1, 1])
      }
    }
    return all
  }
  private static func textTower() -> Names {
    let c = 1024
    var all: Names = [
      ("positional_embedding", [77, c]), ("text_projection", [c, c]), ("logit_scale", []),
      ("token_embedding.weight", [49408, c]),
    ]
    for i in 0..<24 {
      let p = "transformer.resblocks.\(i)"
      all += pair("\(p).ln_1", [c]) + pair("\(p).ln_2", [c])
      all += [("\(p).attn.in_proj_weight", [3 * c, c]), ("\(p).attn.in_proj_bias", [3 * c])]
      all += pair("\(p).attn.out_proj", [c, c])
      all += pair("\(p).mlp.c_fc", [4 * c, c]) + pair("\(p).mlp.c_proj", [c, 4 * c])
    }
    return all + pair("ln_final", [c])
  }
  private static func count(_ names: Names) -> Int {
    names.reduce(0) { $0 + $1.shape.reduce(1, *) }
  }
  private static func prefixed(_ prefix: String, _ names: Names) -> Names {
    names.map { ("\(prefix)\($0.name)", $0.shape) }
  }

  /// A safetensors file in f16 whose data are a hole.
  private static func write(_ names: Names, to path: String) throws {
    var header = JSONObject()
    var at = 0
    for (name, shape) in names {
      let end = at + 2 * shape.reduce(1, *)
      header[name] = .object([
        "dtype": "F16", "shape": .array(shape.map { .integer($0) }),
        "data_offsets": .array([.integer(at), .integer(end)]),
      ])
      at = end
    }
    var text = Array(JSONValue.object(header).line.utf8)
    text += Array(repeating: 0x20, count: (8 - text.count % 8) % 8)
    let length = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
    try OutputFile.write(length + text, to: path)
    #expect(truncate(path, off_t(8 + text.count + at)) == 0)
  }
  /// The network as the converter finds it in a file of these names alone.
  private func network(_ part: ShortVideoPart, _ names: Names) throws -> ShortVideoNetwork {
    let folder = try ScratchFolder()
    try Self.write(names, to: folder("sparse.safetensors"))
    let p = try TensorProvider(
      try WeightTable(opening: folder("sparse.safetensors")), widening: nil)
    let found = try ShortVideoNetwork(part, p, given: [], path: "sparse")
    try found.refuseUnknown(p.names, path: "sparse")
    _ = try p.fitted(to: found.parameters, path: "sparse")
    #expect(found.supposed.isEmpty)
    return found
  }
  private func decoded<C: ModelConfig>(_ network: ShortVideoNetwork) throws -> C {
    try JSONValue.object(network.config).decoded(name: "sparse")
  }

  @Test(arguments: [
    (false, false, 1484, 1_413_284_420), (true, false, 1485, 1_413_366_340),
    (true, true, 1487, 1_413_653_060),
  ])
  func unets(_ student: Bool, _ motion: Bool, _ tensors: Int, _ parameters: Int) throws {
    let names = Self.unet(student: student, motion: motion)
    #expect(names.count == tensors && Self.count(names) == parameters)
    let found = try network(.unet, names)
    #expect(found.parameters.count == tensors)
    var expected = VideoUNetConfig()
    expected.timeCondProjDim = student ? 256 : nil
    expected.motionCondProjDim = motion ? 256 : nil
    #expect(try decoded(found) == expected)
  }
  @Test func otherNetworks() throws {
    let vae = Self.autoencoder()
    #expect(vae.count == 248 && Self.count(vae) == 83_653_863)
    let autoencoder = try network(.autoencoder, vae)
    #expect(autoencoder.parameters.count == 248)
    #expect(try decoded(autoencoder) == ImageAutoencoderConfig())
    let text = Self.textTower()
    #expect(text.count == 294 && Self.count(text) == 354_032_641)
    let tower = try network(.textEncoder, text)
    #expect(tower.parameters.reduce(0) { $0 + $1.shape.count } == 340_387_840)
    #expect(try decoded(tower) == OpenCLIPTextConfig())
  }
  /// The whole checkpoint is recognised by its names, and a wrong tensor is refused before anything
  /// is written.
  @Test func wholeCheckpointIsCheckedFirst() throws {
    let folder = try ScratchFolder()
    let all =
      Self.prefixed("model.diffusion_model.", Self.unet())
      + Self.prefixed("first_stage_model.", Self.autoencoder())
      + Self.prefixed("cond_stage_model.model.", Self.textTower()) + [("surplus", [1])]
    try Self.write(all, to: folder("model.safetensors.sparse"))
    let converter = Converter(input: folder("model.safetensors.sparse"), output: folder("out"))
    #expect { try converter.run() } throws: { "\($0)".contains("'surplus'") }
    #expect(!FileTree.exists(folder("out")))
  }
  @Test func adaptersOfTheStudent() throws {
    var c = VideoUNetConfig()
    c.timeCondProjDim = 256
    let modules = try VideoUNet.adaptableModules(c)
    func values(_ list: [(name: String, weight: Shape)]) -> Int {
      list.reduce(0) { sum, module in
        let rank = VideoUNet.adapterRank(64, of: module.weight)
        let (rows, columns) = (module.weight[0], module.weight.count / module.weight[0])
        return sum + rank * (rows + columns)
      }
    }
    #expect(modules.count == 575 && values(modules) == 117_142_176)
    // T2V-Turbo's order: the transformer at the start comes behind the way down.
    var groups: [String] = []
    for module in modules {
      let group = String(module.name.prefix { $0 != "." })
      if groups.last != group { groups.append(group) }
    }
    #expect(
      groups == [
        "time_embed", "fps_embedding", "time_cond_proj", "input_blocks", "init_attn",
        "middle_block", "output_blocks", "out",
      ])
    let place = "input_blocks.4.1."
    let block = "transformer_blocks.0."
    #expect(
      modules.filter { $0.name.hasPrefix(place) }.map { $0.name.dropFirst(place.count) } == [
        "proj_in", "\(block)attn1.to_q", "\(block)attn1.to_k", "\(block)attn1.to_v",
        "\(block)attn1.to_out.0", "\(block)ff.net.0.proj", "\(block)ff.net.2",
        "\(block)attn2.to_q", "\(block)attn2.to_k", "\(block)attn2.to_v",
        "\(block)attn2.to_out.0", "proj_out",
      ])
    let ranks = modules.map(\.weight.rank)
    #expect([2, 4, 5].map { r in ranks.count { $0 == r } } == [421, 66, 88])
    let attention = modules.filter { module in
      VideoUNet.attentionTargets.contains { module.name.hasSuffix(".\($0)") }
    }
    #expect(attention.count == 264 && values(attention) == 26_583_040)
  }
}
