import TensorRuntime
import TestSupport
import Testing

@testable import Files

@Suite struct SafetensorsTests {
  let folder = TemporaryFolder()

  /// A file with this header text and data.
  func raw(_ header: String, _ data: [UInt8] = []) -> MappedFile {
    file(littleEndian(UInt64(header.utf8.count)) + Array(header.utf8) + data, "t.safetensors")
  }
  func refuse(
    _ header: String, _ data: [UInt8] = [], _ words: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    expectError(.badData, words, sourceLocation: sourceLocation) {
      _ = try SafetensorsFile(raw(header, data))
    }
  }

  @Test func everyTypeAndShapeComesBack() throws {
    let work = Workspace()
    let x = randomTensor(Shape(2, 1, 3, 2, 2), seed: 1, type: .f32)
    let tensors: [(name: String, tensor: Tensor)] = [
      ("u", Tensor.zeros(Shape(3), type: .u8)), ("h", work.converted(x, to: .f16)),
      ("b", work.converted(x, to: .bf16)), ("f", x),
      ("scalar", Tensor(scalar: 3)), ("empty", Tensor.zeros(Shape(0, 4))),
      ("d", randomTensor(Shape(5), seed: 2)), ("i", Tensor([1, -2, 3] as [Int32], Shape(3))),
      ("l", Tensor.zeros(Shape(2, 2), type: .i64)),
    ]
    try SafetensorsWriter.write(tensors, metadata: [("step", "7\n")], to: folder("a.safetensors"))
    let back = try SafetensorsFile(folder("a.safetensors"))
    #expect(back.metadata == ["format": "pt", "step": "7\n"])
    #expect(Set(back.names) == Set(tensors.map(\.name)))
    for (name, tensor) in tensors {
      let t = try back.tensor(named: name)
      #expect(t.shape == tensor.shape && t.type == tensor.type)
      #expect(t.withBytes { Array($0) } == tensor.withBytes { Array($0) })
    }
    let bytes = try MappedFile(folder("a.safetensors")).region
    #expect((8 + bytes.offset(at: 0)!) % 8 == 0)
    try SafetensorsWriter.write([], to: folder("none.safetensors"))
    #expect(try SafetensorsFile(folder("none.safetensors")).names == [])
  }
  @Test func tensorsOutliveTheFile() throws {
    var tensor: Tensor? = nil
    do {
      try SafetensorsWriter.write(
        [("a", Tensor([1, 2, 3] as [Float], Shape(3)))], to: folder("a.safetensors"))
      tensor = try SafetensorsFile(folder("a.safetensors")).tensor(named: "a")
    }
    #expect(tensor?.floats == [1, 2, 3])
  }
  @Test func unalignedDataAndWidenedTypesAreCopied() throws {
    let f = try SafetensorsFile(
      raw(
        #"{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"y":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},"s":{"dtype":"I16","shape":[2],"data_offsets":[5,9]},"t":{"dtype":"BOOL","shape":[1],"data_offsets":[9,10]}}   "#,
        [9] + littleEndian(Float(1.5).bitPattern) + littleEndian(Int16(-2))
          + littleEndian(Int16(300)) + [1]))
    #expect(try f.tensor(named: "y").floats == [1.5])
    #expect(try f.tensor(named: "s").integers == [-2, 300])
    #expect(try f.tensor(named: "t").integers == [1])
    #expect(f.names == ["x", "y", "s", "t"])
  }
  @Test func unreadTypesMatterOnlyWhenAskedFor() throws {
    let f = try SafetensorsFile(
      raw(
        #"{"q":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},"x":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#,
        [1, 2, 3]))
    #expect(try f.tensor(named: "x").integers == [3])
    expectError(.badData, "F8_E4M3", "'q'") { _ = try f.tensor(named: "q") }
    expectError(.badData, "no such tensor", "'z'") { _ = try f.tensor(named: "z") }
    let big = try SafetensorsFile(
      raw(
        #"{"u":{"dtype":"U64","shape":[1],"data_offsets":[0,8]}}"#,
        [255, 255, 255, 255, 255, 255, 255, 255]))
    expectError(.badData, "i64") { _ = try big.tensor(named: "u") }
  }
  @Test func brokenFilesAreRefused() {
    let x = #"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#
    for n in 0..<8 {
      expectError(.badData, "too short") {
        _ = try SafetensorsFile(file([UInt8](repeating: 0, count: n)))
      }
    }
    expectError(.badData) {
      _ = try SafetensorsFile(file(littleEndian(UInt64.max) + [0x7b, 0x7d]))
    }
    expectError(.badData) {
      _ = try SafetensorsFile(file(littleEndian(UInt64(100_000_001)) + [0x7b, 0x7d]))
    }
    expectError(.badData) { _ = try SafetensorsFile(file(littleEndian(UInt64(3)) + [0x7b, 0x7d])) }
    refuse(" {}", [], "not a safetensors file")
    refuse("[]", [], "not a safetensors file")
    refuse("{\"a\":\(x),\"a\":\(x)}", [0, 0, 0, 0], "duplicate key 'a'")
    refuse("{\"a\":\(x),\"b\":\(x)}", [0, 0, 0, 0], "overlaps")
    refuse("{\"a\":\(x)}", [0, 0, 0], "cut short")
    refuse("{\"a\":\(x)}", [0, 0, 0, 0, 0], "after the last tensor")
    refuse(
      #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, [0, 0, 0, 0, 0, 0, 0, 0], "hole")
    refuse(
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, [0, 0, 0, 0], "does not fill")
    refuse(
      #"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, [0, 0, 0, 0], "non-negative")
    refuse(
      #"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#, [0, 0, 0, 0], "non-negative")
    refuse(
      #"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, [],
      "does not fill")
    refuse(
      #"{"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}}"#, [],
      "does not fill")
    refuse(#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, [0, 0, 0, 0], "ascending")
    // Of a type that is not known the file still tells the names.
    expectError(.badData, "dtype X9", "'a'") {
      _ = try SafetensorsFile(
        raw(#"{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}"#, [0, 0, 0, 0])
      ).tensor(named: "a")
    }
    refuse(
      #"{"a":{"dtype":"X9","shape":[-1],"data_offsets":[0,4]}}"#, [0, 0, 0, 0], "non-negative")
    refuse(
      #"{"a":{"dtype":"X9","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#, [0, 0, 0, 0],
      "impossible shape")
    refuse(#"{"a":{"shape":[1],"data_offsets":[0,4]}}"#, [0, 0, 0, 0], "lacks")
    refuse(#"{"__metadata__":{"a":1}}"#, [], "metadata")
    refuse("{\"a\n\":\(x)}", [0, 0, 0, 0], "control character")
    refuse(
      "{\"a\\nb\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", [0, 0, 0, 0], "a\\nb")
  }

  @Test func shardsAreOneTable() throws {
    try SafetensorsWriter.write(
      [("a", Tensor([1] as [Float], Shape(1)))], to: folder("m-1.safetensors"))
    try SafetensorsWriter.write(
      [("b", Tensor([2, 3] as [Float], Shape(2)))], to: folder("m-2.safetensors"))
    func index(_ map: String) throws -> String {
      try folder.put(
        "{\"metadata\":{\"total_size\":12},\"weight_map\":{\(map)}}", "m.safetensors.index.json")
    }
    let index1 = try index(#""a":"m-1.safetensors","b":"m-2.safetensors""#)
    var table = try WeightTable(opening: folder.path)
    #expect(table.names == ["a", "b"])
    #expect(try table.take("b", shape: Shape(2)).floats == [2, 3])
    #expect(try SafetensorsIndex(index1).tensor(named: "a").floats == [1])
    expectError(.badData, "promises", "'c'") {
      _ = try SafetensorsIndex(try index(#""c":"m-1.safetensors""#))
    }
    for name in ["../m-1.safetensors", "/etc/passwd", "..", "", "x\\\\y"] {
      expectError(.badData, "outside") { _ = try SafetensorsIndex(try index("\"a\":\"\(name)\"")) }
    }
    expectError(.missingInput, "m-3.safetensors") {
      _ = try SafetensorsIndex(try index(#""a":"m-3.safetensors""#))
    }
  }
}
