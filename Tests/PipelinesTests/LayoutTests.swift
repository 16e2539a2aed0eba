import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import TestSupport
import Testing
import Training

/// A tiny transformer with every kind of parameter, and its two layouts (checkpoints.md 12, 4).
@Suite struct LayoutTests {
  static var config: TransformerConfig {
    var c = TransformerConfig()
    (c.inChannels, c.outChannels, c.numAttentionHeads, c.attentionHeadDim, c.ropeAxesDim) = (
      4, 4, 2, 16, [4, 6, 6]
    )
    (c.numLayers, c.numSingleLayers, c.numRefinerLayers, c.textEmbedDim, c.pooledProjectionDim) = (
      2, 3, 1, 24, 20
    )
    return c
  }
  /// Every parameter random, also those that start at zero.
  static func model(_ seed: UInt64 = 3) throws -> VideoTransformer {
    var model = try VideoTransformer(config, from: .random(seed: seed))
    var i: UInt64 = 0
    model.forEachParameter {
      i += 1
      $0.value = randomTensor($0.value.shape, seed: 100 * seed + i, scale: 0.2, type: .f32)
    }
    return model
  }
  static func tensors(_ model: some Layer) -> [(name: String, tensor: Tensor)] {
    var all: [(name: String, tensor: Tensor)] = []
    model.readParameters { all.append(($0.name, $0.value)) }
    return all
  }
  static func velocity(_ model: VideoTransformer) -> [Float] {
    let c = config
    let x = randomTensor(Shape(1, c.inChannels, 2, 4, 4), seed: 5, type: .f32)
    let prompt = PromptEmbedding(
      states: randomTensor(Shape(1, 5, c.textEmbedDim), seed: 6, type: .f32), counts: [4],
      pooled: randomTensor(Shape(1, c.pooledProjectionDim), seed: 7, type: .f32))
    return model(x, times: [400], prompt, guidance: [6000], in: Workspace()).floats
  }
  static func load(_ folder: String) throws -> VideoTransformer {
    let holder = WeightHolder(try WeightTable(opening: folder))
    let model = try VideoTransformer(try ModelFolder.config(folder), from: holder.source)
    #expect(holder.table.unexpected().isEmpty)
    return model
  }
  /// A folder with the model as diffusers writes it.
  static func write(_ model: VideoTransformer, to folder: String) throws {
    try ModelFolder.write(
      model, config: model.config, kind: "HunyuanVideoTransformer3DModel",
      weights: "diffusion_pytorch_model.safetensors", to: folder)
  }

  /// There and back gives the same bytes; the original layout has its own names and the halves of
  /// the last modulation swapped.
  @Test func thereAndBack() throws {
    let folder = try ScratchFolder()
    let model = try Self.model()
    try Self.write(model, to: folder("a"))
    var there = Converter(input: folder("a"), output: folder("b"))
    there.layout = .original
    let report = try there.run()
    #expect(report.kind == .hunyuanTransformer && report.parameters == model.parameterCount)
    let original = try WeightTable(opening: folder("b"))
    #expect(TransformerLayouts.layout(of: original.names) == .original)
    #expect(original.entry("double_blocks.1.txt_attn_qkv.weight")?.shape == [96, 32])
    #expect(original.entry("single_blocks.2.linear1.bias")?.shape == [96 + 128])
    #expect(
      original.entry("txt_in.individual_token_refiner.blocks.0.self_attn_qkv.bias")?.shape == [96])
    // Counts of checkpoints.md 4 follow from: 12 fixed pairs with guidance, 9 a refiner block, 20
    // and 8 names of blocks.
    var fromOriginal = original
    let swapped = try fromOriginal.take("final_layer.adaLN_modulation.1.bias").floats
    let straight = Dictionary(uniqueKeysWithValues: Self.tensors(model))["norm_out.linear.bias"]!
      .floats
    #expect(Array(swapped[32...]) + Array(swapped[..<32]) == straight)

    _ = try Converter(input: folder("b"), output: folder("c")).run()
    let before = try WeightTable(opening: folder("a"))
    let after = try WeightTable(opening: folder("c"))
    #expect(try before.fingerprint() == after.fingerprint())
    #expect(Self.velocity(try Self.load(folder("c"))) == Self.velocity(model))
  }

  /// The published sizes have as many entries as the published files.
  @Test func countsOfThePublishedModel() {
    var names: [String] = []
    for (blocks, modules, fields) in [
      (
        20,
        [
          "img_mod.linear", "img_attn_qkv", "img_attn_proj", "img_mlp.fc1", "img_mlp.fc2",
          "txt_mod.linear", "txt_attn_qkv", "txt_attn_proj", "txt_mlp.fc1", "txt_mlp.fc2",
        ], ["weight", "bias"]
      ),
      (
        20, ["img_attn_q_norm", "img_attn_k_norm", "txt_attn_q_norm", "txt_attn_k_norm"], ["weight"]
      ),
    ] {
      for i in 0..<blocks {
        for m in modules { for f in fields { names.append("double_blocks.\(i).\(m).\(f)") } }
      }
    }
    for i in 0..<40 {
      for m in ["linear1", "linear2", "modulation.linear"] {
        names += ["single_blocks.\(i).\(m).weight", "single_blocks.\(i).\(m).bias"]
      }
      names += ["single_blocks.\(i).q_norm.weight", "single_blocks.\(i).k_norm.weight"]
    }
    for i in 0..<2 {
      for m in [
        "norm1", "self_attn_qkv", "self_attn_proj", "norm2", "mlp.fc1", "mlp.fc2",
        "adaLN_modulation.1",
      ] {
        names += ["weight", "bias"].map { "txt_in.individual_token_refiner.blocks.\(i).\(m).\($0)" }
      }
    }
    for m in [
      "img_in.proj", "txt_in.input_embedder", "txt_in.t_embedder.mlp.0", "txt_in.t_embedder.mlp.2",
      "txt_in.c_embedder.linear_1", "txt_in.c_embedder.linear_2", "time_in.mlp.0", "time_in.mlp.2",
      "vector_in.in_layer", "vector_in.out_layer", "guidance_in.mlp.0", "guidance_in.mlp.2",
      "final_layer.linear", "final_layer.adaLN_modulation.1",
    ] {
      names += ["\(m).weight", "\(m).bias"]
    }
    #expect(names.count == 856)
    let layouts = TransformerLayouts(width: 3072)
    let (steps, unknown) = layouts.steps(names, to: .diffusers)
    let targets = steps.flatMap(\.targets)
    #expect(unknown.isEmpty && targets.count == 1264 && Set(targets).count == 1264)
    let (back, left) = layouts.steps(targets, to: .original)
    #expect(left.isEmpty && back.flatMap(\.targets) == names)
  }

  @Test func shardsAndTypes() throws {
    let folder = try ScratchFolder()
    let model = try Self.model()
    try Self.write(model, to: folder("a"))
    var converter = Converter(input: folder("a"), output: folder("b"))
    (converter.largestFile, converter.type, converter.layout) = (60_000, .bf16, .original)
    _ = try converter.run()
    #expect(TextFile.exists(folder("b/diffusion_pytorch_model.safetensors.index.json")))
    let table = try WeightTable(opening: folder("b"))
    #expect(table.names.allSatisfy { table.entry($0)?.type == .bf16 })
    _ = try Converter(input: folder("b"), output: folder("c")).run()
    let loaded = Dictionary(uniqueKeysWithValues: Self.tensors(try Self.load(folder("c"))))
    let work = Workspace()
    for (name, tensor) in Self.tensors(model) {
      #expect(work.converted(tensor, to: .bf16).floats == loaded[name]!.floats, "\(name)")
    }
  }
  @Test func aFullFolderIsNotReplaced() throws {
    let folder = try ScratchFolder()
    let model = try Self.model()
    try Self.write(model, to: folder("a"))
    #expect(throws: FileError.self) { try Converter(input: folder("a"), output: folder("a")).run() }
    #expect(throws: FileError.self) {
      try Converter(input: folder("nothing"), output: folder("b")).run()
    }
  }
}
