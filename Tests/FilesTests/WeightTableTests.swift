import FoundationEssentials
import TensorRuntime
import TestSupport
import Testing

@testable import Files

@Suite struct WeightTableTests {
  let folder = TemporaryFolder()

  func table(_ tensors: [(name: String, tensor: Tensor)], stripping prefixes: [String] = []) throws
    -> WeightTable
  {
    try SafetensorsWriter.write(tensors, to: folder("w.safetensors"))
    return try WeightTable(opening: folder("w.safetensors"), stripping: prefixes)
  }
  let one = Tensor([1] as [Float], Shape(1)), two = Tensor([2, 2] as [Float], Shape(2))

  @Test func prefixesComeOff() throws {
    #expect(try table([("module._orig_mod.a.w", one), ("b", one)]).names.sorted() == ["a.w", "b"])
    #expect(try table([("model.a", one), ("model.b", one)]).names == ["a", "b"])
    #expect(
      try table([("module.model.a", one), ("module.model.model.b", one)]).names == ["a", "model.b"])
    #expect(try table([("model.a", one), ("b", one)]).names == ["model.a", "b"])
    #expect(try table([("vae.a", one)], stripping: ["vae."]).names == ["a"])
    #expect(try table([("vae.a", one)]).names == ["vae.a"])
    expectError(.badData, "same name") { _ = try table([("module.a", one), ("a", one)]) }
  }
  @Test func takingNamesWhatIsWrong() throws {
    var t = try table([("a", one), ("b", two), ("c.head", one), ("c.tail", one)])
    #expect(try t.take("b", shape: Shape(2)).floats == [2, 2])
    expectError(.badData, "w.safetensors", "'a'", "expected [2, 2]", "found [1]") {
      _ = try t.take("a", shape: Shape(2, 2))
    }
    expectError(.badData, "missing parameter, expected shape [3]", "'z'") {
      _ = try t.take("z", shape: Shape(3))
    }
    #expect(t.unexpected() == ["a", "c.head", "c.tail"])
    #expect(t.unexpected(ignoring: ["c.*", "a"]) == [])
    #expect(t.unexpected(ignoring: ["*.head", "x*"]) == ["a", "c.tail"])
  }
  @Test func nonFiniteValuesAreFound() throws {
    for type in [ElementType.f32, .f64, .bf16, .f16] {
      for bad in [Double.nan, .infinity, -.infinity] {
        let x = Workspace().converted(Tensor([1, 65504, bad] as [Double], Shape(3)), to: type)
        var t = try table([("a", x)])
        _ = try t.take("a")
        t.checksFinite = true
        expectError(.badData, "'a'", "element 2") { _ = try t.take("a") }
      }
    }
  }
  /// A later look finds what the first one leaves out, in the tensors that were taken.
  @Test func takenTensorsAreLookedAtLater() throws {
    let bad = Tensor([1, .infinity] as [Float], Shape(2))
    var t = try table([("a", two), ("b", bad)])
    _ = try t.take("a")
    try t.checkTaken()
    _ = try t.take("b")
    expectError(.badData, "'b'", "element 1") { try t.checkTaken() }
    for count in [4095, 4096, 4097, 10000] {
      var x = Array(repeating: Float(1), count: count)
      #expect(Tensor(x, Shape(count)).firstNonFinite == nil)
      x[count - 1] = .nan
      #expect(Tensor(x, Shape(count)).firstNonFinite == count - 1)
    }
  }
  /// Bytes with a scale for each row are one parameter; other bytes are integers.
  @Test func quantizedMatrices() throws {
    let work = Workspace()
    let q = work.quantized(randomTensor(Shape(5, 8), seed: 4, type: .f32))
    func table(scales: Tensor) throws -> WeightTable {
      try self.table([("w", q), ("w_scale", scales)])
    }
    var t = try table(scales: q.scales!)
    let taken = try t.take("w", shape: Shape(5, 8))
    #expect(taken.type == .i8 && taken.floats == q.floats && t.unexpected() == [])
    #expect(try t.fingerprint() != table(scales: .ones(Shape(5))).fingerprint())
    // Without scales of that name the bytes are integers. (The writer always adds the scales.)
    let written = try Data(contentsOf: URL(fileURLWithPath: folder("w.safetensors")))
    let renamed = written.map { $0 }.replacing(Array("w_scale".utf8), with: Array("v_scale".utf8))
    try Data(renamed).write(to: URL(fileURLWithPath: folder("w.safetensors")))
    var integers = try WeightTable(opening: folder("w.safetensors"))
    #expect(try integers.take("w").type == .i32)
    for wrong in [Tensor.ones(Shape(8)), work.converted(.ones(Shape(5)), to: .bf16)] {
      expectError(.badData, "'w_scale'", "one f32 scale") {
        var t = try table(scales: wrong)
        _ = try t.take("w")
      }
    }
    var t2 = try table(scales: Tensor([1, 1, .nan, 1, 1] as [Float], Shape(5)))
    t2.checksFinite = true
    expectError(.badData, "'w'") { _ = try t2.take("w") }
  }
  @Test func fingerprintsFollowContentsNotContainers() throws {
    let x = randomTensor(Shape(3, 4), seed: 3, type: .f32)
    let a = try table([("a", x), ("b", one)]).fingerprint()
    #expect(try table([("module.b", one), ("module.a", x)]).fingerprint() == a)
    try TorchWriter.write([("a", x), ("b", one)], to: folder("w.pt"))
    #expect(try WeightTable(opening: folder("w.pt")).fingerprint() == a)
    #expect(
      try table([("a", x), ("b", Tensor([1.0000001] as [Float], Shape(1)))]).fingerprint() != a)
    #expect(try table([("a", x), ("c", one)]).fingerprint() != a)
    #expect(try table([("a", x.reshaped(Shape(4, 3))), ("b", one)]).fingerprint() != a)
  }
  @Test func foldersAndOddFiles() throws {
    expectError(.missingInput, "no weights") { _ = try WeightTable(opening: folder.path) }
    expectError(.missingInput) { _ = try WeightTable(opening: folder("none")) }
    expectError(.badData, "empty") {
      _ = try WeightTable(opening: try folder.put([], "e.safetensors"))
    }
    expectError(.badData) {
      _ = try WeightTable(opening: try folder.put("hello, this is text", "e.safetensors"))
    }
    #expect(
      matches("a.b.c", pattern: "a.*.c") && matches("ac", pattern: "a*c")
        && !matches("a", pattern: "a*a") && matches("aXbYc", pattern: "a*b*c")
        && !matches("acb", pattern: "a*b*c"))
  }
}
