import Files
import FoundationEssentials
import TestSupport
import Testing

/// Standard output, standard error and standard input that are full, closed, or gone (interfaces.md
/// 1).
@Suite struct StreamTests {
  private func shell(_ script: String, _ arguments: [String]) async throws -> ProgramRun {
    try await ProgramRun("/bin/bash", ["-c", script, ProgramRun.program] + arguments)
  }
  private static let clips = "\(repository)/Tests/FilesTests/Clips"
  static let commands: [[String]] = [
    ["--help"], ["--version"], ["--generate-completion-script", "bash"], ["help", "score"],
    ["ot", "solve", "--help"], ["info"], ["info", "--json"], ["doctor"],
    ["bench", "gemm", "--m", "16", "--n", "16", "--k", "16", "--json"],
    [
      "score", "--model", "embedded:reward", "--frames", "9", "--video",
      "\(clips)/gradient-turn.mp4", "--prompt", "x", "--json",
    ], ["info", "embedded:reward"],
  ]

  @Test(arguments: commands) func fullOrClosedOutput(_ command: [String]) async throws {
    for target in [">/dev/full", ">&-"] {
      let run = try await shell("\"$0\" \"$@\" \(target)", command)
      #expect(run.status == 74 && run.output.isEmpty, "\(target): \(run.status)")
      #expect(
        run.errorLines.filter { $0.hasPrefix("pisces: error: ") }.count == 1
          && run.error.contains("standard output"), "\(run.error)")
    }
  }
  /// A reader that goes away: the status of SIGPIPE, and not a word, also where the signal is
  /// ignored.
  @Test(arguments: [["--help"], ["info", "--quiet"], ["info", "embedded:reward", "--quiet"]])
  func aReaderThatGoesAway(_ command: [String]) async throws {
    for start in ["", "trap '' PIPE; "] {
      let run = try await shell("\(start)(sleep 0.3; \"$0\" \"$@\"; echo $? >&2) | true", command)
      #expect(run.error == "141\n", "\(run.error)")
    }
  }
  @Test func errorOutputDoesNotMatter() async throws {
    for target in ["2>&-", "2>/dev/full"] {
      #expect(try await shell("\"$0\" \"$@\" \(target)", ["info", "embedded:reward"]).status == 0)
      #expect(try await shell("\"$0\" \"$@\" \(target)", ["no-such-command"]).status == 64)
    }
  }
  /// What is opened never takes the place of a closed standard stream: results are not written into
  /// a run's files.
  @Test func closedStreamsAreNotTaken() async throws {
    let folder = try ScratchFolder()
    let run = try await shell(
      "\"$0\" \"$@\" <&- >&- 2>&-",
      [
        "score", "--model", "embedded:reward", "--frames", "9", "--explain", folder("e"), "--video",
        "\(Self.clips)/gradient-turn.mp4", "--prompt", "red",
      ])
    #expect(run.status == 74)
    for name in try FolderContents.files(folder.path) where name.hasSuffix(".json") {
      #expect(try JSONValue(contentsOf: name.hasPrefix("/") ? name : folder(name))["words"] != nil)
    }
    #expect(
      try await shell(
        "\"$0\" \"$@\" <&-",
        ["score", "--model", "embedded:reward", "--frames", "9", "--manifest", "-"]
      ).status == 74)
    // The name of standard output is no way round.
    try OutputFile.write("0 1\n", to: folder("x"))
    #expect(
      try await shell(
        "\"$0\" \"$@\" >&-",
        [
          "sample", "--model", "embedded:generator", "--prompt", "x", "--steps", "1", "--archive",
          "/dev/stdout",
        ]
      ).status == 74)
  }
}
