import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import TestSupport
import Testing

/// LoRA files: three places for α, two layouts, and merged weights against the adapter's own path
/// (checkpoints.md 6, 12.5).
@Suite struct AdapterTests {
  typealias Names = [(name: String, tensor: Tensor)]

  /// PEFT's file of adapters on the original's fused layers: rank 3.
  static func factors(prefix: String, alpha: Double? = nil) -> Names {
    var all: Names = []
    for (i, (module, input, output)) in [
      ("double_blocks.0.img_attn_qkv", 32, 96), ("double_blocks.1.txt_attn_proj", 32, 32),
      ("single_blocks.2.linear1", 32, 224), ("single_blocks.0.linear2", 160, 32),
    ].enumerated() {
      all.append(
        (
          "\(prefix)\(module).lora_A.weight",
          randomTensor(Shape(3, input), seed: UInt64(40 + i), scale: 0.3, type: .f32)
        ))
      all.append(
        (
          "\(prefix)\(module).lora_B.weight",
          randomTensor(Shape(output, 3), seed: UInt64(60 + i), scale: 0.3, type: .f32)
        ))
      if let alpha { all.append(("\(prefix)\(module).alpha", Tensor(scalar: Float(alpha)))) }
    }
    return all
  }
  static func peft(_ folder: String, _ config: String, prefix: String = "base_model.model.") throws
  {
    try createFolder(folder)
    try SafetensorsWriter.write(factors(prefix: prefix), to: "\(folder)/adapter_model.safetensors")
    try OutputFile.write(config, to: "\(folder)/adapter_config.json")
  }

  @Test func alphaFromEverySource() throws {
    let folder = try ScratchFolder()
    func scales(_ path: String) throws -> [Double] { try AdapterFile.read(path).map(\.scale) }
    try Self.peft(folder("peft"), #"{"r": 3, "lora_alpha": 6, "use_rslora": false}"#)
    #expect(try scales(folder("peft")) == [2, 2, 2, 2])
    try Self.peft(folder("stabilised"), #"{"r": 3, "lora_alpha": 6, "use_rslora": true}"#)
    #expect(try scales(folder("stabilised")).allSatisfy { abs($0 - 6 / 3.0.squareRoot()) < 1e-12 })
    try Self.peft(
      folder("pattern"), #"{"r": 3, "lora_alpha": 6, "alpha_pattern": {"linear1": 12}}"#)
    #expect(try scales(folder("pattern")) == [2, 2, 4, 2])
    try SafetensorsWriter.write(
      Self.factors(prefix: "transformer."),
      metadata: [("lora_adapter_metadata", #"{"transformer.r": 3, "transformer.lora_alpha": 9}"#)],
      to: folder("m.safetensors"))
    #expect(try scales(folder("m.safetensors")) == [3, 3, 3, 3])
    try SafetensorsWriter.write(
      Self.factors(prefix: "transformer.", alpha: 1.5), to: folder("alpha.safetensors"))
    #expect(try scales(folder("alpha.safetensors")) == [0.5, 0.5, 0.5, 0.5])
    try SafetensorsWriter.write(Self.factors(prefix: ""), to: folder("plain.safetensors"))
    #expect(try scales(folder("plain.safetensors")) == [1, 1, 1, 1])
    try Self.peft(folder("dora"), #"{"r": 3, "lora_alpha": 6, "use_dora": true}"#)
    #expect(throws: FileError.self) { try AdapterFile.read(folder("dora")) }
    #expect(
      AdapterNames.parse("base_model.model.double_blocks.0.img_attn_qkv.lora_A.default.weight")?
        .module == "double_blocks.0.img_attn_qkv")
  }

  /// Weights merged, the exported file's adapters merged, and the adapters run beside the weights
  /// give one output.
  @Test func mergeExportAndAdapterPathAgree() throws {
    let folder = try ScratchFolder()
    let model = try LayoutTests.model()
    try LayoutTests.write(model, to: folder("base"))
    try Self.peft(folder("lora"), #"{"r": 3, "lora_alpha": 6}"#)
    func merge(_ lora: String, _ name: String) throws -> [Float] {
      var converter = Converter(input: folder("base"), output: folder(name))
      converter.adapters = folder(lora)
      _ = try converter.run()
      return LayoutTests.velocity(try LayoutTests.load(folder(name)))
    }
    let merged = try merge("lora", "merged")
    #expect(merged != LayoutTests.velocity(model))

    _ = try Converter(input: folder("lora"), output: folder("exported")).run()
    #expect(try AdapterFile.read(folder("exported")).map(\.scale).allSatisfy { $0 == 1 })
    #expect(close(try merge("exported", "from-export"), merged))
    var back = Converter(input: folder("exported"), output: folder("peft"))
    back.layout = .original
    _ = try back.run()
    let again = try AdapterFile.read(folder("peft"))
    #expect(Set(again.map(\.module)) == Set(try AdapterFile.read(folder("lora")).map(\.module)))
    #expect(close(try merge("peft", "from-peft"), merged))

    // Beside the weights: ΔW x = s B (A x), one layer of each kind of split.
    let work = Workspace()
    let adapters = TransformerLayouts(width: 32).adapters(
      try AdapterFile.read(folder("lora")), to: .diffusers, in: work)
    let weights = Dictionary(uniqueKeysWithValues: LayoutTests.tensors(model))
    let mergedWeights = Dictionary(
      uniqueKeysWithValues: LayoutTests.tensors(try LayoutTests.load(folder("merged"))))
    #expect(adapters.count == 3 + 1 + 4 + 1)
    for adapter in adapters {
      let name = "\(adapter.module).weight"
      let table = [name: weights[name]!]
      var layer = try Linear(
        adapter.module, adapter.a.shape[1], adapter.b.shape[0], bias: false,
        from: ParameterSource { name, _, _, _ in table[name] })
      layer.adapter = LowRankAdapter(
        a: Parameter("a", adapter.a), b: Parameter("b", adapter.b), scale: adapter.scale)
      let x = randomTensor(Shape(5, adapter.a.shape[1]), seed: 9, type: .f32)
      #expect(
        close(
          layer(x, in: work).floats, work.linear(x, weight: mergedWeights[name]!, bias: nil).floats),
        "\(adapter.module)")
    }
  }
  private func close(_ a: [Float], _ b: [Float]) -> Bool {
    let scale = b.reduce(0) { max($0, abs($1)) }
    return zip(a, b).allSatisfy { abs($0 - $1) <= 2e-5 * scale }
  }
}
