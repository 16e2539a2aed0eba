internal import Subprocess
internal import SystemPackage

/// Runs another program to its end, with no standard input.
public enum ChildProcess {
  /// What it printed on standard output (at most 16 MiB), and its exit status as below.
  public static func output(_ program: String, _ arguments: [String]) async throws(FileError) -> (
    status: Int32, text: String
  ) {
    do {
      let result = try await Subprocess.run(
        .path(FilePath(program)), arguments: Arguments(arguments),
        output: .string(limit: 16 << 20), error: .discarded)
      return (status(result.terminationStatus), result.standardOutput ?? "")
    } catch { throw cannotRun(program, error) }
  }
  /// Its exit status (128 + number after a signal); its output is discarded. Throws
  /// `missingProgram` if it cannot be started.
  public static func run(_ program: String, _ arguments: [String]) async throws(FileError) -> Int32
  {
    do {
      let result = try await Subprocess.run(
        .path(FilePath(program)), arguments: Arguments(arguments), output: .discarded,
        error: .discarded)
      return status(result.terminationStatus)
    } catch { throw cannotRun(program, error) }
  }
  private static func status(_ status: TerminationStatus) -> Int32 {
    switch status {
    case .exited(let code): Int32(code)
    case .signaled(let number): 128 + Int32(number)
    }
  }
  private static func cannotRun(_ program: String, _ error: any Error) -> FileError {
    FileError(
      .missingProgram, "cannot run a program (\(error))", in: program,
      mend: "check that it is there and may be run")
  }
}
