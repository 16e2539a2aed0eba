import ArgumentParser
import Benchmarking
import Files
import FoundationEssentials

struct BenchAll: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "all", abstract: "Every bench with its usual sizes; takes some minutes.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  func run() async throws {
    try await BenchStartup.withClip { clip in
      var cases: [() throws -> BenchmarkCase] = BenchmarkSuite.all.map { prepare in
        { try prepare() }
      }
      if !EmbeddedFiles.paths.isEmpty {
        cases.append { try BenchStep.prepare(.demo, "embedded:generator", "embedded:reward") }
      }
      try await options.execute(cases + [{ BenchStartup.benchmark(clip).prepare() }], common)
    }
  }
}

struct BenchCompare: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Two files of bench --json: ratios of the medians with 95 % bootstrap intervals.",
    discussion:
      """
      A ratio above 1 is slower. Cases are matched by bench, sizes, threads and instruction set. \
      Results of debug builds are refused.
      """
  )
  @OptionGroup var common: CommonOptions
  @Argument(in: .path, help: "Results before.") var before: String
  @Argument(in: .path, help: "Results after.") var after: String
  @Option(
    in: .text,
    help: "Exit with 1 when a case is slower by more than this, its whole interval included: 10%.")
  var failIfSlower: String?
  @Flag(help: "JSON Lines on standard output.") var json = false

  private func limit() throws -> Double? {
    guard let failIfSlower else { return nil }
    guard
      let percent = Double(
        failIfSlower.hasSuffix("%") ? String(failIfSlower.dropLast()) : failIfSlower), percent >= 0,
      percent.isFinite
    else {
      throw ValidationError("--fail-if-slower takes a share such as 10%, not \(failIfSlower)")
    }
    return 1 + percent / 100
  }
  func validate() throws { _ = try limit() }
  func run() async throws {
    try common.start()
    let c = try BenchmarkComparison(before: before, after: after)
    let limit = try limit()
    if c.rows.isEmpty {
      throw FileError(
        .badData, "no case in common", in: "\(before), \(after)",
        mend: "run the same bench with the same sizes and threads")
    }
    if let r = c.rows.first(where: \.isDebugBuild) {
      throw FileError(
        .badData, "a debug build was measured (\(r.name))", in: "\(before), \(after)",
        mend: "measure a release build: tools/build")
    }
    for r in c.rows {
      func f(_ x: Double) -> String { "\((1000 * x).rounded() / 1000)" }
      let slower = limit.map { r.low > $0 } ?? false
      StandardStreams.result(
        json
          ? r.json.line
          : """
          \(r.name.padded(to: 88)) \(f(r.ratio)) [\(f(r.low)), \
          \(f(r.high))]\(r.isNoisy ? " noisy" : "")\(slower ? " SLOWER" : "")
          """
      )
    }
    for (list, path) in [(c.onlyBefore, before), (c.onlyAfter, after)] where !list.isEmpty {
      common.note("only in \(path): \(list.joined(separator: "; "))")
    }
    if let limit, c.rows.contains(where: { $0.low > limit }) { throw Failure.Status(code: 1) }
  }
}
