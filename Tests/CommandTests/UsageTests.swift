import TestSupport
import Testing

/// The program as a user meets it: exit statuses and one-line errors (interfaces.md 1).
@Suite struct UsageTests {
  @Test func versionAndHelp() async throws {
    let version = try await ProgramRun.pisces("--version")
    #expect(version.status == 0 && version.lines.count == 1)
    let help = try await ProgramRun.pisces("--help")
    #expect(help.status == 0 && help.output.contains("Exit status"))
  }
  @Test(arguments: [["nonsense"], ["train", "vae", "--no-such-flag"], ["info", "--threads", "0"], ["train", "vae", "--run", "a", "--resume", "b"]])
  func wrongUsageIs64(_ arguments: [String]) async throws {
    let run = try await ProgramRun(ProgramRun.program, arguments)
    #expect(run.status == 64, "\(run.error)")
    #expect(run.output.isEmpty)
    #expect(run.errorLines.last?.hasPrefix("pisces: error: ") == true && run.errorLines.count <= 2, "\(run.error)")
  }
  @Test func unknownInstructionSetIs64() async throws {
    let run = try await ProgramRun.pisces("info", environment: ["PISCES_ISA": "mmx"])
    #expect(run.status == 64 && run.error.contains("PISCES_ISA"), "\(run.error)")
  }
}
