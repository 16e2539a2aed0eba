import TensorRuntime
import TestSupport
import Testing

@testable import Files

/// A pickle written opcode by opcode.
struct PickleText {
  var bytes: [UInt8] = [0x80, 2]
  func op(_ code: UInt8...) -> PickleText { raw(code) }
  func raw(_ code: [UInt8]) -> PickleText {
    var p = self
    p.bytes += code
    return p
  }
  func text(_ s: String) -> PickleText {
    raw([0x58] + littleEndian(UInt32(s.utf8.count)) + Array(s.utf8))
  }
  func int(_ n: Int32) -> PickleText { raw([0x4a] + littleEndian(n)) }
  func ints(_ n: [Int32]) -> PickleText { n.reduce(op(0x28)) { $0.int($1) }.op(0x74) }
  func global(_ module: String, _ name: String) -> PickleText {
    raw([0x63] + Array("\(module)\n\(name)\n".utf8))
  }
  /// `_rebuild_tensor_v2` of storage `key`.
  func tensor(
    _ storage: String = "FloatStorage", key: String = "0", count: Int32, offset: Int32 = 0,
    shape: [Int32], strides: [Int32]
  ) -> PickleText {
    global("torch._utils", "_rebuild_tensor_v2").op(0x28, 0x28).text("storage").global(
      "torch", storage
    ).text(key).text("cpu").int(count).op(
      0x74, 0x51
    )
    .int(offset).ints(shape).ints(strides).op(0x89).global("collections", "OrderedDict").op(
      0x29, 0x52, 0x74, 0x52)
  }
  /// The checkpoint this pickle and these storages make.
  func checkpoint(
    _ storages: [[UInt8]] = [], top: String = "archive", extra: [(String, [UInt8])] = [],
    wide: Bool = false
  ) throws -> TorchCheckpoint {
    try TorchCheckpoint(file(archive(storages, top: top, extra: extra, wide: wide), "t.pt"))
  }
  func archive(
    _ storages: [[UInt8]] = [], top: String = "archive", extra: [(String, [UInt8])] = [],
    wide: Bool = false
  ) -> [UInt8] {
    var zip = ZipWriter()
    zip.alwaysWide = wide
    zip.add("\(top)/data.pkl", bytes: bytes + [0x2e])
    for (name, bytes) in extra { zip.add("\(top)/\(name)", bytes: bytes) }
    for (i, storage) in storages.enumerated() { zip.add("\(top)/data/\(i)", bytes: storage) }
    return zip.bytes()
  }
}
func floats(_ values: [Float]) -> [UInt8] { values.flatMap { littleEndian($0.bitPattern) } }

@Suite struct TorchTests {
  let folder = TemporaryFolder()
  let six = floats([0, 1, 2, 3, 4, 5])

  @Test func writtenFilesComeBack() throws {
    let x = randomTensor(Shape(3, 2), seed: 5, type: .f32)
    let bf16 = Workspace().converted(x, to: .bf16)
    let tensors = [
      ("net.0.weight", x), ("net.0.bias", bf16), ("s", Tensor(scalar: 4)),
      ("l", Tensor.zeros(Shape(2), type: .i64)), ("e", Tensor.zeros(Shape(0))),
    ]
    try TorchWriter.write(tensors.map { (name: $0.0, tensor: $0.1) }, to: folder("map.pt"))
    let dict = try TorchCheckpoint(folder("map.pt")).stateDictionary()
    #expect(dict.names == tensors.map(\.0))
    for (name, tensor) in tensors {
      let t = try dict.tensor(named: name)
      #expect(t.shape == tensor.shape && t.type == tensor.type)
      #expect(t.withBytes { Array($0) } == tensor.withBytes { Array($0) })
    }
  }
  @Test func viewsAreGatheredAndStoragesShared() throws {
    let p = PickleText().op(0x7d, 0x28).text("a").tensor(count: 6, shape: [2, 3], strides: [3, 1])
      .text("t").tensor(
        count: 6, shape: [3, 2], strides: [1, 3]
      )
      .text("tail").tensor(count: 6, offset: 4, shape: [2], strides: [1]).text("wide").tensor(
        count: 6, offset: 5, shape: [2, 2], strides: [0, 0]
      ).op(
        0x75)
    for wide in [false, true] {
      let dict = try p.checkpoint([six], top: wide ? "renamed" : "archive", wide: wide)
        .stateDictionary()
      #expect(try dict.tensor(named: "a").floats == [0, 1, 2, 3, 4, 5])
      #expect(try dict.tensor(named: "t").floats == [0, 3, 1, 4, 2, 5])
      #expect(try dict.tensor(named: "tail").floats == [4, 5])
      #expect(try dict.tensor(named: "wide").floats == [5, 5, 5, 5])
    }
  }
  @Test func widenedAndHalfTypes() throws {
    let p = PickleText().op(0x7d, 0x28).text("h").tensor(
      "BFloat16Storage", count: 1, shape: [1], strides: [1]
    ).text("c").tensor(
      "CharStorage", key: "1", count: 2, shape: [2], strides: [1]
    )
    .text("b").tensor("BoolStorage", key: "1", count: 2, offset: 1, shape: [], strides: []).text(
      "q"
    ).tensor(
      "QInt8Storage", key: "1", count: 2, shape: [2], strides: [1]
    ).op(0x75)
    let dict = try p.checkpoint([[0xc0, 0x3f], [0xff, 1]]).stateDictionary()
    #expect(try dict.tensor(named: "h").floats == [1.5])
    #expect(try dict.tensor(named: "c").integers == [-1, 1])
    #expect(try dict.tensor(named: "b").integers == [1])
    expectError(.badData, "QInt8Storage", "'q'") { _ = try dict.tensor(named: "q") }
  }
  @Test func containersAreSearchedInOrder() throws {
    func inner(_ p: PickleText, _ key: String, _ offset: Int32) -> PickleText {
      p.text(key).op(0x7d, 0x28).text("w").tensor(
        count: 6, offset: offset, shape: [1], strides: [1]
      ).op(0x75)
    }
    func value(_ p: PickleText) throws -> [Float] {
      try p.op(0x75).checkpoint([six]).stateDictionary().tensor(named: "w").floats
    }
    let start = PickleText().op(0x7d, 0x28).text("step").int(7).text("args").global(
      "argparse", "Namespace"
    ).op(0x29, 0x81, 0x7d).text("lr").op(
      0x47, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0, 0x73, 0x62)
    #expect(try value(inner(inner(start, "state_dict", 2), "module", 1)) == [1])
    #expect(try value(inner(inner(start, "ema", 3), "state_dict", 2)) == [2])
    #expect(try value(inner(inner(start, "state_dict", 2), "model", 4)) == [4])
    let checkpoint = try inner(start, "T", 5).op(0x75).checkpoint([six])
    #expect(try checkpoint.mapping?.mapping(named: "T")?.tensor(named: "w").floats == [5])
    #expect(checkpoint.mapping?.value(named: "step") == 7)
    expectError(.badData, "'step'") { _ = try checkpoint.stateDictionary() }
    let bare = try PickleText().tensor(count: 6, shape: [6], strides: [1]).checkpoint([six])
    #expect(bare.isTensor)
    #expect(try bare.tensor().floats == [0, 1, 2, 3, 4, 5])
    expectError(.badData, "single tensor") { _ = try bare.stateDictionary() }
  }
  @Test func parametersAndVersionThree() throws {
    // _rebuild_parameter(tensor, True, OrderedDict()) and _rebuild_tensor_v3 with a dtype token.
    let p = PickleText().op(0x7d, 0x28).text("p").global("torch._utils", "_rebuild_parameter").op(
      0x28
    ).tensor(count: 6, shape: [6], strides: [1]).op(
      0x88
    ).global("collections", "OrderedDict").op(0x29, 0x52, 0x74, 0x52)
      .text("v").global("torch._utils", "_rebuild_tensor_v3").op(0x28, 0x28).text("storage").global(
        "torch.storage", "UntypedStorage"
      ).text("0").text(
        "cuda:0"
      ).int(24).op(0x74, 0x51)
      .int(1).ints([2]).ints([1]).op(0x89).global("collections", "OrderedDict").op(0x29, 0x52)
      .global("torch", "float32").op(0x74, 0x52).op(0x75)
    let dict = try p.checkpoint([six]).stateDictionary()
    #expect(try dict.tensor(named: "p").floats == [0, 1, 2, 3, 4, 5])
    #expect(try dict.tensor(named: "v").floats == [1, 2])
  }
  @Test func nothingIsEverRun() throws {
    let marker = folder("pwned")
    let p = PickleText().op(0x7d, 0x28).text("evil").global("os", "system").text("touch \(marker)")
      .op(0x85, 0x52).text("w").tensor(
        count: 6, shape: [6], strides: [1]
      ).op(0x75)
    let dict = try p.checkpoint([six]).stateDictionary()
    #expect(try dict.tensor(named: "w").count == 6)
    #expect(PathKind(marker) == .nothing)
    expectError(.badData, "not a tensor", "'evil'") { _ = try dict.tensor(named: "evil") }
  }
  @Test func impossibleTensorsAreRefused() throws {
    func refuse(
      _ words: String, count: Int32 = 6, offset: Int32 = 0, shape: [Int32], strides: [Int32],
      key: String = "0",
      sourceLocation: SourceLocation = #_sourceLocation
    ) {
      expectError(.badData, words, sourceLocation: sourceLocation) {
        _ = try PickleText().tensor(
          key: key, count: count, offset: offset, shape: shape, strides: strides
        ).checkpoint([six]).tensor()
      }
    }
    refuse("outside", shape: [7], strides: [1])
    refuse("outside", offset: 1, shape: [6], strides: [1])
    refuse("outside", shape: [2, 2], strides: [5, 1])
    refuse("impossible", offset: -1, shape: [1], strides: [1])
    refuse("impossible", shape: [-1], strides: [1])
    refuse("impossible", shape: [2], strides: [-1])
    refuse("impossible", shape: [.max, .max, .max], strides: [1, 1, 1])
    refuse("expanded", shape: [.max, 64], strides: [0, 0])
    refuse("strides", shape: [1, 2], strides: [1])
    refuse("axes", shape: [1, 1, 1, 1, 1, 1, 1, 1, 1], strides: [1, 1, 1, 1, 1, 1, 1, 1, 1])
    refuse("only 24 bytes", count: 7, shape: [6], strides: [1])
    refuse("missing", shape: [6], strides: [1], key: "1")
    refuse("missing", shape: [6], strides: [1], key: "../data.pkl")
  }
  @Test func brokenPicklesAreRefused() {
    func refuse(_ words: String, _ p: PickleText, sourceLocation: SourceLocation = #_sourceLocation)
    {
      expectError(.badData, words, sourceLocation: sourceLocation) { _ = try p.checkpoint() }
    }
    refuse("stack is empty", PickleText())
    refuse("unknown opcode 0xff at 2", PickleText().op(0xff))
    refuse("unknown opcode 0x97", PickleText().op(0x97))
    refuse("protocol 0 or 1", PickleText().raw(Array("I5\n".utf8)))
    refuse("protocol 9", PickleText().op(0x80, 9))
    refuse("mark is missing", PickleText().op(0x75))
    refuse("never set", PickleText().op(0x68, 3))
    refuse("past the end", PickleText().raw([0x58] + littleEndian(UInt32(50))))
    refuse("string of", PickleText().raw([0x58] + littleEndian(UInt32.max)))
    refuse("too large", PickleText().raw([0x8d] + littleEndian(UInt64.max)))
    refuse("negative", PickleText().raw([0x54] + littleEndian(Int32(-5))))
    refuse("UTF-8", PickleText().raw([0x8c, 1, 0xff]))
    refuse("without its value", PickleText().op(0x7d, 0x28, 0x4e, 0x75))
    refuse("nested deeper", PickleText().op(0x29).raw([UInt8](repeating: 0x85, count: 100_000)))
    refuse(
      "nested deeper",
      PickleText().raw([UInt8](repeating: 0x5d, count: 5000)).raw(
        [UInt8](repeating: 0x61, count: 4999)))
    refuse("nested deeper", PickleText().raw([UInt8](repeating: 0x28, count: 5000)))
    refuse("ends too early", PickleText().op(0x4e, 0x4a))
    // A list that holds itself is harmless.
    expectError(.badData, "no mapping") {
      _ = try PickleText().op(0x5d, 0x71, 0, 0x68, 0, 0x61).checkpoint().stateDictionary()
    }
  }
  @Test func brokenArchivesAreRefused() throws {
    let p = PickleText().tensor(count: 6, shape: [6], strides: [1])
    let good = p.archive([six])
    func refuse(
      _ words: String, _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
    ) {
      expectError(.badData, words, sourceLocation: sourceLocation) {
        _ = try TorchCheckpoint(file(bytes, "t.pt")).tensor()
      }
    }
    refuse("cut short", good.dropLast(30))
    refuse("empty", [])
    refuse(
      "before version 1.6",
      [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e])
    refuse("not a PyTorch file", Array("hello".utf8))
    refuse("big-endian", p.archive([six], extra: [("byteorder", Array("big".utf8))]))
    refuse("same name", p.archive([six], extra: [("data/0", six)]))
    refuse("outside the archive", p.archive([six], extra: [("../x", six)]))
    var other = ZipWriter()
    other.add("word/document.xml", bytes: [1])
    refuse("without one data.pkl", other.bytes())
    // The pickle starts at byte 64 (padded); change one byte of it.
    var damaged = good
    damaged[70] ^= 1
    refuse("CRC-32", damaged)
    // The storage comes last before the directory; one changed bit is found when asked for.
    damaged = good
    let storage = (0..<good.count - 24).last { Array(good[$0..<$0 + 24]) == six }!
    damaged[storage + 5] ^= 1
    try TorchCheckpoint(file(good)).verifyStorages()
    expectError(.badData, "CRC-32", "data/0") {
      try TorchCheckpoint(file(damaged)).verifyStorages()
    }
    for (name, offset, value) in [("compressed", 10, 8), ("encrypted", 8, 1)]
      as [(String, Int, UInt8)]
    {
      var bytes = good
      let directory = (0..<bytes.count - 4).first {
        Array(bytes[$0..<$0 + 4]) == [0x50, 0x4b, 1, 2]
      }!
      bytes[directory + offset] = value
      refuse(name, bytes)
    }
  }
  /// `torch.serialization.set_crc32_options(False)` stores 0: not computed.
  @Test func withoutChecksums() throws {
    var bytes = PickleText().tensor(count: 6, shape: [6], strides: [1]).archive([six])
    for i in 0..<bytes.count - 20 {
      if Array(bytes[i..<i + 4]) == [0x50, 0x4b, 3, 4] {
        bytes.replaceSubrange(i + 14..<i + 18, with: [0, 0, 0, 0])
      }
      if Array(bytes[i..<i + 4]) == [0x50, 0x4b, 1, 2] {
        bytes.replaceSubrange(i + 16..<i + 20, with: [0, 0, 0, 0])
      }
    }
    let checkpoint = try TorchCheckpoint(file(bytes))
    #expect(try checkpoint.tensor().floats == [0, 1, 2, 3, 4, 5])
    try checkpoint.verifyStorages()
  }
  /// A tensor with PyTorch's negative bit stands for its negative; one with a bit that is not known
  /// for nobody knows what.
  @Test func bitsOfTensors() throws {
    func tensor(
      _ storage: String, _ count: Int32, bit: String, on: Bool = true, strides: [Int32] = [1],
      shape: [Int32]? = nil
    ) -> PickleText {
      PickleText().global("torch._utils", "_rebuild_tensor_v2").op(0x28, 0x28).text("storage")
        .global("torch", storage).text("0").text("cpu").int(count).op(0x74, 0x51)
        .int(0).ints(shape ?? [count]).ints(strides).op(0x89).global("collections", "OrderedDict")
        .op(0x29, 0x52).op(0x7d).text(bit).op(on ? 0x88 : 0x89, 0x73).op(0x74, 0x52)
    }
    func value(_ p: PickleText, _ bytes: [UInt8]) throws -> Tensor {
      try p.checkpoint([bytes]).tensor()
    }
    #expect(
      try value(tensor("FloatStorage", 3, bit: "neg"), floats([1, -2, 0.5])).floats == [
        -1, 2, -0.5,
      ])
    #expect(
      try value(tensor("FloatStorage", 3, bit: "neg", on: false), floats([1, -2, 0.5])).floats == [
        1, -2, 0.5,
      ])
    #expect(
      try value(
        tensor("FloatStorage", 4, bit: "neg", strides: [2], shape: [2]), floats([1, -2, 0.5, 9])
      ).floats == [-1, -0.5])
    #expect(
      try value(tensor("BFloat16Storage", 2, bit: "neg"), [0x80, 0x3f, 0x00, 0xc0]).floats == [
        -1, 2,
      ])
    #expect(try value(tensor("HalfStorage", 1, bit: "neg"), [0x00, 0x3c]).floats == [-1])
    #expect(
      try value(
        tensor("LongStorage", 3, bit: "neg"), [7, -5, 0].flatMap { littleEndian(Int64($0)) }
      ).integers == [-7, 5, 0])
    #expect(try value(tensor("CharStorage", 2, bit: "neg"), [1, 0xfe]).integers == [-1, 2])
    expectError(.badData, "ComplexFloatStorage") {
      _ = try value(tensor("ComplexFloatStorage", 1, bit: "conj"), floats([1, 2]))
    }
    expectError(.badData, "bit twist") {
      _ = try value(tensor("FloatStorage", 1, bit: "twist"), floats([1]))
    }
  }
  /// Named as what they are by every reader, whatever the file is called.
  @Test func otherFilesAreNamed() throws {
    let legacy: [UInt8] = [
      0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e,
      0x80, 2,
    ]
    let body = [UInt8](repeating: 7, count: 900)
    var script = ZipWriter()
    for name in ["m/data.pkl", "m/code/__torch__.py", "m/constants.pkl"] {
      script.add(name, bytes: [0x2e])
    }
    var tar = TarText()
    tar.add("sys_info", [1])
    let good = PickleText().tensor(count: 6, shape: [6], strides: [1]).archive([six])
    for (bytes, words) in [
      (legacy + body, "before version 1.6"),
      (
        [0x80, 4, 0x95, 12, 0, 0, 0, 0, 0, 0, 0] + legacy.dropFirst(2) + body, "before version 1.6"
      ), (tar.finished, "oldest PyTorch"), (script.bytes(), "TorchScript"),
      (
        Array("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".utf8),
        "git lfs pull"
      ), (Array("<!DOCTYPE html>\n<html>".utf8), "web page"),
      (Array(good.dropLast(30)), "cut short"),
      (Array("GGUF".utf8) + body, "GGUF"), ([0x80, 2] + body, "pickle"),
    ] as [([UInt8], String)] {
      for name in ["a.pt", "a.bin", "a.safetensors", "a"] {
        let path = try folder.put(bytes, name)
        expectError(.badData, words, name) { _ = try WeightTable(opening: path) }
      }
      expectError(.badData, words) { _ = try TorchCheckpoint(try folder.put(bytes, "a.pt")) }
      if words != "cut short" && words != "TorchScript" {
        expectError(.badData, words) {
          _ = try SafetensorsFile(try folder.put(bytes, "a.safetensors"))
        }
      }
    }
    // By contents, not by name.
    let one = Tensor([1] as [Float], Shape(1))
    try SafetensorsWriter.write([("w", one)], to: folder("really.pt"))
    try TorchWriter.write([("w", one)], to: folder("really.safetensors"))
    for name in ["really.pt", "really.safetensors"] {
      #expect(try WeightTable(opening: folder(name)).names == ["w"])
    }
    expectError(.badData, "whole object", "mine.Net", "state_dict") {
      _ = try PickleText().global("mine", "Net").op(0x29, 0x81).checkpoint().stateDictionary()
    }
  }
}
