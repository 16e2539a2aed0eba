import Benchmarking
import Files
import Models
import Pipelines
import TensorRuntime
import TestSupport
import Testing

/// Transformers in eight-bit floats: a plain cast, ComfyUI's scales, HunyuanVideo's file of scales.
@Suite struct EightBitTests {
  let folder: ScratchFolder
  init() throws { folder = try ScratchFolder() }

  @Test func everyCode() throws {
    let small = EightBitFloat.e4m3.values
    let wide = EightBitFloat.e5m2.values
    #expect(
      Array(small[..<17])
        == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16].map { $0 / 512 })
    #expect(
      small[0x38] == 1 && small[0x3c] == 1.5 && small[0x7e] == 448 && small[0x7f].isNaN
        && small[0xfe] == -448 && small[0x80].sign == .minus)
    #expect(
      wide[1] == 0x1p-16 && wide[4] == 0x1p-14 && wide[0x3c] == 1 && wide[0x7b] == 57344
        && wide[0x7c] == .infinity && wide[0xfc] == -.infinity && wide[0x7d].isNaN)
    // Exact in bf16 and f16, so nothing is lost on the way.
    let work = Workspace()
    for values in [small, wide] {
      let finite = Tensor(values.filter(\.isFinite), Shape(values.count { $0.isFinite }))
      #expect(
        work.converted(finite, to: .bf16).floats == finite.floats
          && work.converted(finite, to: .f16).floats == finite.floats)
    }
  }

  /// A safetensors file of tensors of any type.
  private func write(
    _ tensors: [(name: String, type: String, shape: [Int], bytes: [UInt8])], _ name: String
  ) throws -> String {
    var header = JSONObject()
    var data: [UInt8] = []
    for t in tensors {
      let shape = JSONValue.array(t.shape.map { .integer($0) })
      let range = JSONValue.array([.integer(data.count), .integer(data.count + t.bytes.count)])
      header[t.name] = .object(["dtype": .string(t.type), "shape": shape, "data_offsets": range])
      data += t.bytes
    }
    var text = Array(JSONValue.object(header).line.utf8)
    while text.count % 8 != 0 { text.append(0x20) }
    let count = (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
    try OutputFile.write(count + text + data, to: folder(name))
    return folder(name)
  }
  /// The codes nearest to `x / scale`, and what they stand for.
  private func codes(_ x: [Float], scale: Float) -> (codes: [UInt8], values: [Float]) {
    let values = EightBitFloat.e4m3.values
    let inOrder = (0..<256).filter { values[$0].isFinite }.sorted { values[$0] < values[$1] }
    let codes = x.map { x in
      var (low, high) = (0, inOrder.count - 1)
      while high - low > 1 {
        let middle = (low + high) / 2
        if values[inOrder[middle]] <= x / scale { low = middle } else { high = middle }
      }
      let isLow = x / scale - values[inOrder[low]] < values[inOrder[high]] - x / scale
      return UInt8(inOrder[isLow ? low : high])
    }
    return (codes, codes.map { values[Int($0)] * scale })
  }

  enum Kind: CaseIterable { case plain, comfy, rows, map }
  @Test(arguments: Kind.allCases) func transformers(_ kind: Kind) throws {
    let model = try LayoutTests.model()
    try LayoutTests.write(model, to: folder("diffusers"))
    var layout = Converter(input: folder("diffusers"), output: folder("original"))
    layout.layout = .original
    _ = try layout.run()
    let original = try SafetensorsFile(folder("original/diffusion_pytorch_model.safetensors"))
    var stored: [(name: String, type: String, shape: [Int], bytes: [UInt8])] = []
    var expected: [(name: String, tensor: Tensor)] = []
    var scales: [(name: String, tensor: Tensor)] = []
    for name in original.names {
      let t = try original.tensor(named: name)
      let isSmall = name.contains("_blocks.") && name.hasSuffix(".weight") && t.shape.rank == 2
      guard isSmall else {
        stored.append((name, "F32", t.shape.dims, t.withBytes { Array($0) }))
        expected.append((name, t))
        continue
      }
      let module = String(name.dropLast(".weight".count))
      let rows = t.shape[0]
      let width = t.shape.count / rows
      // Powers of two, so that products round nowhere.
      let factors = (0..<rows).map {
        kind == .plain
          ? 1
          : kind == .rows
            ? Float(sign: .plus, exponent: -8 - $0 % 2, significand: 1) : 0x1p-9 as Float
      }
      let parts = (0..<rows).map {
        codes(Array(t.floats[$0 * width..<($0 + 1) * width]), scale: factors[$0])
      }
      stored.append((name, "F8_E4M3", t.shape.dims, parts.flatMap(\.codes)))
      expected.append((name, Tensor(parts.flatMap(\.values), t.shape)))
      let scale = kind == .rows ? Tensor(factors, Shape(rows, 1)) : Tensor(scalar: factors[0])
      switch kind {
      case .plain: break
      case .map: scales.append((module, scale.reshaped(Shape(1))))
      case .comfy, .rows:
        stored.append(
          (module + ".scale_weight", "F32", scale.shape.dims, scale.withBytes { Array($0) }))
        stored.append((module + ".scale_input", "F32", [], scale.withBytes { Array($0.prefix(4)) }))
      }
    }
    if kind == .comfy || kind == .rows { stored.append(("scaled_fp8", "F8_E4M3", [2], [0, 0])) }
    let path = try write(stored, "m_fp8.safetensors")
    if kind == .map {
      // What uses the whole range of its type was scaled, so its scales are missed.
      expectRefusal("without their scales", "_map.pt") {
        _ = try Converter(input: path, output: folder("out")).run()
      }
      try TorchWriter.write(scales, to: folder("m_fp8_map.pt"))
    }
    try SafetensorsWriter.write(expected, to: folder("wide.safetensors"))
    for (type, name) in [(ElementType.f32, "f32"), (.bf16, "bf16")] {
      for (input, output) in [
        (path, "from-8-\(name)"), (folder("wide.safetensors"), "from-32-\(name)"),
      ] {
        var converter = Converter(input: input, output: folder(output))
        converter.type = type
        #expect(try converter.run().kind == .hunyuanTransformer)
      }
      let a = try WeightTable(opening: folder("from-8-\(name)"))
      let b = try WeightTable(opening: folder("from-32-\(name)"))
      #expect(try a.fingerprint() == b.fingerprint())
    }
    // Without a type: bf16 for what had eight bits.
    _ = try Converter(input: path, output: folder("own")).run()
    let own = try WeightTable(opening: folder("own"))
    #expect(
      own.entry("transformer_blocks.0.attn.to_q.weight")?.type == .bf16
        && own.entry("transformer_blocks.0.attn.to_q.bias")?.type == .f32)
    // Listed as it is; not computed with.
    let summary = try ModelSummary.of(path)[0]
    #expect(summary.types.contains { $0.name == "f8_e4m3" } && summary.kind == .hunyuanOriginal)
    expectRefusal("F8_E4M3", "pisces convert") {
      var table = try WeightTable(opening: path)
      _ = try table.take("double_blocks.0.img_attn_qkv.weight")
    }
  }
  private func expectRefusal(
    _ words: String..., sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
  ) {
    do {
      try body()
      Issue.record("no error", sourceLocation: sourceLocation)
    } catch {
      #expect(
        words.allSatisfy { "\(error)".contains($0) }, "\(error)", sourceLocation: sourceLocation)
    }
  }

  /// Any type is listed, known or not.
  @Test func anyTypeIsListed() throws {
    let path = try write(
      [
        ("a", "F4", [2, 2], [1, 2]), ("b", "F8_E8M0", [3], [1, 2, 3]), ("c", "X9", [2], [1, 2, 3]),
        ("d", "F32", [1], [0, 0, 128, 63]),
      ], "t.safetensors")
    let summary = try ModelSummary.of(path)[0]
    #expect(
      summary.tensors == 4 && summary.bytes == 2 + 3 + 3 + 4
        && summary.types.map(\.name) == ["f4", "f8_e8m0", "x9", "f32"])
    let other = try write(
      [
        ("a", "F4", [2, 2], [1, 3]), ("b", "F8_E8M0", [3], [1, 2, 3]), ("c", "X9", [2], [1, 2, 3]),
        ("d", "F32", [1], [0, 0, 128, 63]),
      ], "u.safetensors")
    #expect(try ModelSummary.of(other)[0].fingerprint != summary.fingerprint)
    expectRefusal("F4", "'a'") { _ = try SafetensorsFile(path).tensor(named: "a") }
  }
}
