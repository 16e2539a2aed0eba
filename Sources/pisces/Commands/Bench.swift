public import ArgumentParser
public import Benchmarking
import Evaluation
import Files
import FoundationEssentials
import Models
import Pipelines
import PostTraining
public import TensorRuntime
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
      BenchVAE.self, BenchOT.self, BenchOTMap.self, BenchStep.self, BenchStartup.self,
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
    in: .choice(Machine.Products.self),
    help:
      "Round operands of products, attention and convolutions to this type first; sums stay f32.")
  var products = Machine.Products.f32

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
    common.use(products)
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
    if csv { StandardStreams.result(Self.columns.joined(separator: ",")) }
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
      StandardStreams.result(json ? result.json.line : csv ? values(result) : row(result))
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
  private static let columns = [
    "bench", "case", "threads", "isa", "median_seconds", "min_seconds", "max_seconds",
    "spread_seconds", "repeats", "gflops", "gbytes_per_second", "gexp_per_second", "limit",
    "share_of_limit", "verified", "debug_build", "noisy",
  ]
  /// The case as one field: key=value pairs, separated by spaces.
  private func values(_ r: BenchmarkResult) -> String {
    guard case .object(let o) = r.json else { return "" }
    return Self.columns.map { key in
      key == "case"
        ? r.sizes.members.map { "\($0.key)=\($0.value.string ?? $0.value.line)" }.joined(
          separator: " ") : o[key].flatMap { $0.string ?? ($0 == .null ? "" : $0.line) } ?? ""
    }.joined(separator: ",")
  }
  private func row(_ r: BenchmarkResult) -> String {
    let name = ([r.bench] + r.sizes.members.map { "\($0.key)=\($0.value.string ?? $0.value.line)" })
      .joined(separator: " ")
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

struct BenchGemm: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "gemm", abstract: "C = A B.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .size) var m = 2049
  @Option(in: .size) var n = 6144
  @Option(in: .size) var k = 1408
  @Option(in: .size, help: "Independent products of this size.") var batch = 1
  @Option(in: .choice(StorageType.self), help: "bf16: B is stored so.") var dtype = StorageType.f32
  @Flag(help: "B is packed once beforehand, as frozen weights are.") var packed = false
  func validate() throws {
    if packed && batch > 1 { throw ValidationError("--packed takes one product, not a batch") }
  }
  func run() async throws {
    try await options.execute(
      [
        {
          GemmBenchmark(m: m, n: n, k: k, batch: batch, storage: dtype, isPacked: packed).prepare()
        }
      ], common)
  }
}

struct BenchAttention: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attention", abstract: "Softmax attention.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .size) var heads = 16
  @Option(in: .size) var tokens = 2049
  @Option(in: .size, help: "Width of a head.") var dimension = 88
  @Option(in: .choice(StorageType.self), help: "bf16: keys and values are stored so.") var dtype =
    StorageType.f32
  @Option(in: .choice(["forward", "both"])) var pass = BenchmarkPass.forward
  func run() async throws {
    try await options.execute(
      [
        {
          AttentionBenchmark(
            heads: heads, tokens: tokens, dimension: dimension, storage: dtype, pass: pass
          ).prepare()
        }
      ], common)
  }
}

struct BenchConv: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "conv", abstract: "Causal 3x3x3 convolution.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .size) var channels = 64
  @Option(in: .size) var frames = 17
  @Option(in: .size, help: "Height and width.") var size = 64
  @Option(in: .choice(StorageType.self), help: "bf16: weights are stored so.") var dtype =
    StorageType.f32
  @Option(in: .choice(["forward", "both"])) var pass = BenchmarkPass.forward
  func run() async throws {
    try await options.execute(
      [
        {
          ConvolutionBenchmark(
            channels: channels, frames: frames, size: size, storage: dtype, pass: pass
          ).prepare()
        }
      ], common)
  }
}

struct BenchEncoder: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "encoder", abstract: "One block of the full-size encoders, forward.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(
    in: .choice(EncoderBenchmark.Preset.self),
    help:
      """
      vit-block, bert-fusion, or bert-fusion-again: a second caption of a video, whose keys and \
      values are there.
      """
  ) var preset = EncoderBenchmark.Preset.vitBlock
  @Option(in: .choice(StorageType.self), help: "bf16: weights are stored so.") var dtype =
    StorageType.f32
  func run() async throws {
    try await options.execute(
      [{ try EncoderBenchmark(preset: preset, storage: dtype).prepare() }], common)
  }
}

struct BenchGenerator: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generator",
    abstract: "A small velocity network: forward, with backward, or a training step.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .choice(GeneratorBenchmark.Preset.self)) var preset = GeneratorBenchmark.Preset
    .mmdit384
  @Option(in: .choice(StorageType.self), help: "bf16: weights are stored so.") var dtype =
    StorageType.f32
  @Option(in: .choice(["forward", "both", "step"])) var pass = BenchmarkPass.forward
  func run() async throws {
    try await options.execute(
      [{ try GeneratorBenchmark(preset: preset, storage: dtype, pass: pass).prepare() }], common)
  }
}

struct BenchVAE: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vae",
    abstract: "Decoding latents: forward, backward to the latents, or to everything.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .choice(AutoencoderBenchmark.Preset.self)) var preset = AutoencoderBenchmark.Preset
    .decoderSmall
  @Option(in: .choice(StorageType.self), help: "bf16: weights are stored so.") var dtype =
    StorageType.f32
  @Option(in: .choice(["forward", "latents", "both"])) var pass = BenchmarkPass.forward
  func run() async throws {
    try await options.execute(
      [{ try AutoencoderBenchmark(preset: preset, storage: dtype, pass: pass).prepare() }], common)
  }
}

/// Values separated by commas: a sweep.
struct Sweep<Value: Sendable>: Sendable {
  let values: [Value]
  init(_ values: [Value]) { self.values = values }
  init(_ text: String, _ value: (String) throws -> Value) rethrows {
    values = try text.split(separator: ",", omittingEmptySubsequences: false).map {
      try value(String($0))
    }
  }
  func text(_ one: (Value) -> String) -> String { values.map(one).joined(separator: ",") }
}
/// The element type of an OT solver.
enum SolverType: String, CaseIterable, Sendable {
  case f32, f64
  var element: ElementType { self == .f32 ? .f32 : .f64 }
}

struct BenchOT: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ot",
    abstract:
      """
      Optimal transport: token plans, square problems, points without a stored cost, gradients, \
      exact mass.
      """,
    discussion: """
      token and exact-mass take --heads, --text, --video, --mass; square, gradient and points take \
      --size, points also --dimension; square and points with --iterations run just so many.
      Lists make a sweep: --size 512,1024 --epsilon 0.1,0.01 runs the four cases.
      """)
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .choice(TransportBenchmark.Kind.self), help: "Or several.") var kind = Sweep([
    TransportBenchmark.Kind.token
  ])
  @Option(in: .size) var heads = Sweep([16])
  @Option(in: .size, help: "Words.") var text = Sweep([20])
  @Option(in: .size, help: "Video tokens: 1 + frames x patches.") var video = Sweep([2049])
  @Option(in: .size, help: "Default: 1024; points: 16384.") var size: Sweep<Int>?
  @Option(in: .size, help: "points: coordinates.") var dimension = Sweep([64])
  @Option(in: .real(above: 0, to: 1e6)) var epsilon = Sweep([0.05])
  @Option(in: .real(above: 0, to: 1)) var mass = Sweep([0.9])
  @Option(
    in: .real(above: 0, to: 1),
    help: "Default: 1e-3 for tokens, 1e-6 for square and exact-mass, 1e-4 for points.")
  var tolerance: Double?
  @Option(
    in: .whole(1...1_000_000),
    help:
      """
      A fixed number of iterations instead of the tolerance (when neither is given: square 100, \
      points 10).
      """
  ) var iterations: Int?
  @Option(in: .choice(SolverType.self), help: "Of the solver: f32 or f64. Token plans are f32.")
  var dtype = SolverType.f32
  @Flag(help: "The published iterations only: no translation, over-relaxation or Newton steps.")
  var plain = false
  func validate() throws {
  }
  func run() async throws {
    var cases: [TransportBenchmark] = []
    func sweep<T>(_ key: WritableKeyPath<TransportBenchmark, T>, _ values: [T]) {
      cases = cases.flatMap { c in
        values.map { v in
          var b = c
          b[keyPath: key] = v
          return b
        }
      }
    }
    for k in kind.values {
      var b = TransportBenchmark()
      var some: [TransportBenchmark] = []
      (b.kind, b.precision, b.isPlain) = (k, dtype.element, plain)
      b.tolerance =
        tolerance ?? (k == .square || k == .exactMass ? 1e-6 : k == .points ? 1e-4 : 1e-3)
      b.iterations = iterations ?? (tolerance == nil ? [.square: 100, .points: 10][k] ?? 0 : 0)
      swap(&some, &cases)
      cases = [b]
      if k == .token || k == .exactMass {
        sweep(\.heads, heads.values)
        sweep(\.text, text.values)
        sweep(\.video, video.values)
        sweep(\.mass, mass.values)
      } else {
        sweep(\.size, size?.values ?? [k == .points ? 16384 : 1024])
        if k == .points { sweep(\.dimension, dimension.values) }
      }
      sweep(\.epsilon, epsilon.values)
      cases = some + cases
    }
    try await options.execute(cases.map { b in { try b.prepare() } }, common)
  }
}

struct BenchOTMap: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ot-map",
    abstract: "One outer step of Neural OT training: the potential once, the map --inner times.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .size) var batch = 128
  @Option(in: .size, help: "Updates of the map.") var inner = 10
  func run() async throws {
    try await options.execute([{ MapBenchmark(batch: batch, inner: inner).prepare() }], common)
  }
}

struct BenchStep: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "step",
    abstract: "The demo's whole post-training step, direct or GRPO's, and its parts.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .choice(["demo", "demo-grpo"])) var preset = "demo"
  @Option(in: .path, help: "Generator directory.") var generator = "embedded:generator"
  @Option(in: .path, help: "Reward-model directory, with an OT map.") var reward = "embedded:reward"
  func run() async throws {
    try await options.execute([{ try Self.prepare(preset, generator, reward) }], common)
  }

  static func prepare(_ preset: String, _ generator: String, _ reward: String) throws
    -> BenchmarkCase
  {
    var settings = DemoSettings()
    try settings.settle()
    if preset == "demo-grpo" { settings.useGroups() }
    let folder = GeneratorFolder(generator)
    let config = try folder.autoencoderConfig()
    let models = PostModels(
      teacher: try folder.transformer(),
      decoder: LatentDecoder(
        try folder.decoder(), scalingFactor: config.scalingFactor, checkpointing: false),
      reward: try RewardFolder(reward, frames: 9).reward(settings.post.rewardOptions),
      prompts: try folder.promptEncoder())
    settings.post.post.pool = settings.post.batch
    let captions = settings.captions(count: settings.post.post.pool)
    let shape = Array(config.latentShape(batch: 1, frames: 9, height: 32, width: 32).dropFirst())
    return try StepBenchmark(
      settings.post, models: models, captions: captions, latentShape: shape, preset: preset
    ).prepare()
  }
}

struct BenchStartup: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "startup",
    abstract: "From the start of a process to the first score of the embedded model.",
    discussion: "A program without embedded models prints its version instead, and says so.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  func run() async throws {
    try await Self.withClip { clip in
      try await options.execute([{ Self.benchmark(clip).prepare() }], common)
    }
  }

  static func benchmark(_ clip: String) -> StartupBenchmark {
    if EmbeddedFiles.paths.isEmpty {
      return StartupBenchmark(
        program: "/proc/self/exe", arguments: ["--version"], until: "version printed")
    }
    return StartupBenchmark(
      program: "/proc/self/exe",
      arguments: [
        "score", "--model", "embedded:reward", "--frames", "9", "--video", clip, "--prompt",
        "a red circle moving left", "--quiet",
      ], until: "first score printed")
  }
  /// Writes a clip of the built-in world to a file that exists while `body` runs.
  static func withClip(_ body: (String) async throws -> Void) async throws {
    let folder =
      FileManager.default.temporaryDirectory.path + "/pisces-bench-\(UInt64.random(in: 0 ... .max))"
    let clip = "\(folder)/clip.safetensors"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try SafetensorsWriter.write(
      [
        (
          "pixels",
          Renderer().render([SceneSampler(.standard, seed: 1).training(0)], in: Workspace())[row: 0]
        )
      ], to: clip)
    try await body(clip)
  }
}

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
        cases.append { try BenchStep.prepare("demo", "embedded:generator", "embedded:reward") }
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
