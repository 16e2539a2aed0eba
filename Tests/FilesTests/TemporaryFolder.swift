import FoundationEssentials
import Testing

@testable import Files

/// A folder that goes away with the test.
final class TemporaryFolder {
  let path: String
  init() {
    path =
      FileManager.default.temporaryDirectory.path + "/pisces-files-\(UInt64.random(in: 0 ... .max))"
    try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func callAsFunction(_ name: String) -> String { path + "/" + name }
  func put(_ bytes: [UInt8], _ name: String) throws -> String {
    try OutputFile.write(bytes, to: self(name))
    return self(name)
  }
  func put(_ text: String, _ name: String) throws -> String { try put(Array(text.utf8), name) }
  var contents: [String] {
    get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
  }
}

/// Runs `body`, which must throw a FileError of this kind whose one line contains `words`.
func expectError(
  _ kind: FileError.Kind, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation,
  _ body: () throws -> Void
) {
  do {
    try body()
    Issue.record("no error", sourceLocation: sourceLocation)
  } catch let error as FileError {
    check(error, kind, words, sourceLocation)
  } catch {
    Issue.record("\(error)", sourceLocation: sourceLocation)
  }
}
func expectError(
  _ kind: FileError.Kind, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation,
  _ body: () async throws -> Void
) async {
  do {
    try await body()
    Issue.record("no error", sourceLocation: sourceLocation)
  } catch let error as FileError {
    check(error, kind, words, sourceLocation)
  } catch {
    Issue.record("\(error)", sourceLocation: sourceLocation)
  }
}
private func check(
  _ error: FileError, _ kind: FileError.Kind, _ words: [String], _ sourceLocation: SourceLocation
) {
  #expect(error.kind == kind, "\(error)", sourceLocation: sourceLocation)
  #expect(!error.description.contains("\n"), sourceLocation: sourceLocation)
  for w in words {
    #expect(error.description.contains(w), "\(error)", sourceLocation: sourceLocation)
  }
}

/// Bytes as a file in memory.
func file(_ bytes: [UInt8], _ name: String = "test") -> MappedFile {
  MappedFile(bytes: bytes, name: name)
}
