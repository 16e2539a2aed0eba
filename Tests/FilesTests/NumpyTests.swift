import TensorRuntime
import TestSupport
import Testing

@testable import Files

@Suite struct NumpyTests {
  let folder = TemporaryFolder()

  func npy(_ header: String, _ data: [UInt8] = [], version: UInt8 = 1) -> ByteRegion {
    let count =
      version == 1
      ? littleEndian(UInt16(header.utf8.count)) : littleEndian(UInt32(header.utf8.count))
    return file(
      [0x93] + Array("NUMPY".utf8) + [version, 0] + count + Array(header.utf8) + data, "t.npy"
    ).region
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
      x, randomTensor(Shape(4), seed: 2), Tensor(scalar: 2), Tensor.zeros(Shape(0, 3)),
      Tensor([1, -7] as [Int32], Shape(2)),
      Tensor.zeros(Shape(2), type: .i64), work.converted(x, to: .f16),
      Tensor.zeros(Shape(3), type: .u8),
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
    let header =
      "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }"
      + String(repeating: " ", count: 60) + "\n"
    for version: UInt8 in 1...3 {
      #expect(try read(header, [1, 0, 0, 0, 2, 0, 0, 0], version: version).integers == [1, 2])
    }
    #expect(try read(head("|b1", "(2,)"), [1, 0]).integers == [1, 0])
    #expect(try read(head("|i1", "(2L,)"), [255, 1]).integers == [-1, 1])
    #expect(try read(head("<f4", "()"), littleEndian(Float(2).bitPattern)).item == 2)
    #expect(
      try read(head("<f4", "(1,)", fortran: "True"), littleEndian(Float(2).bitPattern)).item == 2)
  }
  /// numpy.save of numpy.arange(6).reshape(2, 3) - 2 in every type, order of bytes and order of
  /// axes; bool: whether it is positive.
  @Test func readsEveryTypeAndOrder() throws {
    let c = [-2.0, -1, 0, 1, 2, 3]
    let fortran = [0, 3, 1, 4, 2, 5].map { c[$0] }
    func bytes<T: FixedWidthInteger>(_ x: [T], _ order: String) -> [UInt8] {
      var all: [UInt8] = []
      for v in x {
        withUnsafeBytes(of: order == ">" ? v.bigEndian : v.littleEndian) { all += Array($0) }
      }
      return all
    }
    let halves: [Double: UInt16] = [-2: 0xc000, -1: 0xbc00, 0: 0, 1: 0x3c00, 2: 0x4000, 3: 0x4200]
    func encoded(_ type: String, _ order: String, _ x: [Double]) -> [UInt8] {
      switch type {
      case "f2": bytes(x.map { halves[$0]! }, order)
      case "f4": bytes(x.map { Float($0).bitPattern }, order)
      case "f8": bytes(x.map { $0.bitPattern }, order)
      case "i1": bytes(x.map { Int8($0) }, order)
      case "i2": bytes(x.map { Int16($0) }, order)
      case "i4": bytes(x.map { Int32($0) }, order)
      case "i8": bytes(x.map { Int64($0) }, order)
      case "u1": bytes(x.map { UInt8(abs($0)) }, order)
      case "u2": bytes(x.map { UInt16(abs($0)) }, order)
      case "u4": bytes(x.map { UInt32(abs($0)) }, order)
      case "u8": bytes(x.map { UInt64(abs($0)) }, order)
      default: x.map { $0 > 0 ? 1 : 0 }
      }
    }
    for type in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"] {
      let expected = type == "b1" ? c.map { $0 > 0 ? 1 : 0 } : type.hasPrefix("u") ? c.map(abs) : c
      for order in ["<", ">", "=", "|"] where order != "|" || type.hasSuffix("1") {
        for (isFortran, x) in [("False", c), ("True", fortran)] {
          let t = try read(
            head(order + type, "(2, 3)", fortran: isFortran), encoded(type, order, x))
          #expect(
            t.shape == Shape(2, 3) && Workspace().converted(t, to: .f64).doubles == expected,
            "\(order)\(type) \(isFortran)")
        }
      }
    }
    let order: [UInt32] = (0..<24).map { k -> UInt32 in
      let (i, j, l) = (k % 2, k / 2 % 3, k / 6)
      return UInt32(i * 12 + j * 4 + l)
    }
    let cube = try read(head(">u4", "(2, 3, 4)", fortran: "True"), bytes(order, ">"))
    #expect(cube.integers == Array(0..<24))
    #expect(try read(head("<f4", "(0, 3)", fortran: "True")).shape == Shape(0, 3))
    expectError(.badData, "i64") {
      _ = try read(head(">u8", "(1, 1)", fortran: "True"), [UInt8](repeating: 255, count: 8))
    }
  }
  @Test func refusesEverythingElse() {
    let four: [UInt8] = [0, 0, 0, 0]
    for type in ["|O", "<c8", "<f16", "?f4", "f4", "", "<U4", "|S3", "<M8[ns]"] {
      expectError(.badData, "type") { _ = try read(head(type, "(1,)"), four) }
    }
    expectError(.badData, "structured") {
      _ = try read("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", four)
    }
    expectError(.badData, "negative") { _ = try read(head("<f4", "(-1,)"), four) }
    expectError(.badData, "needs more") { _ = try read(head("<f4", "(2,)"), four) }
    expectError(.badData, "after the array") { _ = try read(head("<f4", "(1,)"), four + [0]) }
    expectError(.badData, "needs more") {
      _ = try read(head("<f4", "(4611686018427387904, 4611686018427387904)"), four)
    }
    expectError(.badData, "needs more") {
      _ = try read(head("<f4", "(4611686018427387904, 4611686018427387904, 0)"))
    }
    expectError(.badData) { _ = try read(head("<f4", "(99999999999999999999,)"), four) }
    expectError(.badData, "axes") { _ = try read(head("<f4", "(1,1,1,1,1,1,1,1,1)"), four) }
    for header in [
      "", "{", "{}", "[]", head("<f4", "(1"), head("<f4", "1"),
      "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}",
      head("<f4", "(1,)") + "x", "{'descr': '<f4",
    ] {
      expectError(.badData) { _ = try read(header, four) }
    }
    expectError(.badData, "version 4") { _ = try read(head("<f4", "(1,)"), four, version: 4) }
    for bytes: [UInt8] in [
      [], [0x93], Array("hello world".utf8), [0x93] + Array("NUMPY".utf8),
      [0x93] + Array("NUMPY".utf8) + [1, 0, 255, 255],
    ] {
      expectError(.badData) { _ = try NumpyFile.read(file(bytes).region, name: "t") }
    }
  }
}

/// `.npz` archives as numpy writes them, and what is no such archive.
@Suite struct NumpyArchiveTests {
  let folder = TemporaryFolder()

  @Test(arguments: [HostileFileTests.npz, HostileFileTests.npzDeflated]) func readsWhatNumpyWrites(
    _ bytes: [UInt8]
  ) throws {
    let path = try folder.put(bytes, "x.npz")
    let archive = try NumpyArchive(path)
    #expect(archive.names == ["a", "b"])
    let a = try archive.tensor(named: "a")
    #expect(
      a.shape == Shape(3, 4) && a.type == .f32 && a.doubles == (0..<12).map { Double($0) / 2 })
    #expect(try archive.tensor(named: "b").integers == [7])
    #expect(
      archive.entry(named: "a") == TensorEntry(typeName: "f32", type: .f32, shape: [3, 4])
        && archive.entry(named: "c") == nil)
    #expect(try TensorFile.read("\(path):a").doubles == a.doubles)
    // by its contents, whatever its name
    #expect(try TensorFile.read("\(folder.put(bytes, "x.bin")):b").integers == [7])
    expectError(.badData, "2 tensors", "'a'", "'b'") { _ = try TensorFile.read(path) }
    expectError(.badData, "'c'", "'a'") { _ = try TensorFile.read("\(path):c") }
  }
  @Test func theOnlyArrayNeedsNoName() throws {
    var zip = ZipWriter()
    zip.add("only.npy", bytes: HostileFileTests.npy)
    zip.add("notes.txt", bytes: Array("hello".utf8))
    let path = try folder.put(zip.bytes(), "x.npz")
    #expect(try TensorFile.read(path).shape == Shape(3, 4))
    expectError(.badData, "empty") { _ = try TensorFile.read(folder.put([], "y.npz")) }
    expectError(.badData, "0 tensors") {
      _ = try TensorFile.read(folder.put(ZipWriter().bytes(), "z.npz"))
    }
    for bytes in [Array("hello".utf8), HostileFileTests.npy.dropLast(200)] {
      expectError(.badData) { _ = try NumpyArchive(file(Array(bytes))).tensor(named: "x") }
    }
  }
  /// A small file that claims to inflate to much.
  @Test func claimsOfSizeAreNotBelieved() throws {
    var bytes = HostileFileTests.npzDeflated
    let directory = bytes.indices.first { bytes[$0...].starts(with: [0x50, 0x4b, 1, 2]) }!
    for size: UInt32 in [0, 1, 100_000, 0x7fff_ffff] {
      bytes.replaceSubrange(directory + 24..<directory + 28, with: littleEndian(size))
      expectError(.badData) { _ = try NumpyArchive(file(bytes)).tensor(named: "a") }
    }
  }
}
