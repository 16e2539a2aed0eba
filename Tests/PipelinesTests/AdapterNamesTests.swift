import Files
import Models
import Pipelines
import TensorRuntime
import TestSupport
import Testing

/// LoRA files as other tools write them: one adapter under every tool's names gives one file.
@Suite struct AdapterNamesTests {
  let folder: ScratchFolder
  init() throws { folder = try ScratchFolder() }

  /// Adapters of layers of every kind of rule, for a model of width 32: original name, inputs,
  /// outputs.
  private static let modules: [(name: String, input: Int, output: Int)] = [
    ("double_blocks.0.img_attn_qkv", 32, 96), ("double_blocks.1.txt_attn_proj", 32, 32),
    ("double_blocks.1.img_mlp.fc1", 32, 128), ("double_blocks.0.txt_mlp.fc2", 128, 32),
    ("double_blocks.0.img_mod.linear", 32, 192), ("single_blocks.2.linear1", 32, 224),
    ("single_blocks.0.linear2", 160, 32), ("single_blocks.1.modulation.linear", 32, 96),
    ("txt_in.individual_token_refiner.blocks.0.self_attn_qkv", 32, 96),
    ("txt_in.individual_token_refiner.blocks.0.mlp.fc1", 32, 128),
    ("txt_in.t_embedder.mlp.0", 256, 32), ("time_in.mlp.2", 32, 32),
    ("final_layer.adaLN_modulation.1", 32, 64),
  ]
  private static let rank = 3, alpha = 6.0
  /// α / r = 2 in every form.
  private func factors(_ form: Form) -> [(name: String, tensor: Tensor)] {
    Self.modules.enumerated().flatMap { i, m -> [(name: String, tensor: Tensor)] in
      let a = randomTensor(Shape(Self.rank, m.input), seed: UInt64(40 + i), scale: 0.3, type: .f32)
      let b = randomTensor(Shape(m.output, Self.rank), seed: UInt64(70 + i), scale: 0.3, type: .f32)
      let name = form.module(m.name)
      return [
        ("\(name).alpha", Tensor(scalar: Float(Self.alpha))), ("\(name).\(form.down).weight", a),
        ("\(name).\(form.up).weight", b),
      ]
    }
  }
  struct Form: Sendable, CustomTestStringConvertible {
    let testDescription: String, down: String, up: String
    let module: @Sendable (String) -> String
  }
  /// What ComfyUI calls the layers.
  private static let comfy: @Sendable (String) -> String = { name in
    [
      ("_attn_qkv", "_attn.qkv"), ("_attn_proj", "_attn.proj"), ("_mod.linear", "_mod.lin"),
      ("modulation.linear", "modulation.lin"), ("mlp.fc1", "mlp.0"), ("mlp.fc2", "mlp.2"),
      ("t_embedder.mlp.0", "t_embedder.in_layer"), ("time_in.mlp.2", "time_in.out_layer"),
    ].reduce(name) { $0.replacing($1.0, with: $1.1) }
  }
  private static func flat(_ name: String) -> String { name.replacing(".", with: "_") }
  static let forms: [Form] = [
    Form(testDescription: "musubi-tuner", down: "lora_down", up: "lora_up") {
      "lora_unet_" + flat($0)
    },
    Form(testDescription: "kohya of ComfyUI's", down: "lora_down", up: "lora_up") {
      "lora_unet_" + flat(comfy($0))
    },
    Form(testDescription: "ComfyUI", down: "lora_down", up: "lora_up") {
      "diffusion_model." + comfy($0)
    },
    Form(testDescription: "diffusion-pipe", down: "lora_A", up: "lora_B") {
      "diffusion_model." + comfy($0)
    },
    Form(testDescription: "original", down: "lora_A.default", up: "lora_B.default") {
      "transformer." + $0
    },
    Form(testDescription: "whole model", down: "lora.down", up: "lora.up") {
      "model.diffusion_model." + $0
    },
  ]
  private func export(
    _ path: String, _ name: String, _ layout: TransformerLayouts.Layout? = nil, alpha: Double? = nil
  ) throws -> [UInt8] {
    var converter = Converter(input: path, output: folder(name))
    (converter.layout, converter.alpha) = (layout, alpha)
    #expect(try converter.run().kind == .lora)
    return try FolderContents.bytes(
      folder(name)
        + (layout == .original ? "/adapter_model.safetensors" : "/pytorch_lora_weights.safetensors")
    )
  }

  @Test(arguments: forms) func everyToolsNames(_ form: Form) throws {
    let plain = Form(testDescription: "", down: "lora_A", up: "lora_B") { $0 }
    try SafetensorsWriter.write(factors(plain), to: folder("plain.safetensors"))
    try SafetensorsWriter.write(factors(form), to: folder("a.safetensors"))
    try TorchWriter.write(factors(form), to: folder("a.pt"))
    for layout in [TransformerLayouts.Layout.diffusers, .original] {
      let expected = try export(folder("plain.safetensors"), "plain-\(layout)", layout)
      #expect(try export(folder("a.safetensors"), "a-\(layout)", layout) == expected)
      #expect(try export(folder("a.pt"), "pt-\(layout)", layout) == expected)
    }
    // Nothing under a name that diffusers does not have.
    let written = try SafetensorsFile(folder("a-diffusers/pytorch_lora_weights.safetensors"))
    #expect(written.names.count == 2 * (3 + 1 + 1 + 1 + 1 + 4 + 1 + 1 + 3 + 1 + 1 + 1 + 1))
    #expect(
      written.names.allSatisfy {
        TransformerLayouts.layout(
          ofModule: String($0.dropFirst("transformer.".count).dropLast(".lora_A.weight".count)))
          == .diffusers
      })
    // A shared, rows of B, α / r in B.
    let qkv = factors(form).filter {
      $0.name.hasPrefix(form.module("double_blocks.0.img_attn_qkv") + ".")
    }
    let k = try written.tensor(named: "transformer.transformer_blocks.0.attn.to_k.lora_B.weight")
      .floats
    #expect(k == qkv[2].tensor.floats[32 * 3..<64 * 3].map { 2 * $0 })
    #expect(
      try written.tensor(named: "transformer.transformer_blocks.0.attn.to_k.lora_A.weight").floats
        == qkv[1].tensor.floats)
  }
  /// diffusers' own names with `_` for every dot.
  @Test func flattenedDiffusersNames() throws {
    let plain = Form(testDescription: "", down: "lora_A", up: "lora_B") { $0 }
    try SafetensorsWriter.write(factors(plain), to: folder("plain.safetensors"))
    let expected = try export(folder("plain.safetensors"), "plain")
    let split = try SafetensorsFile(folder("plain/pytorch_lora_weights.safetensors"))
    for prefix in ["lora_transformer_", "lora_unet_", "lycoris_"] {
      let tensors = try split.names.map { name in
        let module = name.dropFirst("transformer.".count).dropLast(".lora_A.weight".count)
        return (
          name: "\(prefix)\(Self.flat(String(module)))."
            + (name.contains("lora_A") ? "lora_down.weight" : "lora_up.weight"),
          tensor: try split.tensor(named: name)
        )
      }
      try SafetensorsWriter.write(tensors, to: folder("\(prefix).safetensors"))
      #expect(try export(folder("\(prefix).safetensors"), "out-\(prefix)") == expected)
    }
  }

  private func refuse(
    _ names: [String], _ words: String..., sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let good = factors(Form(testDescription: "", down: "lora_A", up: "lora_B") { $0 })
    let all =
      good.filter { !names.contains("-" + $0.name) }
      + names.filter { !$0.hasPrefix("-") }.map { (name: $0, tensor: Tensor.ones(Shape(3, 3))) }
    try SafetensorsWriter.write(all, to: folder("bad.safetensors"))
    for kind in [nil, ConversionKind.lora] {
      var converter = Converter(input: folder("bad.safetensors"), output: folder("out"))
      converter.kind = kind
      do {
        _ = try converter.run()
        Issue.record("no error", sourceLocation: sourceLocation)
      } catch {
        #expect(
          error.kind == .badData && words.allSatisfy { error.description.contains($0) }, "\(error)",
          sourceLocation: sourceLocation)
      }
      #expect(!FileTree.exists(folder("out")), sourceLocation: sourceLocation)
    }
  }
  @Test func whatNobodyWouldReadIsRefused() throws {
    let module = "double_blocks.0.img_attn_qkv"
    try refuse(["\(module).dora_scale"], "DoRA", module)
    try refuse(["base_model.model.\(module).lora_magnitude_vector"], "DoRA")
    try refuse(["lora_unet_double_blocks_0_img_mlp_fc1.hada_w1_a"], "LoHa")
    try refuse(["lora_unet_double_blocks_0_img_mlp_fc1.lokr_w1"], "LoKr")
    try refuse(["\(module).lora_B.bias"], "bias")
    try refuse(["diffusion_model.img_in.proj.diff_b"], "difference")
    try refuse(
      ["double_blocks.0.img_attn_x.lora_A.weight", "double_blocks.0.img_attn_x.lora_B.weight"],
      "does not have", "'double_blocks.0.img_attn_x'")
    try refuse(
      [
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight",
      ], "does not have", "lora_te1_text")
    try refuse(["-\(module).lora_B.weight"], "factor B is missing", module)
    try refuse(["-\(module).lora_A.weight"], "factor A is missing", module)
    try refuse(["lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"], "second tensor", module)
    try refuse(
      [
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
        "transformer.transformer_blocks.0.attn.to_q.lora_B.weight",
      ], "two adapters for one layer", "to_q")
    try refuse(["notes"], "not a low-rank adapter's tensor", "'notes'")
  }

  @Test func alphaIsAskedFor() throws {
    let own = Form(testDescription: "", down: "lora_A", up: "lora_B") { "base_model.model.\($0)" }
    let tensors = factors(own).filter { !$0.name.hasSuffix(".alpha") }
    try createFolder(folder("peft"))
    try SafetensorsWriter.write(tensors, to: folder("peft/adapter_model.safetensors"))
    try SafetensorsWriter.write(tensors, to: folder("renamed.safetensors"))
    try SafetensorsWriter.write(factors(own), to: folder("own.safetensors"))
    let expected = try export(folder("own.safetensors"), "own")
    for path in [
      folder("peft"), folder("peft/adapter_model.safetensors"), folder("renamed.safetensors"),
    ] {
      do {
        _ = try Converter(input: path, output: folder("out")).run()
        Issue.record("alpha was made up")
      } catch {
        #expect(
          error.kind == .missingInput && error.description.contains("--alpha")
            && error.description.contains("adapter_config.json"), "\(error)")
      }
      #expect(
        try export(path, "given-" + String(path.split(separator: "/").last!), alpha: Self.alpha)
          == expected)
    }
    // The file's own values win over a configuration, and what is given over both.
    try OutputFile.write(#"{"r": 3, "lora_alpha": 6}"#, to: folder("peft/adapter_config.json"))
    #expect(try export(folder("peft"), "configured") == expected)
    #expect(try AdapterFile.read(folder("own.safetensors"), alpha: 3).allSatisfy { $0.scale == 1 })
    // Diffusers' files without a word of alpha mean alpha = r.
    let diffusers = tensors.map {
      (name: "transformer." + $0.name.dropFirst("base_model.model.".count), tensor: $0.tensor)
    }
    try SafetensorsWriter.write(diffusers, to: folder("d.safetensors"))
    #expect(try AdapterFile.read(folder("d.safetensors")).allSatisfy { $0.scale == 1 })
  }

  /// Every layer of the published model is found under ComfyUI's names and flattened ones, and no
  /// two become one.
  @Test func allLayersOfThePublishedModel() {
    var names: [String] = []
    for i in [0, 7, 19] {
      for stream in ["img", "txt"] {
        names += [
          "mod.linear", "attn_qkv", "attn_proj", "attn_q_norm", "attn_k_norm", "mlp.fc1", "mlp.fc2",
        ].map { "double_blocks.\(i).\(stream)_\($0)" }
      }
      names += ["linear1", "linear2", "modulation.linear", "q_norm", "k_norm"].map {
        "single_blocks.\(i * 2).\($0)"
      }
    }
    for i in 0..<2 {
      names += [
        "norm1", "norm2", "self_attn_qkv", "self_attn_proj", "mlp.fc1", "mlp.fc2",
        "adaLN_modulation.1",
      ].map { "txt_in.individual_token_refiner.blocks.\(i).\($0)" }
    }
    names += [
      "img_in.proj", "txt_in.input_embedder", "txt_in.t_embedder.mlp.0", "txt_in.t_embedder.mlp.2",
      "txt_in.c_embedder.linear_1", "txt_in.c_embedder.linear_2", "time_in.mlp.0", "time_in.mlp.2",
    ]
    names += [
      "vector_in.in_layer", "vector_in.out_layer", "guidance_in.mlp.0", "guidance_in.mlp.2",
      "final_layer.linear", "final_layer.adaLN_modulation.1",
    ]
    for name in names {
      #expect(TransformerLayouts.module(name) == name)
      #expect(TransformerLayouts.module(Self.comfy(name)) == name, "\(Self.comfy(name))")
      #expect(TransformerLayouts.module(flattened: Self.flat(name)) == name)
      #expect(TransformerLayouts.module(flattened: Self.flat(Self.comfy(name))) == name)
    }
    for name in [
      "double_blocks.x.img_attn_qkv", "double_blocks.0.img_attn", "blocks.0.linear1",
      "single_blocks.1.linear3", "text_encoder.encoder.layers.0.mlp.fc1", "",
    ] { #expect(TransformerLayouts.module(name) == nil, "\(name)") }
  }
}
