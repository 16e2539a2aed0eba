import FoundationEssentials
import TestSupport
import Testing

/// The shape of the repository: what lies at the top, and who may import whom.
@Suite struct LayoutTests {
  @Test func topLevelIsAsPromised() throws {
    let promised: Set<String> = [
      "Package.swift", "Sources", "CSupport", "Tests", "Benchmarks", "Library", "Documentation", "tools", "README.md", "LICENSE", "CHANGELOG.md", ".ci", ".gitignore",
    ]
    // What git or the build leave behind is not part of the house.
    let ignored: (String) -> Bool = { $0 == ".git" || $0.hasPrefix(".build") || $0 == "Package.resolved" || $0 == "runs" || $0 == ".swiftpm" || $0 == ".pytest_cache" || $0 == "shared" }
    let found = Set(try FileManager.default.contentsOfDirectory(atPath: repository).filter { !ignored($0) })
    #expect(found == promised)
  }

  @Test func importRuleHolds() async throws {
    let run = try await ProgramRun("\(repository)/tools/check-imports")
    #expect(run.status == 0, "\(run.output)\(run.error)")
  }

  @Test(arguments: [
    ("Layers", "import Files", "Layers may not import Files"), ("Models", "public import Foundation", "Models may not import Foundation"),
    ("Optimizers", "internal import struct Models.TransformerConfig", "Optimizers may not import Models"),
    ("Diffusion", "let p: UnsafeRawPointer", "pointers belong to"), ("Cellar", "let x = 1", "room Cellar is not in the list"),
  ])
  func importRuleCatches(_ room: String, _ line: String, _ complaint: String) async throws {
    let folder = try ScratchFolder()
    try FileManager.default.createDirectory(atPath: folder("Sources/\(room)"), withIntermediateDirectories: true)
    try line.write(toFile: folder("Sources/\(room)/Sample.swift"), atomically: true, encoding: .utf8)
    let run = try await ProgramRun("\(repository)/tools/check-imports", [folder.path])
    #expect(run.status == 1)
    #expect(run.output.contains(complaint), "\(run.output)")
  }

  @Test func scriptsAreExecutableAndParse() async throws {
    for script in ["tools/setup", "tools/build", "tools/test", "tools/demo", "tools/check-imports", "tools/sanitize", "tools/embedded/train", ".ci/run"] {
      let path = "\(repository)/\(script)"
      #expect(FileManager.default.isExecutableFile(atPath: path), "\(script)")
      let run = try await ProgramRun("/bin/sh", ["-n", path])
      #expect(run.status == 0, "\(script): \(run.error)")
    }
  }

  /// Every command and every room is in the README.
  @Test func readmeIsComplete() throws {
    let readme = try String(contentsOfFile: "\(repository)/README.md", encoding: .utf8)
    for room in try FileManager.default.contentsOfDirectory(atPath: "\(repository)/Sources") { #expect(readme.contains("\(room)"), "\(room)") }
  }
}
