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
      "tools", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", ".ci", ".clang-format",
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
      "Transport", "internal import struct Models.TransformerConfig",
      "Transport may not import Models"
    ),
    ("Diffusion", "let p: UnsafeRawPointer", "unsafe code belongs to"),
    ("Training", "unsafe close(1)", "unsafe code belongs to"),
    ("Cellar", "let x = 1", "module Cellar is not in Package.swift"),
  ])
  func importRuleCatches(_ module: String, _ line: String, _ complaint: String) async throws {
    let folder = try ScratchFolder()
    try FileManager.default.createDirectory(
      atPath: folder("Sources/\(module)"), withIntermediateDirectories: true)
    try line.write(
      toFile: folder("Sources/\(module)/Sample.swift"), atomically: true, encoding: .utf8)
    let run = try await ProgramRun("\(repository)/tools/check-imports", [folder.path])
    #expect(run.status == 1)
    #expect(run.output.contains(complaint), "\(run.output)")
  }

  @Test func scriptsAreExecutableAndParse() async throws {
    for script in [
      "tools/setup", "tools/build", "tools/test", "tools/demo", "tools/check", "tools/format",
      "tools/check-imports", "tools/check-citations", "tools/sanitize", "tools/embedded/train",
      ".ci/run",
    ] {
      let path = "\(repository)/\(script)"
      #expect(FileManager.default.isExecutableFile(atPath: path), "\(script)")
      let text = try String(contentsOfFile: path, encoding: .utf8)
      guard text.hasPrefix("#!/bin/sh") else { continue }
      let run = try await ProgramRun("/bin/sh", ["-n", path])
      #expect(run.status == 0, "\(script): \(run.error)")
    }
  }

  /// Every module of Package.swift has a folder of tests under its name; the other folders are
  /// named here.
  @Test func everyModuleHasTests() throws {
    let package = try String(contentsOfFile: "\(repository)/Package.swift", encoding: .utf8)
    func names(_ pattern: Regex<(Substring, Substring)>) -> Set<String> {
      Set(package.matches(of: pattern).map { String($0.1) })
    }
    let modules = names(#/\bmodule\(\s*"(\w+)"/#).union(
      names(#/executableTarget\(\s*name: "(\w+)"/#))
    // Folders that hold a file: moved files may leave an empty one behind.
    func folders(_ path: String) throws -> Set<String> {
      let files = try FolderContents.files("\(repository)/\(path)")
      return Set(files.compactMap { $0.split(separator: "/").first.map(String.init) })
    }
    #expect(try modules == folders("Sources"))
    let suites = Set(modules.map { "\($0)Tests" })
    #expect(names(#/\btests\(\s*"(\w+)"/#) == suites.union(["GoldenTests", "HouseTests"]))
    #expect(
      try folders("Tests")
        == suites.union(["GoldenTests", "HouseTests", "Golden", "KernelDriver", "TestSupport"]))
    for suite in suites {
      let folder = "\(repository)/Tests/\(suite)"
      let sources = try FolderContents.files(folder).filter { $0.hasSuffix(".swift") }
      let hasTests = try sources.contains {
        try String(contentsOfFile: "\(folder)/\($0)", encoding: .utf8).contains("@Test")
      }
      #expect(hasTests, "\(suite)")
    }
  }

  /// Every module is on the page of the architecture.
  @Test func architectureIsComplete() throws {
    let page = try String(
      contentsOfFile: "\(repository)/Documentation/architecture.md", encoding: .utf8)
    for module in try FileManager.default.contentsOfDirectory(atPath: "\(repository)/Sources") {
      #expect(page.contains(module), "\(module)")
    }
  }
  /// One version, in the program, the C headers and the changelog (Documentation/releasing.md).
  @Test func oneVersion() async throws {
    func text(_ path: String) throws -> String {
      try String(contentsOfFile: "\(repository)/\(path)", encoding: .utf8)
    }
    let program = try await ProgramRun(ProgramRun.program, ["--version"])
    let version = String(program.output.split(separator: "\n").first ?? "")
    for (file, prefix) in [("pisces_ot", "PISCES_OT"), ("pisces", "PISCES")] {
      let header = try text("Library/include/\(file).h")
      let numbers = ["MAJOR", "MINOR", "PATCH"].compactMap { part in
        header.split(separator: "\(prefix)_VERSION_\(part) ").dropFirst().first?
          .prefix { $0.isNumber }
      }
      #expect(numbers.joined(separator: ".") == version, "\(file)")
    }
    let newest = try text("CHANGELOG.md").split(separator: "\n").first { $0.hasPrefix("## ") }
    #expect(newest?.hasPrefix("## \(version)") == true, "\(newest ?? "")")
  }
  /// A newcomer reads the first page to its end.
  @Test func readmeIsShort() throws {
    let readme = try String(contentsOfFile: "\(repository)/README.md", encoding: .utf8)
    #expect(readme.split(separator: "\n", omittingEmptySubsequences: false).count <= 100)
  }
}
