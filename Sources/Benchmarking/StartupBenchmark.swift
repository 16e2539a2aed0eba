import Files

/// A whole process, from its start to its end.
public struct StartupBenchmark: Sendable {
  public let program: String, arguments: [String], until: String
  /// `until` says in words what the process has done when it ends.
  public init(program: String, arguments: [String], until: String) {
    (self.program, self.arguments, self.until) = (program, arguments, until)
  }

  public func prepare() -> BenchmarkCase {
    let s = self
    @Sendable func once() async throws(FileError) -> Bool {
      try await ChildProcess.run(s.program, s.arguments) == 0
    }
    return BenchmarkCase(
      "startup", [("arguments", .array(arguments.map { .string($0) })), ("until", .string(until))],
      .init(), verify: { try await once() }, run: { _ = try await once() })
  }
}
