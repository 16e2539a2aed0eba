import Testing

@testable import Files

/// Builds tar archives entry by entry.
struct TarText {
  var bytes: [UInt8] = []

  mutating func add(
    _ name: String, _ data: [UInt8] = [], type: Character = "0", prefix: String = "",
    size: Int? = nil
  ) {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at offset: Int) {
      for (i, b) in text.utf8.enumerated() { header[offset + i] = b }
    }
    func octal(_ n: Int, _ width: Int) -> String {
      let digits = String(n, radix: 8)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    put(String(name.prefix(100)), at: 0)
    put("0000644", at: 100)
    put(octal(size ?? data.count, 11), at: 124)
    put("        ", at: 148)
    put(String(type), at: 156)
    put("ustar\u{0}00", at: 257)
    put(prefix, at: 345)
    put(octal(header.reduce(0) { $0 + Int($1) }, 6) + "\u{0} ", at: 148)
    bytes += header + data + [UInt8](repeating: 0, count: (512 - data.count % 512) % 512)
  }
  var finished: [UInt8] { bytes + [UInt8](repeating: 0, count: 1024) }
}

@Suite struct TarTests {
  let folder = TemporaryFolder()

  @Test func longNamesAndGroups() throws {
    var tar = TarText()
    tar.add("./0001.mp4", [1, 2])
    tar.add("./0001.txt", Array("one".utf8))
    let long = "deep/" + String(repeating: "n", count: 150)
    let record = "path=\(long).seg.JSON\n"
    tar.add("x", Array("\(record.utf8.count + 4) \(record)".utf8), type: "x")
    tar.add("short", Array("{}".utf8))
    tar.add("././@LongLink", Array("\(long).mp4\u{0}".utf8), type: "L")
    tar.add("cut", [9])
    tar.add("folder/", type: "5")
    tar.add("b.mp4", [3], prefix: "pre")
    let reader = try TarReader(file(tar.finished))
    #expect(
      reader.entries.map(\.name) == [
        "./0001.mp4", "./0001.txt", long + ".seg.JSON", long + ".mp4", "pre/b.mp4",
      ])
    #expect(reader.groups.map(\.key) == ["0001", long, "pre/b"])
    #expect(reader.groups[0]["txt"]?.contents == Array("one".utf8))
    #expect(reader.groups[1].files.map(\.suffix) == ["seg.json", "mp4"])
    #expect(try TarReader(file(tar.bytes)).entries.count == 5)
  }
  @Test func brokenArchivesAreRefused() {
    func refuse(
      _ words: String, _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation
    ) {
      expectError(.badData, words, sourceLocation: sourceLocation) {
        _ = try TarReader(file(bytes))
      }
    }
    var tar = TarText()
    tar.add("a.mp4", [1, 2, 3])
    refuse("empty", [])
    refuse("cut short", Array(tar.bytes.prefix(100)))
    refuse("cut short", Array(tar.bytes.prefix(514)))
    refuse("checksum", [UInt8](repeating: 7, count: 1024))
    refuse("compressed contents are damaged", [0x1f, 0x8b, 8, 0])
    refuse("zstd", [0x28, 0xb5, 0x2f, 0xfd] + [UInt8](repeating: 0, count: 600))
    var huge = TarText()
    huge.add("a", [1], size: 0o77777777777)
    refuse("cut short", huge.bytes)
    var pax = TarText()
    pax.add("x", Array("999 path=a\n".utf8), type: "x")
    refuse("extended header", pax.bytes)
    pax = TarText()
    pax.add("x", Array("11 size=-5\n".utf8), type: "x")
    refuse("size", pax.bytes)
  }
  @Test func bracesExpand() throws {
    #expect(try expandBraces("s-{008..010}.tar") == ["s-008.tar", "s-009.tar", "s-010.tar"])
    #expect(try expandBraces("{0..1}/{a,b}") == ["0/a", "0/b", "1/a", "1/b"])
    #expect(try expandBraces("plain{x}.tar") == ["plain{x}.tar"])
    #expect(try expandBraces("{x}{1..2}") == ["{x}1", "{x}2"])
    #expect(try expandBraces("{5..1}") == ["{5..1}"])
    expectError(.badData, "million") { _ = try expandBraces("{0..99999999999}") }
    expectError(.badData, "million") { _ = try expandBraces("{0..9999}{0..9999}") }
  }
}
