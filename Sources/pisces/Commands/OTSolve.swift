import ArgumentParser
import Files
import FoundationEssentials
import TensorRuntime
import Training
import Transport

extension OT {
  struct Solve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract:
        """
        One entropic transport problem, or a batch: balanced, unbalanced, the PISCES relaxation, \
        or exact mass.
        """,
      discussion: """
        Minimises <P,C> + epsilon sum P(log P - 1) with the marginal rule chosen; weights default \
        to uniform. Balanced weights are divided by their sums.
        With --cost the plan P is stored; between --points it never is: memory (N + M) D.
        Every number reported is recomputed from the plan; `gap` is objective - dual. `converged` \
        is only said when these numbers meet the tolerance (between
        points with distances in f64, whatever --dtype, unless --tolerance is 0).
        """)
    @OptionGroup var common: CommonOptions
    @Option(in: .path, help: "Cost [N, M]; with --batch [H, N, M].") var cost: String?
    @OptionGroup var clouds: PointOptions
    @OptionGroup var solver: SolverOptions
    @Flag(help: "Hard marginals (the default).") var balanced = false
    @Option(
      in: .real(above: 0, to: 1e300),
      help: "Marginal exponent of the PISCES relaxation; with --exact-mass the plan's total mass.")
    var mass: Double?
    @Flag(help: "Partial transport whose plan has total mass --mass.") var exactMass = false
    @Option(in: .real(0...1e300, takesInfinity: true), help: "KL strength of the source marginal.")
    var rhoSource: Double?
    @Option(in: .real(0...1e300, takesInfinity: true), help: "KL strength of the target marginal.")
    var rhoTarget: Double?
    @Flag(
      help:
        """
        H problems: weights [N] or [H, N], one result an item with its `index`, outputs stacked; \
        `seconds` is the batch's.
        """
    ) var batch = false
    @Option(in: .path, help: "Potentials to start from, as --potentials wrote them (log_u, log_v).")
    var start: String?
    @Flag(
      help:
        """
        Recompute every value reported in f64, from the plan or, between points, from the \
        potentials, and judge the status again.
        """
    ) var certify = false
    @Option(in: .path, help: "Write the plan [N, M] here (.npy or .safetensors).") var plan: String?
    @Option(in: .path, help: "Write log_u and log_v here (.safetensors).") var potentials: String?
    @Option(
      in: .path,
      help:
        "Write the barycentric projection of the source points [N, D] here (.npy or .safetensors).")
    var projection: String?
    @Option(
      in: .path,
      help:
        """
        Write gradients here (.safetensors): cost, or source_points and target_points; \
        source_weights, target_weights.
        """
    ) var gradient: String?
    @Option(
      in: .choice(Function.self),
      help: "Of what the gradient is: objective (<P,C> + epsilon ... as minimised) or cost (<P,C>)."
    ) var gradientOf: Function?
    @Option(in: .path, help: "The gradient is that of <G, P> with this G, of the plan's shape.")
    var planGradient: String?
    enum Function: String, CaseIterable, Sendable { case objective, cost }

    func validate() throws {
      let kinds = [balanced, mass != nil, rhoSource != nil || rhoTarget != nil].count { $0 }
      if kinds > 1 {
        throw ValidationError("--balanced, --mass and --rho-source/--rho-target exclude each other")
      }
      if exactMass && mass == nil { throw ValidationError("--exact-mass needs --mass") }
      if (cost == nil) == clouds.points.isEmpty {
        throw ValidationError("give either --cost or --points")
      }
      let given: [(Bool, String)] = [
        (plan != nil, "--plan"), (planGradient != nil, "--plan-gradient"), (batch, "--batch"),
      ]
      for (isGiven, name) in given where isGiven && cost == nil {
        throw ValidationError("\(name) needs --cost: between points no plan is stored")
      }
      if projection != nil && cost != nil { throw ValidationError("--projection needs --points") }
      if gradient == nil && (gradientOf != nil || planGradient != nil) {
        throw ValidationError("--gradient-of and --plan-gradient need --gradient")
      }
      if gradientOf != nil && planGradient != nil {
        throw ValidationError("--gradient-of and --plan-gradient exclude each other")
      }
    }
    /// If the cost is stored, the plan itself is certified: where costs are huge beside epsilon,
    /// potentials are too coarse for it.
    private var storesPlan: Bool { plan != nil || (certify && cost != nil) }
    private var rule: MarginalRule {
      if let mass { return exactMass ? .exactMass(mass) : .relaxed(exponent: mass) }
      if rhoSource != nil || rhoTarget != nil {
        return .unbalanced(rhoSource: rhoSource ?? .infinity, rhoTarget: rhoTarget ?? .infinity)
      }
      return .balanced
    }

    func run() async throws {
      try common.start()
      for output in [plan, potentials, projection, gradient] {
        try output.map { try OutputFile.probe($0) }
      }
      let work = Workspace()
      var arrays = TransportArrays()
      let problem: EntropicTransport.Cost
      if let cost {
        let c = try arrays.read("cost", cost)
        guard c.shape.rank == (batch ? 3 : 2) else {
          throw Failure.Message(
            65, "the cost has shape \(c.shape), not \(batch ? "[H, N, M]" : "[N, M]")", cost,
            batch ? "give one cost an item" : c.shape.rank == 3 ? "give --batch" : "give a matrix")
        }
        problem = .matrix(c)
      } else {
        problem = .points(
          try arrays.read("source points", clouds.points[0]),
          try arrays.read("target points", clouds.points[1]), clouds.metric, scale: clouds.scale)
      }
      let source = try arrays.read("source weights", clouds.sourceWeights)
      let target = try arrays.read("target weights", clouds.targetWeights)
      let upstream = try upstream(problem)
      let start = try starting(&arrays)
      var transport = EntropicTransport(
        rule, epsilon: solver.epsilon, tolerance: solver.tolerance ?? clouds.tolerance,
        maxIterations: solver.maxIterations, precision: clouds.dtype.element)
      transport.isPlain = solver.plain
      if rule == .balanced { DividedWeights.say(source, target, common) }

      let progress = SolveProgress(common)
      let results = try arrays.posing {
        try checkMemory(transport, problem, work)
        if case .matrix(let c) = problem, batch {
          return try transport.solveBatch(
            cost: c, source: source, target: target, start: start, wantsPlan: storesPlan,
            progress: { _, _ in !StopRequest.isPending }, in: work)
        }
        return [
          try transport.solve(
            problem, source: source, target: target, start: start, wantsPlan: storesPlan,
            progress: progress.ask, in: work)
        ]
      }.map { certify ? $0.certified(in: work) : $0 }
      let seconds = progress.seconds
      try write(results, upstream, work, seconds)
      try solver.finish(results.map(\.status))
    }

    private func checkMemory(
      _ transport: EntropicTransport, _ problem: EntropicTransport.Cost, _ work: borrowing Workspace
    ) throws {
      let shapes: [Int]
      switch problem {
      case .matrix(let c): shapes = c.shape.dims
      case .points(let x, let y, _, _): shapes = x.shape.dims + y.shape.dims
      }
      // The solver reports what is wrong with such shapes.
      guard shapes.allSatisfy({ $0 > 0 }), [2, 3, 4].contains(shapes.count) else { return }
      let bytes = try transport.memoryBytes(
        problem, wantsPlan: storesPlan, gradients: gradient != nil, certified: certify, in: work)
      try MemoryBudget.check(
        bytes, common, cost ?? clouds.points.joined(separator: ", "),
        mend: cost == nil
          ? "take fewer points, or --dtype f32"
          : "give --points, whose cost is not stored, or --dtype f32")
    }
    private func starting(_ arrays: inout TransportArrays) throws -> (
      logU: [Double], logV: [Double]
    )? {
      guard let start else { return nil }
      func potentials(_ name: String) throws -> [Double] {
        let x = try arrays.read("start", "\(start):\(name)").doubles
        if let i = x.firstIndex(where: { $0.isNaN || $0 == .infinity }) {
          throw Failure.Message(
            65, "element \(i) of \(name) is \(x[i])", start, "give potentials of a solve")
        }
        return x
      }
      return (try potentials("log_u"), try potentials("log_v"))
    }
    private func upstream(_ problem: EntropicTransport.Cost) throws -> Tensor? {
      guard let planGradient, case .matrix(let c) = problem else { return nil }
      let g = try TensorFile.read(planGradient)
      guard g.shape == c.shape else {
        throw Failure.Message(
          65, "the plan's gradient has shape \(g.shape), the plan \(c.shape)", planGradient,
          "give one number for each of the plan's")
      }
      guard Workspace().isFinite(g) else {
        throw Failure.Message(
          65, "the plan's gradient is not finite everywhere", planGradient,
          "replace or remove what is not finite")
      }
      return g
    }

    /// Writes the requested files, then a record of each result.
    private func write(
      _ results: [SinkhornResult], _ upstream: Tensor?, _ work: borrowing Workspace,
      _ seconds: Double
    ) throws {
      if let plan { try Self.write("plan", joined(results.map(\.plan), work), to: plan) }
      if let potentials {
        try SafetensorsWriter.write(
          [
            ("log_u", joined(results.map(\.logU), work)),
            ("log_v", joined(results.map(\.logV), work)),
          ], to: potentials)
      }
      if let projection {
        try Self.write("projection", results[0].projection(in: work), to: projection)
      }
      let residuals = try gradient.map { try writeGradients(results, upstream, work, to: $0) }
      for (k, r) in results.enumerated() {
        solver.show(record(r, index: k, gradientResidual: residuals?[k], seconds))
      }
    }
    /// The items of a batch as one tensor.
    private func joined(_ parts: [Tensor], _ work: borrowing Workspace) -> Tensor {
      batch ? work.stacked(parts) : parts[0]
    }
    /// Returns the relative residual of each linear system.
    private func writeGradients(
      _ results: [SinkhornResult], _ upstream: Tensor?, _ work: borrowing Workspace, to path: String
    ) throws -> [Double] {
      let onCost = upstream == nil && gradientOf == .cost ? 1.0 : 0
      let onObjective = upstream == nil && gradientOf != .cost ? 1.0 : 0
      var found: [SinkhornResult.Gradient] = []
      for (k, r) in results.enumerated() {
        let plan = upstream.map { batch ? $0[row: k] : $0 }
        found.append(r.gradients(plan: plan, cost: onCost, objective: onObjective, in: work))
      }
      var tensors: [(name: String, tensor: Tensor)] = []
      if let points = found[0].points {
        tensors = [("source_points", points.source), ("target_points", points.target)]
      } else {
        tensors = [("cost", joined(found.map { $0.cost! }, work))]
      }
      for (name, weights) in [
        ("source_weights", found.map(\.source)), ("target_weights", found.map(\.target)),
      ] {
        tensors.append((name, joined(weights.map { Tensor($0, Shape($0.count)) }, work)))
      }
      try SafetensorsWriter.write(tensors, to: path)
      return found.map(\.relativeResidual)
    }
    private func record(
      _ r: SinkhornResult, index: Int, gradientResidual: Double?, _ seconds: Double
    ) -> JSONObject {
      var o: JSONObject = batch ? ["index": .integer(index)] : [:]
      o["status"] = .string(r.status.rawValue)
      for (name, x) in [
        ("cost", r.cost), ("objective", r.objective), ("dual", r.dual),
        ("gap", r.objective - r.dual),
      ] { o[name] = .number(x) }
      o["iterations"] = .integer(r.iterations)
      for (name, x) in [
        ("marginal_error_l1", r.marginalErrorL1), ("marginal_error_linf", r.marginalErrorLinf),
        ("mass", r.mass), ("epsilon", r.epsilon),
      ] { o[name] = .number(x) }
      if let gradientResidual { o["gradient_residual"] = .number(gradientResidual) }
      o["seconds"] = .number(seconds)
      return o
    }
    /// One tensor as `.npy`, or under `name` in a `.safetensors` file.
    static func write(_ name: String, _ tensor: Tensor, to path: String) throws {
      if path.hasSuffix(".npy") {
        try NumpyFile.write(tensor, to: path)
      } else {
        try SafetensorsWriter.write([(name, tensor)], to: path)
      }
    }
  }
}
