import FoundationEssentials
import TestSupport
import Testing

/// The shape of the repository: what lies at the top, and who may import whom.
@Suite struct LayoutTests {
  /// What git tracks; what users leave lying about is theirs.
  @Test func topLevelIsAsPromised() async throws {
    let listed = try await ProgramRun(
      "/usr/bin/env", ["git", "-c", "safe.directory=*", "-C", repository, "ls-files", "-z"])
    // an unpacked archive
    if listed.status != 0 && !FileManager.default.fileExists(atPath: "\(repository)/.git") {
      return
    }
    #expect(listed.status == 0, "\(listed.error)")
    let promised: Set<String> = [
      "Package.swift", "Sources", "CSupport", "Tests", "Benchmarks", "Library", "Documentation",
      "tools", "README.md", "LICENSE", "CHANGELOG.md", ".ci", ".clang-format",
      ".git-blame-ignore-revs", ".gitignore", ".swift-format",
    ]
    let found = Set(
      listed.output.split(separator: "\0").compactMap {
        $0.split(separator: "/").first.map(String.init)
      })
    #expect(found == promised)
  }

  @Test func importRuleHolds() async throws {
    let run = try await ProgramRun("\(repository)/tools/check-imports")
    #expect(run.status == 0, "\(run.output)\(run.error)")
  }

  @Test(arguments: [
    ("Layers", "import Files", "Layers may not import Files"),
    ("Models", "public import Foundation", "Models may not import Foundation"),
    (
      "Optimizers", "internal import struct Models.TransformerConfig",
      "Optimizers may not import Models"
    ),
    ("Diffusion", "let p: UnsafeRawPointer", "pointers belong to"),
    ("Cellar", "let x = 1", "room Cellar is not in the list"),
  ])
  func importRuleCatches(_ room: String, _ line: String, _ complaint: String) async throws {
    let folder = try ScratchFolder()
    try FileManager.default.createDirectory(
      atPath: folder("Sources/\(room)"), withIntermediateDirectories: true)
    try line.write(
      toFile: folder("Sources/\(room)/Sample.swift"), atomically: true, encoding: .utf8)
    let run = try await ProgramRun("\(repository)/tools/check-imports", [folder.path])
    #expect(run.status == 1)
    #expect(run.output.contains(complaint), "\(run.output)")
  }

  @Test func scriptsAreExecutableAndParse() async throws {
    for script in [
      "tools/setup", "tools/build", "tools/test", "tools/demo", "tools/check-imports",
      "tools/sanitize", "tools/embedded/train", ".ci/run",
    ] {
      let path = "\(repository)/\(script)"
      #expect(FileManager.default.isExecutableFile(atPath: path), "\(script)")
      let run = try await ProgramRun("/bin/sh", ["-n", path])
      #expect(run.status == 0, "\(script): \(run.error)")
    }
  }

  /// Every command and every room is in the README.
  @Test func readmeIsComplete() throws {
    let readme = try String(contentsOfFile: "\(repository)/README.md", encoding: .utf8)
    for room in try FileManager.default.contentsOfDirectory(atPath: "\(repository)/Sources") {
      #expect(readme.contains("\(room)"), "\(room)")
    }
  }
}
