import ArgumentParser
import Files
import FoundationEssentials
import TensorRuntime
import Training
import Transport

#if canImport(Glibc)
  import Glibc
#endif

struct OT: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ot",
    abstract: "Optimal transport on arrays: plans, exact plans, divergences, barycenters.",
    discussion: """
      Arrays are .npy, .npz or .safetensors files; FILE:NAME names one of several. Not converging \
      is reported in `status`, and is exit status 2 with --strict.
      An interrupt (SIGINT, SIGTERM) ends a solve with the result and the certificate of where it \
      is, and exit status 75.
      """,
    subcommands: [Solve.self, Exact.self, Divergence.self, Barycenter.self])

  /// Prints one result: a line of JSON, or one line for each field.
  static func show(_ result: JSONObject, json: Bool) {
    if json { return StandardStreams.result(JSONValue.object(result).line) }
    for (key, value) in result.members {
      if let inner = value.object {
        for (name, value) in inner.members {
          StandardStreams.result("\(key).\(name): \(value.string ?? value.line)")
        }
      } else {
        StandardStreams.result("\(key): \(value.string ?? value.line)")
      }
    }
  }
}

/// How a problem is solved and reported, for the three commands.
struct SolverOptions: ParsableArguments {
  @Option(in: .real(above: 0, to: 1e300), help: "Entropic regularisation, in units of the cost.")
  var epsilon: Double
  @Option(
    in: .real(0...1),
    help:
      """
      Stop when the marginals' L1 error, relative to the mass, is below this; 0: exactly \
      --max-iterations plain iterations. Default: 1e-10, f32 1e-6, barycenter 1e-9, debiased 1e-6.
      """
  )
  var tolerance: Double?
  @Option(in: .whole(1...1_000_000_000), help: "Limit on iterations (passes over the cost).")
  var maxIterations = Workspace.TransportDefaults.maxIterations
  @Flag(help: "Plain iterations only: no acceleration.") var plain = false
  @Flag(help: "Exit with status 2 when a solver did not converge.") var strict = false
  @Flag(help: "JSON Lines on standard output.") var json = false

  func show(_ result: JSONObject) { OT.show(result, json: json) }
  /// The exit status for results with these statuses, after they were shown.
  func finish(_ statuses: [SinkhornResult.Status]) throws {
    if statuses.contains(.interrupted) { throw Failure.Status(code: 75) }
    if strict && statuses.contains(where: { $0 != .converged }) { throw Failure.Status(code: 2) }
  }
}

/// Clouds of points and their weights.
struct PointOptions: ParsableArguments {
  @Option(
    parsing: .upToNextOption, in: .path,
    help: "Source points [N, D] and target points [M, D]; their cost is never stored.") var points:
    [String] = []
  @Option(
    in: .choice(Workspace.SinkhornMetric.self),
    help: "Distance of points: sqeuclidean, euclidean or cosine.") var metric = Workspace
    .SinkhornMetric.squaredEuclidean
  @Option(in: .real(above: 0, to: 1e300), help: "Divisor of the distance.") var scale = 1.0
  @Option(in: .path, help: "Source weights [N]; default: uniform.") var sourceWeights: String?
  @Option(in: .path, help: "Target weights [M]; default: uniform.") var targetWeights: String?
  @Option(
    in: .choice(SolverType.self),
    help: "Arithmetic of costs and plans: f64 or f32 (potentials and sums are f64 in both).")
  var dtype = SolverType.f64
  var tolerance: Double {
    dtype == .f64
      ? Workspace.TransportDefaults.tolerance : Workspace.TransportDefaults.toleranceF32
  }

  func validate() throws {
    if !points.isEmpty && points.count != 2 {
      throw ValidationError("--points takes two files, source and target, not \(points.count)")
    }
  }
}

/// The arrays of a problem and their sources, so that a fault in an array names its file.
struct TransportArrays {
  private var files: [String: String] = [:]

  /// Reads the array called `name` in errors. Throws a `FileError`, or a message with status 65 if
  /// elements are not real numbers.
  mutating func read(_ name: String, _ path: String) throws -> Tensor {
    files[name] = path
    return try TensorFile.read(path)
  }
  mutating func read(_ name: String, _ path: String?) throws -> Tensor? {
    try path.map { try read(name, $0) }
  }

  /// Runs `body` and turns what it refuses into a message: status 64 for an option, 65 for an
  /// array.
  func posing<R>(_ body: () throws -> R) throws -> R {
    do { return try body() } catch let error as TransportError {
      let place = error.arrays.compactMap { files[$0] }
      if place.isEmpty {
        throw Failure.Message(64, error.description, "command line", error.remedy)
      }
      throw Failure.Message(65, error.description, place.joined(separator: ", "), error.remedy)
    }
  }
}

/// Warns that balanced weights with different sums are divided by them, each side by its own. The
/// user may not have meant this problem.
enum DividedWeights {
  private static func sums(_ w: Tensor?) -> [Double] {
    guard let w, w.count > 0 else { return [1] }
    return w.shape.rank == 2
      ? (0..<w.shape[0]).map { w[row: $0].doubles.reduce(0, +) } : [w.doubles.reduce(0, +)]
  }
  static func say(_ source: Tensor?, _ target: Tensor?, _ common: CommonOptions) {
    let (a, b) = (sums(source), sums(target))
    for k in 0..<max(a.count, b.count) {
      let (p, q) = (a[min(k, a.count - 1)], b[min(k, b.count - 1)])
      if abs(p - q) > Workspace.TransportDefaults.sumTolerance * max(p, q) {
        return common.note(
          """
          the weights\(a.count + b.count > 2 ? " of item \(k)" : "") sum to \(p) and \(q): each \
          side is divided by its sum
          """
        )
      }
    }
  }
  static func say(histograms b: Tensor, _ common: CommonOptions) {
    let all = b.shape.rank == 2 ? sums(b) : []
    let tolerance = Workspace.TransportDefaults.sumTolerance
    if let k = all.firstIndex(where: { abs($0 - all[0]) > tolerance * all[0] }) {
      common.note(
        "the histograms sum to \(all[0]) and, row \(k), \(all[k]): each is divided by its sum")
    }
  }
}

extension TransportError {
  /// The arrays at fault, by the names under which they were read; empty if an option is at fault.
  var arrays: [String] {
    switch self {
    case .pointShapes: return ["source points", "target points"]
    case .histogramShapes: return ["histograms", "cost"]
    case .ownCost: return ["own cost", "cost"]
    case .fault(let fault) where fault.kind == .unequalSums:
      return ["source weights", "target weights"]
    case .fault(let fault) where fault.kind == .infeasible || fault.kind == .noPartner:
      return ["cost"]
    default:
      // "cost as f32", "histogram 2"
      let name = name.replacing(" as f32", with: "")
      return name.isEmpty ? [] : [name.hasPrefix("histogram") ? "histograms" : name]
    }
  }
}

/// Shows the progress of a solve on standard error, every second at first and then less and less
/// often. Ends the solve if a signal asks for it.
final class SolveProgress {
  private let isQuiet: Bool, clock = ContinuousClock(), start: ContinuousClock.Instant
  private var next: ContinuousClock.Instant

  init(_ common: CommonOptions) {
    (isQuiet, start) = (common.quiet, clock.now)
    next = start + .seconds(1)
    StopRequest.install()
  }
  var seconds: Double { (clock.now - start) / .seconds(1) }

  func ask(_ iterations: Int, _ residual: Double) -> Bool {
    if !isQuiet && clock.now >= next {
      let gone = clock.now - start
      let rounded = (gone / .seconds(1)).rounded()
      StandardStreams.error(
        "pisces: \(iterations) iterations, residual \(Self.short(residual)), \(Int(rounded)) s")
      next = clock.now + max(.seconds(1), gone / 20)
    }
    return !StopRequest.isPending
  }
  /// A number with two digits: 3.4e-07.
  static func short(_ x: Double) -> String {
    guard x.isFinite, x > 0 else { return "\(x)" }
    var exponent = Int(log10(x).rounded(.down))
    var digits = (x / pow(10, Double(exponent)) * 10).rounded() / 10
    if digits >= 10 { (digits, exponent) = (1, exponent + 1) }
    return "\(digits)e\(exponent)"
  }
}
