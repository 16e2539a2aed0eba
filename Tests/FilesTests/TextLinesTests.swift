import FoundationEssentials
import TensorRuntime
import Testing

@testable import Files

#if canImport(Glibc)
  import Glibc
#endif

/// One text in every form that editors give it.
@Suite struct TextLinesTests {
  let folder = TemporaryFolder()
  static let mark: [UInt8] = [0xef, 0xbb, 0xbf]

  @Test func everyLineEndAndTheMark() throws {
    for (text, lines) in [
      ("a\nb\n", ["a", "b"]), ("a\r\nb\r\n", ["a", "b"]), ("a\rb\r", ["a", "b"]),
      ("a\nb", ["a", "b"]), ("a\r\n\r\nb", ["a", "", "b"]), ("a\n\rb", ["a", "", "b"]), ("", []),
      ("\n", [""]), ("\r\n", [""]), ("e\u{301}\r\n👩‍👩‍👧\n", ["e\u{301}", "👩‍👩‍👧"]),
      (" a \t\r\n", [" a \t"]),
    ] {
      for mark in [[], Self.mark] {
        let path = try folder.put(mark + Array(text.utf8), "t.txt")
        #expect(try TextFile.lines(path) == lines, "\(text.debugDescription)")
        #expect(try TextFile.read(path) == text)
      }
    }
    // A mark is one only at the start.
    #expect(try TextFile.lines(try folder.put("a\n\u{feff}b\n", "t.txt")) == ["a", "\u{feff}b"])
  }

  @Test func otherFormsOfTextAreNamed() throws {
    let words = Array("red\n".utf16)
    for (name, bytes) in [
      ("UTF-16", [0xff, 0xfe] + words.flatMap { littleEndian($0) }),
      ("UTF-16", [0xfe, 0xff] + words.flatMap { littleEndian($0.byteSwapped) }),
      ("UTF-16", words.flatMap { littleEndian($0) }),
      ("UTF-16", words.flatMap { littleEndian($0.byteSwapped) }),
      ("UTF-32", [0xff, 0xfe, 0, 0, 0x61, 0, 0, 0]), ("UTF-32", [0, 0, 0xfe, 0xff, 0, 0, 0, 0x61]),
      (
        "Git LFS pointer",
        Array("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n".utf8)
      ),
    ] as [(String, [UInt8])] {
      let path = try folder.put(bytes, "t.txt")
      expectError(.badData, name, "t.txt") { _ = try TextFile.lines(path) }
      expectError(.badData, name, "t.txt") { _ = try TextFile.read(path) }
      expectError(.badData, name, "t.txt") { _ = try JSONValue(contentsOf: path) }
    }
    for bytes in [[0x61, 0x0a, 0x62, 0xff, 0x0a], [0x61, 0x0d, 0xc3, 0x28]] as [[UInt8]] {
      let path = try folder.put(bytes, "t.txt")
      expectError(.badData, "not UTF-8", "line 2", "UTF-8") { _ = try TextFile.lines(path) }
      expectError(.badData, "not UTF-8", "line 2") { _ = try TextFile.read(path) }
    }
    expectError(.badData, "zero", "line 1") {
      _ = try TextFile.lines(try folder.put([0x61, 0x62, 0, 0x0a], "t.txt"))
    }
  }
  /// After a line that is not UTF-8 the next can be read.
  @Test func readingGoesOn() throws {
    var lines = try TextLines(try folder.put([0x61, 0x0a, 0xff, 0x0a, 0x62], "t.txt"))
    #expect(try lines.next()?.text == "a")
    expectError(.badData, "line 2") { _ = try lines.next() }
    let last = try lines.next()
    #expect(last?.text == "b" && last?.number == 3)
    #expect(try lines.next() == nil && lines.isOver)
  }
  /// From a pipe each line comes as soon as it is there, however the bytes are cut.
  @Test func aPipe() throws {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    var lines = TextLines(descriptor: ends[0], name: "pipe")
    func send(_ bytes: [UInt8]) { #expect(write(ends[1], bytes, bytes.count) == bytes.count) }
    send(Self.mark + Array("one\r\ntw".utf8))
    #expect(try lines.next()?.text == "one")
    send(Array("o\r".utf8))
    #expect(try lines.next()?.text == "two")
    send(Array("\nthree\n\nfive".utf8))
    #expect(try lines.next()?.text == "three")
    #expect(try lines.next()?.text == "")
    close(ends[1])
    let last = try lines.next()
    #expect(last?.text == "five" && last?.number == 5)
    #expect(try lines.next() == nil)
    close(ends[0])
    var closed = TextLines(descriptor: 4000, name: "pipe")
    expectError(.readWrite, "pipe") { _ = try closed.next() }
    #expect(closed.isOver)
  }

  /// The same manifest, captions, shard, list of latents and checkpoint pointer in every form.
  @Test(arguments: ["\n", "\r\n", "\r"], [[], TextLinesTests.mark]) func allThatIsReadByLines(
    _ end: String, _ mark: [UInt8]
  ) throws {
    func put(_ lines: [String], _ name: String) throws -> String {
      try folder.put(mark + Array(lines.map { $0 + end }.joined().utf8), name)
    }
    let manifest = try put(
      [#"{"video": "a.mp4", "prompt": "one"}"#, "", #"{"video": "b.mp4", "caption": "two"}"#],
      "m.jsonl")
    #expect(try Dataset(manifest).samples.map(\.caption) == ["one", "two"])
    #expect(try JSONLines.read(manifest).map(\.line) == [1, 3])
    _ = try folder.put([1], "clips-a.mp4")
    _ = try put([" a rabbit "], "clips-a.txt")
    #expect(try Dataset(folder.path).samples.map(\.caption) == ["a rabbit"])
    _ = try folder.put(mark + Array(end.utf8), "clips-a.txt")
    expectError(.badData, "caption is empty", "clips-a.txt") { _ = try Dataset(folder.path) }
    var tar = TarText()
    tar.add("k.mp4", [1])
    tar.add("k.txt", mark + Array("in a shard\(end)".utf8))
    tar.add("l.mp4", [1])
    tar.add("l.json", mark + Array("{\"caption\": \"in json\"}\(end)".utf8))
    #expect(
      try Dataset(try folder.put(tar.finished, "s.tar")).samples.map(\.caption) == [
        "in a shard", "in json",
      ])
    try createFolder(folder("checkpoints/step-000007"))
    _ = try put(["step-000007"], "checkpoints/latest")
    #expect(try CheckpointFolder(folder("checkpoints")).latest().hasSuffix("step-000007"))
    #expect(try JSONValue(contentsOf: try put(["{\"a\":", "1}"], "c.json")) == ["a": 1])
  }
  @Test func aManifestKnowsItsFolderAndBothKeys() throws {
    var pairs = try PairReader(
      try folder.put(
        "{\"video\":\"a.mp4\",\"caption\":\"x\"}\nno\n{\"video\":\"/b.mp4\",\"prompt\":\"y\"}\n{\"video\":\"c\"}\n",
        "m.jsonl"))
    let first = try pairs.next()
    #expect(
      first?.video == "a.mp4" && first?.prompt == "x"
        && PairReader.path("a.mp4", in: pairs.folder) == folder("a.mp4"))
    expectError(.badData, "line 2") { _ = try pairs.next() }
    #expect(PairReader.path(try pairs.next()?.video ?? "", in: pairs.folder) == "/b.mp4")
    expectError(.badData, "'prompt'", "line 4") { _ = try pairs.next() }
    #expect(try pairs.next() == nil)
  }
}
