import ArgumentParser
import Benchmarking
import Evaluation
import Files
import FoundationEssentials
import Models
import Pipelines
import PostTraining
import TensorRuntime
import Training
import World

struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Benchmarks, verified against the reference and compared with this machine's limits.",
    discussion: """
      Each case is checked against the reference kernels first, then timed. `share_of_limit` \
      compares with what this machine reaches in the
      same run: fused multiply-adds of the current instruction set, triad over memory, or exp. A \
      case whose check fails
      is reported as not verified and the exit status is 1.
      """,
    // A new benchmark is added here: its subcommand below, its cases in BenchmarkSuite.
    subcommands: [
      BenchGemm.self, BenchAttention.self, BenchConv.self, BenchEncoder.self, BenchGenerator.self,
      BenchVAE.self, BenchOT.self, BenchOTMap.self, BenchStep.self, BenchScore.self,
      BenchStartup.self, BenchCluster.self, BenchRates.self,
      BenchAll.self, BenchCompare.self,
    ])
}

/// The options of every benchmark, and its report.
struct BenchOptions: ParsableArguments {
  @Flag(help: "JSON Lines, one object per case, on standard output.") var json = false
  @Flag(help: "Comma-separated values with a header, one line per case.") var csv = false
  @Option(
    name: .customLong("repeat"), in: .whole(1...1_000_000),
    help: "Timed repeats; default: 3 to 50, for about two seconds.") var repeats: Int?

  @Option(
    name: [.customLong("compute-dtype"), .customLong("products")],
    in: .choice(Machine.ComputeType.self),
    help:
      """
      Round operands of products, attention and convolutions to this type first, if it is not \
      slower than f32; keep what backward needs in it. Sums stay f32.
      """)
  var computeType = Machine.ComputeType.f32

  @Flag(
    help:
      """
      Take time in turns, so that a script can alternate programs: "ready", and then for each line \
      of standard input repeats for 0.1 s or more and their median, in seconds.
      """
  ) var turns = false

  @Flag(help: "Leave out the check, and report the process's peak memory.") var noCheck = false

  func validate() throws {
    if turns && (repeats != nil || csv) {
      throw ValidationError(
        "--turns takes its times from standard input: leave --repeat and --csv out")
    }
  }

  func execute(_ cases: [() throws -> BenchmarkCase], _ common: CommonOptions) async throws {
    try common.start()
    common.use(computeType)
    var runner = BenchmarkRunner(repeats: repeats, isDebugBuild: Environment.isDebugBuild)
    common.note(
      """
      this machine: \(digits(runner.rates.flops / 1e9)) GFLOP/s, \
      \(digits(runner.rates.bytes / 1e9)) GB/s, \(digits(runner.rates.exponentials / 1e9)) Gexp/s
      """
        + (Machine.threads > 1 ? ", \(digits(runner.rates.barrier * 1e6)) us a barrier" : ""))
    runner.skipsCheck = noCheck
    if Environment.isDebugBuild { common.note("this is a debug build: its times mean nothing") }
    if json && csv { throw ValidationError("--json and --csv exclude each other") }
    if csv { StandardStreams.result(Self.columns.map(\.name).joined(separator: ",")) }
    if !json && !csv {
      StandardStreams.result(
        """
        \("case".padded(to: 72)) \("median ms".aligned(to: 10)) \("min".aligned(to: 9)) \
        \("max".aligned(to: 9)) \("GFLOP/s".aligned(to: 8)) \("GB/s".aligned(to: 6)) \
        \("Gexp/s".aligned(to: 7)) limit
        """
      )
    }
    var allVerified = true
    if turns {
      runner.turns = (
        { StandardStreams.result("ready") }, { readLine() != nil },
        { StandardStreams.result("\($0)") }
      )
    }
    for prepare in cases {
      let result = try await runner.run(prepare())
      allVerified = allVerified && result.isVerified != false
      StandardStreams.result(json ? record(result).line : csv ? values(result) : row(result))
      if !json && !csv {
        for p in result.phases {
          StandardStreams.result(
            """
              \(p.name.padded(to: 70)) \(digits(1e3 * p.seconds).aligned(to: 10)) ms \
            \("\(p.peakBytes >> 20)".aligned(to: 8)) MiB
            """
          )
        }
      }
    }
    if !allVerified { throw Failure.Status(code: 1) }
  }
  private func record(_ result: BenchmarkResult) -> JSONValue {
    var o = result.json.object!
    for (key, value) in Environment.origin { o[key] = value }
    return .object(o)
  }
  /// The columns of --csv. A value that was not measured is empty.
  private static let columns: [(name: String, value: @Sendable (BenchmarkResult) -> JSONValue?)] = [
    ("bench", { .string($0.bench) }), ("case", { .string(sizes($0)) }),
    ("threads", { .integer($0.threads) }), ("isa", { .string($0.isa) }),
    ("median_seconds", { .number($0.median) }), ("min_seconds", { .number($0.seconds.first!) }),
    ("max_seconds", { .number($0.seconds.last!) }), ("spread_seconds", { .number($0.spread) }),
    ("repeats", { .integer($0.seconds.count) }), ("gflops", { $0.gflops.map { .number($0) } }),
    ("gbytes_per_second", { $0.gbytesPerSecond.map { .number($0) } }),
    ("gexp_per_second", { $0.gexpPerSecond.map { .number($0) } }),
    ("limit", { $0.limit.map { .string($0) } }),
    ("share_of_limit", { $0.shareOfLimit.map { .number($0) } }),
    ("verified", { $0.isVerified.map { .bool($0) } }),
    ("debug_build", { .bool($0.isDebugBuild) }), ("noisy", { .bool($0.isNoisy) }),
  ]
  private func values(_ r: BenchmarkResult) -> String {
    Self.columns.map { column in column.value(r).map { $0.string ?? $0.line } ?? "" }.joined(
      separator: ",")
  }
  /// The sizes of a case as one field: key=value pairs, separated by spaces.
  private static func sizes(_ r: BenchmarkResult) -> String {
    r.sizes.members.map { "\($0.key)=\($0.value.string ?? $0.value.line)" }.joined(separator: " ")
  }
  private func row(_ r: BenchmarkResult) -> String {
    let name = "\(r.bench) \(Self.sizes(r))"
    func ms(_ t: Double) -> String { digits(1e3 * t) }
    let share = r.shareOfLimit.map { "\(Int((100 * $0).rounded())) % of \(r.limit!)" } ?? "-"
    let marks =
      (r.isVerified == false ? " NOT VERIFIED" : "") + (r.isNoisy ? " noisy" : "")
      + (r.isDebugBuild ? " debug" : "")
    return
      """
      \(name.padded(to: 72)) \(ms(r.median).aligned(to: 10)) \
      \(ms(r.seconds.first!).aligned(to: 9)) \(ms(r.seconds.last!).aligned(to: 9)) \
      \((r.gflops.map(digits) ?? "-").aligned(to: 8)) \
      \((r.gbytesPerSecond.map(digits) ?? "-").aligned(to: 6)) \
      \((r.gexpPerSecond.map(digits) ?? "-").aligned(to: 7)) \(share)\(marks)
      """
  }
  /// A number with three significant digits, or with its whole integer part.
  private func digits(_ x: Double) -> String {
    let places = x >= 100 ? 1.0 : x >= 10 ? 10.0 : x >= 1 ? 100.0 : 1000.0
    let rounded = (x * places).rounded() / places
    return places == 1 ? "\(Int(rounded))" : "\(rounded)"
  }
}

extension Limits {
  /// A size of a case.
  static let size = whole(1...1 << 20)
}
