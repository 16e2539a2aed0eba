internal import Subprocess
internal import SystemPackage

/// Runs another program to its end, with no standard input, and discards its output.
public enum ChildProcess {
  /// Its exit status (128 + number after a signal). Throws `missingProgram` if it cannot be
  /// started.
  public static func run(_ program: String, _ arguments: [String]) async throws(FileError) -> Int32
  {
    do {
      let result = try await Subprocess.run(
        .path(FilePath(program)), arguments: Arguments(arguments), output: .discarded,
        error: .discarded)
      switch result.terminationStatus {
      case .exited(let code): return Int32(code)
      case .signaled(let number): return 128 + Int32(number)
      }
    } catch {
      throw FileError(
        .missingProgram, "cannot run a program (\(error))", in: program,
        mend: "check that it is there and may be run")
    }
  }
}
