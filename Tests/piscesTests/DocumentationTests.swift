import Files
import FoundationEssentials
import TestSupport
import Testing

/// Every example of the transport pages runs as it stands.
@Suite struct DocumentationTests {
  static let folder = "\(repository)/Documentation/transport"
  static let pages: [String] =
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).filter {
      $0.hasSuffix(".md")
    }.sorted()
  /// The fenced blocks of a page that are shell.
  static func examples(_ page: String) throws -> [String] {
    try String(contentsOfFile: "\(folder)/\(page)", encoding: .utf8).components("```sh\n")
      .dropFirst().map { $0.components("```")[0] }
  }

  @Test func pagesAreThere() throws {
    #expect(Self.pages.count > 10)
    for page in Self.pages where !["README.md", "gallery.md", "speed.md"].contains(page) {
      #expect(try !Self.examples(page).isEmpty, "\(page) has no example")
    }
  }
  @Test(arguments: pages) func examplesRun(_ page: String) async throws {
    for example in try Self.examples(page) {
      let scratch = try ScratchFolder()
      try FileTree.copy("\(Self.folder)/examples", to: scratch("examples"))
      let bin = ProgramRun.program.split(separator: "/").dropLast().joined(separator: "/")
      let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
      let run = try await ProgramRun(
        "/bin/sh", ["-euc", example], environment: ["PATH": "/\(bin):\(path)"], folder: scratch.path
      )
      #expect(run.status == 0, "\(page): \(run.error)")
      for line in run.lines where line.contains("\"status\"") {
        #expect(line.contains("\"converged\""), "\(page): \(line)")
      }
    }
  }
}
extension String {
  fileprivate func components(_ separator: String) -> [String] {
    var parts: [String] = []
    var rest = Substring(self)
    while let r = rest.firstRange(of: separator) {
      parts.append(String(rest[..<r.lowerBound]))
      rest = rest[r.upperBound...]
    }
    return parts + [String(rest)]
  }
}
