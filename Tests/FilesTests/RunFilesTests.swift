import FoundationEssentials
import Testing

@testable import Files

@Suite struct RunFilesTests {
  let folder = TemporaryFolder()

  @Test func eventFilesHaveTheKnownBytes() throws {
    // CRC-32C of "123456789" is 0xe3069283 (RFC 3720).
    #expect(EventFile.crc32c(Array("123456789".utf8)) == 0xe306_9283)
    let events = try EventFile(in: folder.path)
    try events.append(step: 300, [("loss", 1.5), ("grad_norm", 2)])
    #expect(splitPath(events.path).name.hasPrefix("events.out.tfevents."))
    let bytes = try MappedFile(events.path).region
    // First record: wall_time, step 0, file_version.
    let first = bytes.offset(at: 0)!
    let head = bytes.region(at: 12, count: first)!.array
    #expect(head[0] == 9 && Array(head[9...]) == [0x10, 0, 0x1a, 13] + Array("brain.Event:2".utf8))
    let start = 12 + first + 4
    let second = bytes.offset(at: start)!
    let body = bytes.region(at: start + 12, count: second)!.array
    let loss: [UInt8] = [0x0a, 11, 0x0a, 4] + Array("loss".utf8) + [0x15, 0, 0, 0xc0, 0x3f]
    let norm: [UInt8] = [0x0a, 16, 0x0a, 9] + Array("grad_norm".utf8) + [0x15, 0, 0, 0, 0x40]
    #expect(
      Array(body[9...]) == [0x10, 0xac, 0x02, 0x2a, UInt8(loss.count + norm.count)] + loss + norm)
    #expect(
      bytes.integer(at: start + 8, as: UInt32.self)
        == EventFile.maskedCRC(littleEndian(UInt64(second))))
    #expect(bytes.integer(at: start + 12 + second, as: UInt32.self) == EventFile.maskedCRC(body))
    #expect(bytes.count == start + 12 + second + 4)
    #expect(try EventFile(in: folder.path).path != events.path)
    expectError(.cannotCreate) { _ = try EventFile(in: folder("none")) }
  }
  @Test func foldersAppearWhole() throws {
    let path = folder("step-1")
    try AtomicDirectory.write(to: path) { f throws(FileError) in
      try OutputFile.write("a", to: f + "/a")
      #expect(PathKind(path) == .nothing)
    }
    expectError(.badData) {
      try AtomicDirectory.write(to: path) { f throws(FileError) in
        try OutputFile.write("b", to: f + "/b")
        throw FileError.bad("stop", f)
      }
    }
    #expect(try listFolder(path) == ["a"])
    try AtomicDirectory.write(to: path + "/") { f throws(FileError) in
      try OutputFile.write("c", to: f + "/c")
    }
    #expect(try listFolder(path) == ["c"])
    #expect(try folder.contents == ["step-1"])
    expectError(.cannotCreate) {
      try AtomicDirectory.write(to: folder("no/x")) { _ throws(FileError) in }
    }
    expectError(.cannotCreate) {
      try AtomicDirectory.write(to: path + "/c") { _ throws(FileError) in }
    }
  }
  @Test func latestNamesTheNewestWholeCheckpoint() throws {
    let checkpoints = CheckpointFolder(folder("run/checkpoints"))
    expectError(.missingInput, "no checkpoint") { _ = try checkpoints.latest() }
    for step in [100, 200] {
      try checkpoints.write(step: step) { f throws(FileError) in
        try OutputFile.write("\(step)", to: f + "/s")
      }
    }
    expectError(.badData) {
      try checkpoints.write(step: 300) { _ throws(FileError) in throw FileError.bad("stop", "x") }
    }
    #expect(try checkpoints.latest() == folder("run/checkpoints/step-000200"))
    #expect(checkpoints.steps == [100, 200])
    checkpoints.remove(step: 200)
    checkpoints.remove(step: 100)
    #expect(checkpoints.steps == [200])
    #expect(CheckpointFolder.name(step: 1_234_567) == "step-1234567")
    _ = try folder.put("../evil", "run/checkpoints/latest")
    expectError(.badData) { _ = try checkpoints.latest() }
    _ = try folder.put("step-000900", "run/checkpoints/latest")
    expectError(.missingInput, "gone") { _ = try checkpoints.latest() }
  }
}
