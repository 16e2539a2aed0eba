import FoundationEssentials
import Testing

@testable import Files

@Suite struct OutputFileTests {
  let folder = TemporaryFolder()

  @Test func aFailureLeavesTheOlderFileAndNothingElse() throws {
    let path = try folder.put("old", "a.txt")
    expectError(.badData) {
      try OutputFile.write(to: path) { file throws(FileError) in
        try file.append("new")
        throw FileError.bad("stop", "x")
      }
    }
    #expect(try folder.contents == ["a.txt"])
    #expect(try MappedFile(path).region.array == Array("old".utf8))
  }
  @Test func aFullDiskIsAReadWriteErrorAndLeavesNothing() throws {
    expectError(.readWrite, "/dev/full") { try OutputFile.write("x", to: "/dev/full") }
  }
  @Test func devicesAreWrittenNotReplaced() throws {
    try OutputFile.write("x", to: "/dev/null")
    #expect(PathKind("/dev/null") == .special)
  }
  @Test func aLinkKeepsPointing() throws {
    let path = try folder.put("old", "a.txt")
    try FileManager.default.createSymbolicLink(atPath: folder("link"), withDestinationPath: path)
    try OutputFile.write("new", to: folder("link"))
    #expect(try MappedFile(path).region.string == "new")
  }
  @Test func wrongPlacesAreRefused() {
    expectError(.cannotCreate, "create the folder first") {
      try OutputFile.write("x", to: folder("no/such/folder/a"))
    }
    expectError(.cannotCreate) { try OutputFile.write("x", to: folder.path) }
    expectError(.cannotCreate) { try OutputFile.write("x", to: "") }
    expectError(.cannotCreate) { try OutputFile.write("x", to: folder("a\u{0}b")) }
  }
  @Test func longNamesWork() throws {
    let name = String(repeating: "n", count: 250)
    #expect(try folder.put("x", name) == folder(name))
  }
  @Test func errorsAreOneLine() {
    let error = FileError(.badData, "a\nb", in: "file\r\u{1b}[31m\u{2028}.txt", mend: "c\td")
    #expect(error.description == "a\\nb: file\\r\\u{1b}[31m\\u{2028}.txt: c\\td")
    #expect(FileError.Kind.allCases.map(\.exitStatus) == [65, 66, 69, 73, 74, 141])
  }
  @Test func missingInputs() throws {
    expectError(.missingInput, "no such file") { _ = try MappedFile(folder("none")) }
    expectError(.missingInput) { _ = try MappedFile("") }
    expectError(.missingInput) { _ = try MappedFile(folder("a\u{0}b")) }
    expectError(.badData, "folder") { _ = try MappedFile(folder.path) }
    expectError(.badData) { _ = try MappedFile("/dev/zero") }
    #expect(try MappedFile(try folder.put([], "empty")).count == 0)
  }
}
