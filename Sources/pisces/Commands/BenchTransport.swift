import ArgumentParser
import Benchmarking
import Files
import TensorRuntime

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
