import Files
public import TensorRuntime
import Transport

#if canImport(Glibc)
  import Glibc
#endif

/// The transport benchmarks of interfaces.md 9: PISCES' token plans, and general problems with a
/// stored cost or between points.
public struct TransportBenchmark: Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    case token, square, points, gradient
    case exactMass = "exact-mass"
  }
  public var kind = Kind.token
  /// Token kinds: heads, words N, video tokens M = 1 + frames · g².
  public var heads = 16, text = 20, video = 2049
  /// Square kinds and points: n = m.
  public var size = 1024
  /// Points: number of coordinates.
  public var dimension = 64
  public var epsilon = 0.05, mass = 0.9, tolerance = 1e-3
  /// Square and points: a fixed number of iterations, if positive, instead of the tolerance.
  public var iterations = 0
  /// Square, gradient and points: element type of the solver.
  public var precision = ElementType.f32
  /// Only plain iterations.
  public var isPlain = false
  public init() {}

  public func prepare() throws -> BenchmarkCase {
    switch kind {
    case .token: try token()
    case .exactMass: try exactMass()
    case .square, .gradient: try square()
    case .points: try points()
    }
  }

  /// One pair, random costs in [0, 1]. The check solves in f64 to 1e-9: the plans (rows of sum 1)
  /// differ by less than the tolerance, relative L1.
  private func token() throws -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let s = self
    let m = video
    var chosen = TokenTransport.Options()
    (chosen.epsilon, chosen.marginalExponent, chosen.tolerance, chosen.translation) = (
      epsilon, mass, tolerance, !isPlain
    )
    let options = chosen
    let transport = try TokenTransport(options, patchesPerFrame: 1)
    let lexical = [UInt8](repeating: 1, count: text)
    let costs = randomCosts(work).reshaped(Shape(1, heads, text, m))
    @Sendable func plans(_ work: borrowing Workspace) -> TokenPlans {
      transport.plans(costs: costs, lexical: lexical, in: work)
    }
    let steps = plans(work).iterations
    let entries = Double(text * m)
    let total = Double(steps.reduce(0, +))
    return BenchmarkCase(
      "ot",
      [
        ("kind", .string(kind.rawValue)), ("heads", .integer(heads)), ("text", .integer(text)),
        ("video", .integer(m)), ("epsilon", .number(epsilon)), ("mass", .number(mass)),
        ("tolerance", .number(tolerance)),
        ("iterations", .integer(steps.max() ?? 0)),
      ] + (isPlain ? [("plain", .bool(true))] : []),
      // Computes the kernel once; each iteration then takes a product and its transpose.
      .init(flops: 4 * entries * total, exponentials: entries * Double(heads)),
      verify: {
        let work = Workspace(pool: pool)
        let found = plans(work).plan.doubles
        var tight = options
        (tight.tolerance, tight.maxIterations, tight.translation) = (1e-9, 20_000, true)
        let exact = try TokenTransport(tight, patchesPerFrame: 1).plans(
          costs: BenchmarkReference.wide(costs, work), lexical: lexical, in: work
        ).plan.doubles
        let error = zip(found, exact).reduce(0) { $0 + abs($1.0 - $1.1) } / exact.reduce(0, +)
        return error < s.tolerance
      },
      run: { _ = plans(Workspace(pool: pool)) })
  }
  /// f32 `[heads, text, video]`, uniform in [0, 1).
  private func randomCosts(_ work: borrowing Workspace) -> Tensor {
    var random = RandomStream(seed: 1, .test)
    return work.converted(
      Tensor((0..<heads * text * video).map { _ in random.uniform() }, Shape(heads, text, video)),
      to: .f32)
  }
  /// A batch of plans with total mass `mass` and uniform weights as upper bounds. The check is the
  /// certificate: bounds and mass hold, in f64.
  private func exactMass() throws -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let costs = randomCosts(work)
    let s = self
    let solver = EntropicTransport(
      .exactMass(mass), epsilon: epsilon, tolerance: tolerance, precision: precision)
    let first = try solver.solveBatch(cost: costs, in: work)
    let passes = first.reduce(0.0) { $0 + Double($1.iterations) }
    let entries = Double(text * video)
    return BenchmarkCase(
      "ot",
      [
        ("kind", .string(kind.rawValue)), ("heads", .integer(heads)), ("text", .integer(text)),
        ("video", .integer(video)), ("epsilon", .number(epsilon)), ("mass", .number(mass)),
        ("tolerance", .number(tolerance)),
        ("iterations", .integer(first.map(\.iterations).max() ?? 0)),
      ] + (precision != .f32 ? [("dtype", .string("\(precision)"))] : []),
      .init(flops: 4 * entries * passes, exponentials: 2 * entries * Double(heads)),
      verify: {
        let work = Workspace(pool: pool)
        return try solver.solveBatch(cost: costs, in: work).allSatisfy { r in
          let c = r.certified(in: work)
          return r.status == .converged && c.marginalErrorL1 < 4 * s.tolerance
            && abs(c.mass - s.mass) < 4 * s.tolerance
        }
      },
      run: { _ = try solver.solveBatch(cost: costs, in: Workspace(pool: pool)) })
  }

  /// Balanced transport between two clouds, whose cost is never stored: squared distances, divided
  /// by a bound of their maximum. The last update made the column sums exact. The check recomputes
  /// some of them in f64 from the definition.
  private func points() throws -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let n = size
    let d = dimension
    let x = BenchmarkReference.normal(Shape(n, d), 1, work)
    let y = BenchmarkReference.normal(Shape(n, d), 2, work)
    let a = x.doubles
    let b = y.doubles
    func farthest(_ p: [Double]) -> Double {
      (0..<n).map { i in (0..<d).reduce(0) { $0 + p[i * d + $1] * p[i * d + $1] } }.max()!
        .squareRoot()
    }
    let reach = farthest(a) + farthest(b)
    let scale = reach * reach
    let e = epsilon
    var solver = EntropicTransport(
      .balanced, epsilon: epsilon, tolerance: iterations > 0 ? 0 : tolerance,
      maxIterations: iterations > 0 ? iterations : 10_000, precision: precision)
    solver.isPlain = isPlain
    let costs = EntropicTransport.Cost.points(x, y, .squaredEuclidean, scale: scale)
    let first = try solver.solve(costs, in: work)
    let passes = Double(first.iterations) * Double(n * n)
    return BenchmarkCase(
      "ot",
      [
        ("kind", .string(kind.rawValue)), ("size", .integer(n)), ("dimension", .integer(d)),
        ("epsilon", .number(epsilon)), ("iterations", .integer(first.iterations)),
      ] + (precision != .f32 ? [("dtype", .string("\(precision)"))] : []),
      .init(flops: passes * Double(2 * d), exponentials: passes),
      verify: {
        let r = try solver.solve(costs, in: Workspace(pool: pool))
        let (u, v) = (r.logU.doubles, r.logV.doubles)
        return stride(from: 0, to: n, by: max(1, n / 16)).allSatisfy { j in
          let sum = (0..<n).reduce(0.0) { total, i in
            let c =
              (0..<d).reduce(0.0) {
                $0 + (a[i * d + $1] - b[j * d + $1]) * (a[i * d + $1] - b[j * d + $1])
              } / scale
            return total + exp(u[i] + v[j] - c / e)
          }
          return abs(sum * Double(n) - 1) < 1e-3
        }
      },
      run: { _ = try solver.solve(costs, in: Workspace(pool: pool)) })
  }

  /// A kernel smaller than this stays in the last-level cache, and memory is no limit.
  private static let cache = 24e6

  /// Balanced transport between two clouds of points in 64 dimensions: squared distances, divided
  /// by their maximum. The check is the certificate: marginals recomputed from the plan.
  private func square() throws -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let n = size
    let x = BenchmarkReference.wide(BenchmarkReference.normal(Shape(n, 64), 1, work), work)
    let y = BenchmarkReference.wide(BenchmarkReference.normal(Shape(n, 64), 2, work), work)
    let d = work.distances(x, y)
    let squared = work.product(d, d)
    let top = squared.doubles.max() ?? 1
    let cost = work.converted(work.scaled(squared, by: 1 / top), to: precision)
    let fixed = kind == .square && iterations > 0
    let target = kind == .gradient ? 1e-5 : tolerance
    var settings = EntropicTransport(
      .balanced, epsilon: epsilon, tolerance: fixed ? 0 : target,
      maxIterations: fixed ? iterations : 20_000, precision: precision)
    settings.isPlain = isPlain
    let solver = settings
    let upstream = work.converted(BenchmarkReference.normal(Shape(n, n), 3, work), to: precision)
    let wantsGradient = kind == .gradient
    @Sendable func solve(_ work: borrowing Workspace) throws -> SinkhornResult {
      let r = try solver.solve(.matrix(cost), wantsPlan: !wantsGradient, in: work)
      if wantsGradient { _ = r.gradient(plan: upstream, in: work) }
      return r
    }
    let first = try solver.solve(cost: cost, in: work)
    var fields: [(String, JSONValue)] = [
      ("kind", .string(kind.rawValue)), ("size", .integer(n)), ("epsilon", .number(epsilon)),
      ("iterations", .integer(first.iterations)),
    ]
    if !fixed { fields.append(("tolerance", .number(target))) }
    if precision != .f32 { fields.append(("dtype", .string("\(precision)"))) }
    if isPlain { fields.append(("plain", .bool(true))) }
    // Two products in each iteration, over a kernel that is read once; and the exponentials of the
    // kernel and of the plan.
    let entries = Double(n * n)
    let stored = entries * Double(precision.byteCount)
    return BenchmarkCase(
      "ot", fields,
      .init(
        flops: 4 * entries * Double(first.iterations),
        bytes: stored > Self.cache ? stored * Double(first.iterations) : nil,
        exponentials: 2 * entries),
      verify: {
        let work = Workspace(pool: pool)
        let r = try solve(work)
        // A fixed number of iterations guarantees no marginals, only the mass that the last update
        // set.
        if fixed {
          return abs(r.mass - 1) < 1e-4 && r.plan.doubles.allSatisfy { $0 >= 0 && $0.isFinite }
        }
        return r.status == .converged && r.marginalErrorL1 <= 10 * target
          && (!wantsGradient || r.gradient(plan: upstream, in: work).relativeResidual < 1e-5)
      },
      run: { _ = try solve(Workspace(pool: pool)) })
  }
}
