import FoundationEssentials
import Subprocess
import Synchronization
import SystemPackage

#if canImport(Glibc)
  import Glibc
#endif

/// A program that ran to its end: exit status (128 + number after a signal) and what it wrote.
public struct ProgramRun: Sendable {
  public let status: Int32, output: String, error: String

  /// Runs a program by its path, without a shell. `environment` is laid over this process's; nil
  /// removes a variable.
  public init(
    _ path: String, _ arguments: [String] = [], environment: [String: String?] = [:],
    folder: String? = nil
  ) async throws {
    var changes: [Subprocess.Environment.Key: String?] = [:]
    for (key, value) in environment {
      changes[Subprocess.Environment.Key(stringLiteral: key)] = value
    }
    let result = try await Subprocess.run(
      .path(FilePath(path)), arguments: Arguments(arguments),
      environment: .inherit.updating(changes), workingDirectory: folder.map { FilePath($0) },
      output: .string(limit: 64 << 20), error: .string(limit: 64 << 20))
    switch result.terminationStatus {
    case .exited(let code): status = Int32(code)
    case .signaled(let number): status = 128 + Int32(number)
    }
    (output, error) = (result.standardOutput, result.standardError)
  }

  /// Starts a program, waits for `moment`, sends it a signal, and again after each of `pauses`; its
  /// status.
  public static func signalled(
    _ path: String, _ arguments: [String], _ number: Int32, again pauses: [Duration] = [],
    when moment: @Sendable @escaping () async throws -> Void
  ) async throws -> Int32 {
    let result = try await Subprocess.run(
      .path(FilePath(path)), arguments: Arguments(arguments), input: .none, output: .discarded,
      error: .discarded
    ) { execution in
      try await moment()
      try execution.send(signal: Signal(rawValue: number))
      for pause in pauses {
        try await Task.sleep(for: pause)
        try? execution.send(signal: Signal(rawValue: number))
      }
    }
    switch result.terminationStatus {
    case .exited(let code): return Int32(code)
    case .signaled(let signal): return 128 + Int32(signal)
    }
  }

  /// Runs the program under test: the one `PISCES_PROGRAM` names, else the one beside this test
  /// bundle.
  public static func pisces(_ arguments: String..., environment: [String: String?] = [:])
    async throws -> ProgramRun
  {
    try await ProgramRun(program, arguments, environment: environment)
  }
  public static var program: String {
    if let path = ProcessInfo.processInfo.environment["PISCES_PROGRAM"], !path.isEmpty {
      return path
    }
    let runner =
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
      ?? CommandLine.arguments[0]
    return runner.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" } + "/pisces"
  }
  /// Lines of the output, without the empty one at the end.
  public var lines: [String] { output.split(separator: "\n").map(String.init) }
  public var errorLines: [String] { error.split(separator: "\n").map(String.init) }
}

/// The top of the repository, from this file's own place in it.
public let repository: String =
  "/" + "\(#filePath)".split(separator: "/").dropLast(3).joined(separator: "/")

/// A folder of its own that goes away with the last reference.
public final class ScratchFolder: Sendable {
  public let path: String
  public init() throws {
    path =
      FileManager.default.temporaryDirectory.path + "/pisces-test-\(UInt64.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  /// The path of a folder that goes away when this process ends.
  public static func untilExit() throws -> String {
    let folder = try ScratchFolder()
    kept.withLock { $0.append(folder) }
    if isFirst.exchange(false, ordering: .relaxed) {
      atexit { ScratchFolder.kept.withLock { $0.removeAll() } }
    }
    return folder.path
  }
  private static let kept = Mutex<[ScratchFolder]>([])
  private static let isFirst = Atomic<Bool>(true)
  public func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }
}
