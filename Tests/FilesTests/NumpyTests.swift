import TensorRuntime
import TestSupport
import Testing

@testable import Files

@Suite struct NumpyTests {
  let folder = TemporaryFolder()

  func npy(_ header: String, _ data: [UInt8] = [], version: UInt8 = 1) -> ByteRegion {
    let count = version == 1 ? littleEndian(UInt16(header.utf8.count)) : littleEndian(UInt32(header.utf8.count))
    return file([0x93] + Array("NUMPY".utf8) + [version, 0] + count + Array(header.utf8) + data, "t.npy").region
  }
  func read(_ header: String, _ data: [UInt8] = [], version: UInt8 = 1) throws -> Tensor {
    try NumpyFile.read(npy(header, data, version: version), name: "t.npy")
  }
  func head(_ type: String, _ shape: String, fortran: String = "False") -> String {
    "{'descr': '\(type)', 'fortran_order': \(fortran), 'shape': \(shape), }"
  }

  @Test func everyTypeComesBack() throws {
    let x = randomTensor(Shape(2, 3), seed: 1, type: .f32)
    let work = Workspace()
    for t in [
      x, randomTensor(Shape(4), seed: 2), Tensor(scalar: 2), Tensor.zeros(Shape(0, 3)), Tensor([1, -7] as [Int32], Shape(2)),
      Tensor.zeros(Shape(2), type: .i64), work.converted(x, to: .f16), Tensor.zeros(Shape(3), type: .u8),
    ] {
      try NumpyFile.write(t, to: folder("a.npy"))
      let back = try NumpyFile.read(folder("a.npy"))
      #expect(back.shape == t.shape && back.type == t.type)
      #expect(back.withBytes { Array($0) } == t.withBytes { Array($0) })
      #expect(try MappedFile(folder("a.npy")).count % 64 == t.byteCount % 64)
    }
    try NumpyFile.write(work.converted(x, to: .bf16), to: folder("a.npy"))
    #expect(try NumpyFile.read(folder("a.npy")).type == .f32)
  }
  @Test func readsVersionsOneToThree() throws {
    // The exact bytes numpy 1.24 writes for np.save(f, np.array([1, 2], dtype='<i4')).
    let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }" + String(repeating: " ", count: 60) + "\n"
    for version: UInt8 in 1...3 { #expect(try read(header, [1, 0, 0, 0, 2, 0, 0, 0], version: version).integers == [1, 2]) }
    #expect(try read(head("|b1", "(2,)"), [1, 0]).integers == [1, 0])
    #expect(try read(head("|i1", "(2L,)"), [255, 1]).integers == [-1, 1])
    #expect(try read(head("<f4", "()"), littleEndian(Float(2).bitPattern)).item == 2)
    #expect(try read(head("<f4", "(1,)", fortran: "True"), littleEndian(Float(2).bitPattern)).item == 2)
  }
  @Test func refusesEverythingElse() {
    let four: [UInt8] = [0, 0, 0, 0]
    expectError(.badData, "Fortran", "ascontiguousarray") { _ = try read(head("<f4", "(1, 1)", fortran: "True"), four) }
    expectError(.badData, ">f4", "little-endian") { _ = try read(head(">f4", "(1,)"), four) }
    for type in ["|O", "<c8", "<U4", "|S3", "<M8[ns]"] { expectError(.badData, "type") { _ = try read(head(type, "(1,)"), four) } }
    expectError(.badData, "structured") { _ = try read("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", four) }
    expectError(.badData, "negative") { _ = try read(head("<f4", "(-1,)"), four) }
    expectError(.badData, "needs more") { _ = try read(head("<f4", "(2,)"), four) }
    expectError(.badData, "after the array") { _ = try read(head("<f4", "(1,)"), four + [0]) }
    expectError(.badData, "needs more") { _ = try read(head("<f4", "(4611686018427387904, 4611686018427387904)"), four) }
    expectError(.badData, "needs more") { _ = try read(head("<f4", "(4611686018427387904, 4611686018427387904, 0)")) }
    expectError(.badData) { _ = try read(head("<f4", "(99999999999999999999,)"), four) }
    expectError(.badData, "axes") { _ = try read(head("<f4", "(1,1,1,1,1,1,1,1,1)"), four) }
    for header in [
      "", "{", "{}", "[]", head("<f4", "(1"), head("<f4", "1"), "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}",
      head("<f4", "(1,)") + "x", "{'descr': '<f4",
    ] {
      expectError(.badData) { _ = try read(header, four) }
    }
    expectError(.badData, "version 4") { _ = try read(head("<f4", "(1,)"), four, version: 4) }
    for bytes: [UInt8] in [[], [0x93], Array("hello world".utf8), [0x93] + Array("NUMPY".utf8), [0x93] + Array("NUMPY".utf8) + [1, 0, 255, 255]] {
      expectError(.badData) { _ = try NumpyFile.read(file(bytes).region, name: "t") }
    }
  }
}
