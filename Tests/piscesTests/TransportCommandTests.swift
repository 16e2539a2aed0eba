import Files
import Foundation
import TensorRuntime
import TestSupport
import Testing

/// `pisces ot` as a user meets it: results, files, statuses, and one line for whatever is wrong
/// (interfaces.md 1, 2 and 8).
@Suite(.serialized) struct TransportCommandTests {
  let folder: ScratchFolder
  init() throws { folder = try ScratchFolder() }

  // MARK: helpers

  func uniform(_ shape: Shape, seed: UInt64) -> Tensor {
    var stream = RandomStream(seed: seed, .test)
    return Tensor((0..<shape.count).map { _ in stream.uniform() }, shape)
  }
  /// Writes an array and returns its path.
  func put(_ name: String, _ tensor: Tensor) throws -> String {
    try NumpyFile.write(tensor, to: folder(name))
    return folder(name)
  }
  func put(_ name: String, _ values: [Double]) throws -> String {
    try put(name, Tensor(values, Shape(values.count)))
  }
  func run(_ arguments: String...) async throws -> ProgramRun {
    try await ProgramRun(ProgramRun.program, ["ot"] + arguments)
  }
  /// The results of a run that ends well, one a line.
  func results(
    _ arguments: String..., status: Int32 = 0, sourceLocation: SourceLocation = #_sourceLocation
  ) async throws -> [JSONValue] {
    let run = try await ProgramRun(ProgramRun.program, ["ot"] + arguments + ["--json", "--quiet"])
    #expect(
      run.status == status && run.error.isEmpty, "\(run.error)", sourceLocation: sourceLocation)
    return try run.lines.map { try JSONValue(parsing: $0, name: "output") }
  }
  func number(_ o: JSONValue, _ key: String) -> Double { o[key]?.number ?? .nan }
  /// One error line with these words, nothing else, and no file called `out`.
  func refuses(
    _ status: Int32, _ words: [String], _ arguments: String...,
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let run = try await ProgramRun(ProgramRun.program, ["ot"] + arguments + ["--quiet"])
    #expect(run.status == status, "\(arguments): \(run.error)", sourceLocation: sourceLocation)
    #expect(
      run.errorLines.count == 1 && run.error.hasPrefix("pisces: error: ") && run.output.isEmpty,
      "\(run.error)\(run.output)", sourceLocation: sourceLocation)
    for word in words {
      #expect(run.error.contains(word), "\(run.error)", sourceLocation: sourceLocation)
    }
    #expect(!FileTree.exists(folder("out.npy")), sourceLocation: sourceLocation)
  }

  // MARK: solve

  /// A constant cost: the plan is the product of the weights.
  @Test func resultAndPlan() async throws {
    let a = [0.1, 0.5, 0.4]
    let b = [0.25, 0.75]
    let cost = try put("c.npy", Tensor.full(Shape(3, 2), 2, type: .f64))
    let r = try await results(
      "solve", "--cost", cost, "--source-weights", try put("a.npy", a), "--target-weights",
      try put("b.npy", b), "--epsilon", "0.1", "--plan", folder("p.npy"), "--potentials",
      folder("u.safetensors"))
    #expect(r.count == 1 && r[0]["status"]?.string == "converged")
    for key in [
      "cost", "objective", "dual", "gap", "iterations", "marginal_error_l1", "marginal_error_linf",
      "mass", "epsilon", "seconds",
    ] { #expect(r[0][key]?.number != nil, "\(key)") }
    #expect(
      abs(number(r[0], "cost") - 2) < 1e-12 && abs(number(r[0], "gap")) < 1e-9
        && number(r[0], "epsilon") == 0.1)
    let p = try NumpyFile.read(folder("p.npy"))
    let u = try TensorFile.read(folder("u.safetensors:log_u")).doubles
    let v = try TensorFile.read(folder("u.safetensors:log_v")).doubles
    for k in 0..<6 {
      #expect(abs(p.doubles[k] - a[k / 2] * b[k % 2]) < 1e-12)
      #expect(abs(exp(u[k / 2] + v[k % 2] - 2 / 0.1) - p.doubles[k]) < 1e-12)
    }
    let text = try await run("solve", "--cost", cost, "--epsilon", "0.1", "--quiet")
    #expect(
      text.lines.first == "status: converged" && text.lines.contains { $0.hasPrefix("gap: ") })
  }
  @Test func pointsAgreeWithTheirCost() async throws {
    let x = uniform(Shape(20, 3), seed: 1)
    let y = uniform(Shape(30, 3), seed: 2)
    let xs = x.doubles
    let ys = y.doubles
    let c = (0..<600).map { k in
      (0..<3).reduce(0.0) {
        let d = xs[k / 30 * 3 + $1] - ys[k % 30 * 3 + $1]
        return $0 + d * d
      } / 2
    }
    let dense = try await results(
      "solve", "--cost", try put("c.npy", Tensor(c, Shape(20, 30))), "--epsilon", "0.05", "--plan",
      folder("p.npy"))[0]
    let points = ["--points", try put("x.npy", x), try put("y.npy", y), "--scale", "2"]
    let p = try await results(
      "solve", points[0], points[1], points[2], points[3], points[4], "--epsilon", "0.05",
      "--projection", folder("t.npy"))[0]
    #expect(
      abs(number(p, "objective") - number(dense, "objective")) < 1e-10
        && abs(number(p, "cost") - number(dense, "cost")) < 1e-10)
    let plan = try NumpyFile.read(folder("p.npy")).doubles
    let t = try NumpyFile.read(folder("t.npy"))
    #expect(t.shape == Shape(20, 3))
    let mean =
      (0..<30).reduce(0) { $0 + plan[$1] * ys[$1 * 3] } / (0..<30).reduce(0) { $0 + plan[$1] }
    #expect(abs(t.doubles[0] - mean) < 1e-8)
    let f32 = try await results(
      "solve", points[0], points[1], points[2], points[3], points[4], "--epsilon", "0.05",
      "--dtype", "f32", "--certify")[0]
    #expect(
      f32["status"]?.string == "converged"
        && abs(number(f32, "objective") - number(dense, "objective")) < 1e-5)
    for metric in ["euclidean", "cosine"] {
      let m = try await results(
        "solve", points[0], points[1], points[2], "--metric", metric, "--epsilon", "0.05")[0]
      #expect(m["status"]?.string == "converged" && abs(number(m, "gap")) < 1e-8)
    }
  }
  /// Teams within teams allowed: items are given to threads whole, and what an item does stays with
  /// its thread.
  @Test func nestedTeams() async throws {
    let cost = try put("c.npy", uniform(Shape(8, 300, 280), seed: 9))
    let x = try put("x.npy", uniform(Shape(700, 12), seed: 3))
    let y = try put("y.npy", uniform(Shape(650, 12), seed: 4))
    func plans(_ environment: [String: String?]) async throws -> [[UInt8]] {
      for arguments in [
        ["--batch", "--cost", cost, "--plan", folder("p.npy")],
        ["--points", x, y, "--potentials", folder("u.npz")],
      ] {
        let run = try await ProgramRun(
          ProgramRun.program, ["ot", "solve", "--epsilon", "0.05", "--quiet"] + arguments,
          environment: environment)
        #expect(run.status == 0, "\(run.error)")
      }
      return [folder("p.npy"), folder("u.npz")].map {
        FileManager.default.contents(atPath: $0).map(Array.init) ?? []
      }
    }
    let alone = try await plans(["OMP_NUM_THREADS": "1"])
    for teams in ["2,8", "7,3"] {
      #expect(
        try await plans([
          "OMP_NUM_THREADS": teams, "OMP_MAX_ACTIVE_LEVELS": "3", "OMP_NESTED": "true",
        ]) == alone, "\(teams)")
    }
  }
  @Test func batchIsItsItems() async throws {
    let c = uniform(Shape(3, 6, 8), seed: 3)
    let a = uniform(Shape(3, 6), seed: 4)
    let cost = try put("c.npy", c)
    let weights = try put("a.npy", a)
    let all = try await results(
      "solve", "--batch", "--cost", cost, "--source-weights", weights, "--epsilon", "0.05",
      "--plan", folder("p.npy"), "--potentials", folder("u.safetensors"), "--gradient",
      folder("g.safetensors"))
    #expect(all.map { $0["index"]?.integer } == [0, 1, 2])
    let plans = try NumpyFile.read(folder("p.npy"))
    #expect(
      try plans.shape == Shape(3, 6, 8)
        && TensorFile.read(folder("u.safetensors:log_v")).shape == Shape(3, 8))
    #expect(
      try TensorFile.read(folder("g.safetensors:cost")).doubles.elementsEqual(plans.doubles) {
        abs($0 - $1) < 1e-12
      })
    for k in 0..<3 {
      let one = try await results(
        "solve", "--cost", try put("c1.npy", c[row: k]), "--source-weights",
        try put("a1.npy", a[row: k]), "--epsilon", "0.05", "--plan", folder("p1.npy"))[0]
      #expect(number(one, "objective") == number(all[k], "objective"))
      #expect(try NumpyFile.read(folder("p1.npy")).doubles == plans[row: k].doubles)
    }
    let warm = try await results(
      "solve", "--batch", "--cost", cost, "--source-weights", weights, "--epsilon", "0.05",
      "--start", folder("u.safetensors"))
    #expect(warm.allSatisfy { number($0, "iterations") <= 3 })
    // none converges: a result for each all the same
    let strict = try await results(
      "solve", "--batch", "--cost", cost, "--epsilon", "0.001", "--max-iterations", "2", "--strict",
      status: 2)
    #expect(strict.map { $0["status"]?.string } == Array(repeating: "max_iterations", count: 3))
  }
  /// Gradients of the three functions against differences of whole runs' solves, in process; here
  /// the files and their meaning.
  @Test func gradients() async throws {
    let c = uniform(Shape(5, 4), seed: 5)
    let cost = try put("c.npy", c)
    let out = folder("g.safetensors")
    let upstream = try put("up.npy", uniform(Shape(5, 4), seed: 6))
    func gradient(_ more: String...) async throws -> [String: Tensor] {
      let run = try await ProgramRun(
        ProgramRun.program,
        [
          "ot", "solve", "--cost", cost, "--epsilon", "0.1", "--tolerance", "1e-13", "--gradient",
          out, "--plan", folder("p.npy"), "--quiet",
        ] + more)
      #expect(run.status == 0 && run.output.contains("gradient_residual"), "\(run.error)")
      var found: [String: Tensor] = [:]
      for name in ["cost", "source_weights", "target_weights"] {
        found[name] = try TensorFile.read("\(out):\(name)")
      }
      return found
    }
    let objective = try await gradient()
    let plan = try NumpyFile.read(folder("p.npy")).doubles
    #expect(zip(objective["cost"]!.doubles, plan).allSatisfy { abs($0 - $1) < 1e-12 })
    #expect(
      objective["source_weights"]!.shape == Shape(5)
        && objective["target_weights"]!.shape == Shape(4))
    // d<P,C>: with the direction C itself, <dC, C> = d/dt <P(tC), tC>; a shift of the cost moves it
    // by the mass
    let ofCost = try await gradient("--gradient-of", "cost")["cost"]!.doubles
    let ofPlan = try await gradient("--plan-gradient", upstream)["cost"]!.doubles
    #expect(abs(ofCost.reduce(0, +) - 1) < 1e-10 && abs(ofPlan.reduce(0, +)) < 1e-10)
    #expect(ofCost != objective["cost"]!.doubles && ofPlan.contains { abs($0) > 1e-4 })
    let points = try await run(
      "solve", "--points", try put("x.npy", uniform(Shape(5, 2), seed: 7)),
      try put("y.npy", uniform(Shape(4, 2), seed: 8)), "--epsilon", "0.1", "--gradient", out,
      "--quiet")
    #expect(points.status == 0)
    #expect(
      try TensorFile.read("\(out):source_points").shape == Shape(5, 2)
        && TensorFile.read("\(out):target_points").shape == Shape(4, 2))
  }
  @Test func everyRule() async throws {
    let cost = try put("c.npy", uniform(Shape(6, 8), seed: 9))
    let unbalanced = try await results(
      "solve", "--cost", cost, "--epsilon", "0.1", "--rho-source", "0.5", "--rho-target", "2")[0]
    let relaxed = try await results("solve", "--cost", cost, "--epsilon", "0.1", "--mass", "0.9")[0]
    let exact = try await results(
      "solve", "--cost", cost, "--epsilon", "0.1", "--mass", "0.6", "--exact-mass")[0]
    for r in [unbalanced, relaxed, exact] {
      #expect(r["status"]?.string == "converged" && abs(number(r, "gap")) < 1e-8)
    }
    #expect(abs(number(exact, "mass") - 0.6) < 1e-9)
    let plain = try await results(
      "solve", "--cost", cost, "--epsilon", "0.1", "--plain", "--tolerance", "0",
      "--max-iterations", "7")[0]
    #expect(plain["iterations"]?.integer == 7 && plain["status"]?.string == "max_iterations")
  }
  @Test func weightsOfDifferentSumsAreDividedAndSaid() async throws {
    let cost = try put("c.npy", uniform(Shape(3, 2), seed: 1))
    let a = try put("a.npy", [1, 1, 2])
    let b = try put("b.npy", [0.5, 0.5])
    let r = try await run(
      "solve", "--cost", cost, "--source-weights", a, "--target-weights", b, "--epsilon", "0.1")
    #expect(
      r.status == 0 && r.output.contains("mass: 1.0") || r.output.contains("mass: 0.99999"),
      "\(r.output)")
    #expect(
      r.errorLines.contains { $0.contains("4.0") && $0.contains("1.0") && $0.contains("divided") },
      "\(r.error)")
    try await refuses(
      65, [a, b, "equal sums", "4 and 1"], "solve", "--cost", cost, "--source-weights", a,
      "--target-weights", b, "--epsilon", "0.1", "--mass", "1")
  }

  /// The same rule where weights of different sums make no sense as they are.
  @Test func weightsOfDifferentSumsElsewhere() async throws {
    let x = try put("x.npy", uniform(Shape(3, 2), seed: 1))
    let c = try put("c.npy", uniform(Shape(3, 3), seed: 2))
    let a = try put("a.npy", [1, 1, 2])
    let b = try put("b.npy", [0.25, 0.25, 0.5])
    let exact = try await run("exact", "--cost", c, "--source-weights", a)
    let divergence = try await run(
      "divergence", "--points", x, x, "--source-weights", a, "--target-weights", b, "--epsilon", "1"
    )
    for r in [exact, divergence] {
      #expect(
        r.status == 0
          && r.errorLines.contains {
            $0.contains("4.0") && $0.contains("1.0") && $0.contains("divided")
          }, "\(r.error)")
    }
    #expect(
      divergence.output.contains("divergence: 0") || divergence.output.contains("e-"),
      "\(divergence.output)")
    let mean = try await run(
      "barycenter", "--histograms",
      try put("h.npy", Tensor([1.0, 1, 2, 0.5, 0.25, 0.25], Shape(2, 3))), "--cost", c, "--epsilon",
      "1")
    #expect(
      mean.status == 0
        && mean.errorLines.contains { $0.contains("row 1") && $0.contains("divided") },
      "\(mean.error)")
    try await refuses(
      65, [c, "not symmetric"], "barycenter", "--histograms", folder("h.npy"), "--cost", c,
      "--epsilon", "1", "--debiased")
  }
  /// One of 40 points at 1e6: f32 says what f64 says.
  @Test func outlierInSinglePrecision() async throws {
    func cloud(_ seed: UInt64) -> Tensor {
      Tensor(
        randomTensor(Shape(40, 64), seed: seed).doubles.enumerated().map {
          Double(Float($0 < 64 ? 1e6 + $1 : $1))
        }, Shape(40, 64))
    }
    let points = [
      "--points", try put("x.npy", cloud(1)), try put("y.npy", cloud(2)), "--epsilon", "5",
      "--strict",
    ]
    for command in ["solve", "divergence"] {
      var found: [Double] = []
      for more in [
        ["--dtype", "f64"], ["--dtype", "f32"],
        ["--dtype", "f32"] + (command == "solve" ? ["--certify"] : ["--max-iterations", "5000"]),
      ] {
        let r = try await ProgramRun(
          ProgramRun.program, ["ot", command] + points + more + ["--json", "--quiet"])
        let o = try JSONValue(parsing: r.lines[0], name: "output")
        #expect(r.status == 0 && o["status"]?.string == "converged", "\(r.output)\(r.error)")
        found.append(number(o, command == "solve" ? "cost" : "divergence"))
      }
      #expect(
        found[0] > 50 && found.allSatisfy { abs($0 - found[0]) < 1e-4 * found[0] }, "\(found)")
    }
  }
  /// --certify judges the plan that was found, and --strict follows it.
  @Test func certifiedStatus() async throws {
    let n = 12
    let c = try put(
      "c.npy",
      Tensor((0..<n * n).map { k in k / n == k % n ? 0 : 1 + Double(k % 7) / 7 }, Shape(n, n)))
    let r = try await results("solve", "--cost", c, "--epsilon", "1e-11", "--certify", "--strict")[
      0]
    #expect(
      r["status"]?.string == "converged" && number(r, "marginal_error_l1") < 1e-12
        && abs(number(r, "gap")) < 1e-9)
    let short = try await results(
      "solve", "--cost", try put("d.npy", uniform(Shape(9, 9), seed: 1)), "--epsilon", "1e-3",
      "--max-iterations", "3", "--certify", "--strict", status: 2)[0]
    #expect(short["status"]?.string == "max_iterations")
  }
  @Test func masksAndForbiddenPairs() async throws {
    let n = 15
    let plain = uniform(Shape(n, n), seed: 3).doubles
    func cost(_ name: String, _ mask: Double) throws -> String {
      try put(
        name,
        Tensor((0..<n * n).map { ($0 % n - $0 / n + n) % n < 4 ? plain[$0] : mask }, Shape(n, n)))
    }
    let low = number(try await results("exact", "--cost", try cost("low.npy", 100))[0], "cost")
    for mask in [1e12, 1e13, 1e15, .infinity] {
      let r = try await results("exact", "--cost", try cost("c.npy", mask), "--strict")[0]
      #expect(
        r["status"]?.string == "converged" && abs(number(r, "cost") - low) < 1e-12
          && number(r, "dual") <= number(r, "cost"), "\(mask): \(r)")
      let entropic = try await results("solve", "--cost", folder("c.npy"), "--epsilon", "1e-3")[0]
      #expect(
        entropic["status"]?.string == "converged" && number(entropic, "cost") < low + 0.01
          && number(entropic, "cost") > low - 1e-9)
    }
    let nothing = try put("nothing.npy", Tensor([0.0, .infinity, 1, .infinity], Shape(2, 2)))
    for command in [["exact"], ["solve", "--epsilon", "0.1"]] {
      let r = try await ProgramRun(
        ProgramRun.program, ["ot"] + command + ["--cost", nothing, "--quiet"])
      #expect(
        r.status == 65 && r.errorLines.count == 1 && r.error.contains("forbidden")
          && r.error.contains(nothing), "\(r.error)")
    }
  }
}
