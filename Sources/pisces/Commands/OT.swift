import ArgumentParser
import Files
import FoundationEssentials
import TensorRuntime
import Transport

struct OT: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "ot", abstract: "Optimal transport on arrays.", subcommands: [Solve.self])

  struct Solve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "One entropic transport problem: balanced, unbalanced, the PISCES relaxation, or exact mass.",
      discussion: "Minimises <P,C> + epsilon sum P(log P - 1) with the marginal rule chosen; weights default to uniform. Not converging is reported in `status`, and is exit status 2 with --strict.")
    @OptionGroup var common: CommonOptions
    @Option(help: "Cost [N, M]: .npy, or .safetensors:NAME.") var cost: String
    @Option(help: "Source weights [N].") var sourceWeights: String?
    @Option(help: "Target weights [M].") var targetWeights: String?
    @Option(help: "Entropic regularisation.") var epsilon: Double
    @Flag(help: "Hard marginals (the default).") var balanced = false
    @Option(help: "Marginal exponent of the PISCES relaxation; with --exact-mass the plan's total mass.") var mass: Double?
    @Flag(help: "Partial transport whose plan has total mass --mass.") var exactMass = false
    @Option(help: "KL strength of the source marginal.") var rhoSource: Double?
    @Option(help: "KL strength of the target marginal.") var rhoTarget: Double?
    @Option(help: "Stop when the marginal residual is below this.") var tolerance = 1e-10
    @Option(help: "Iteration limit.") var maxIterations = 20_000
    @Option(help: "Write the plan [N, M] here (.npy or .safetensors).") var plan: String?
    @Option(help: "Write log_u and log_v here (.safetensors).") var potentials: String?
    @Flag(help: "Exit with status 2 when the solver did not converge.") var strict = false
    @Flag(help: "JSON on standard output.") var json = false

    func rule() throws -> MarginalRule {
      let kinds = [balanced, mass != nil, rhoSource != nil || rhoTarget != nil].count { $0 }
      if kinds > 1 { throw ValidationError("--balanced, --mass and --rho-source/--rho-target exclude each other") }
      if exactMass && mass == nil { throw ValidationError("--exact-mass needs --mass") }
      if let mass { return exactMass ? .exactMass(mass) : .relaxed(mass: mass) }
      if rhoSource != nil || rhoTarget != nil { return .unbalanced(rhoSource: rhoSource ?? .infinity, rhoTarget: rhoTarget ?? .infinity) }
      return .balanced
    }

    func run() async throws {
      let rule = try rule()
      try common.start()
      let work = Workspace(), clock = ContinuousClock(), matrix = try TensorFile.read(cost)
      guard matrix.shape.rank == 2 else { throw Failure.Message(65, "the cost has shape \(matrix.shape), not [N, M]", cost, "give a matrix") }
      let solver = EntropicTransport(rule, epsilon: epsilon, tolerance: tolerance, maxIterations: maxIterations), start = clock.now, result: SinkhornResult
      do {
        result = try solver.solve(cost: matrix, source: try sourceWeights.map { try TensorFile.read($0) }, target: try targetWeights.map { try TensorFile.read($0) }, in: work)
      } catch let error as TransportError {
        throw Failure.Message(error.isUsage ? 64 : 65, error.description, error.isUsage ? "command line" : cost, "correct the problem")
      }
      let seconds = (clock.now - start) / .seconds(1)
      if let plan {
        if plan.hasSuffix(".npy") { try NumpyFile.write(result.plan, to: plan) } else { try SafetensorsWriter.write([("plan", result.plan)], to: plan) }
      }
      if let potentials { try SafetensorsWriter.write([("log_u", result.logU), ("log_v", result.logV)], to: potentials) }
      let o: JSONObject = [
        "status": .string(Self.name(result.status)), "cost": .number(result.cost), "objective": .number(result.objective), "dual": .number(result.dual), "iterations": .integer(result.iterations),
        "marginal_error_l1": .number(result.marginalErrorL1), "marginal_error_linf": .number(result.marginalErrorLinf), "mass": .number(result.mass), "epsilon": .number(result.epsilon),
        "seconds": .number(seconds),
      ]
      if json {
        StandardStreams.result(JSONValue.object(o).line)
      } else {
        for (key, value) in o.members { StandardStreams.result("\(key): \(value.string ?? value.line)") }
      }
      if strict && result.status != .converged { throw Failure.Status(code: 2) }
    }
    static func name(_ s: SinkhornResult.Status) -> String {
      switch s {
      case .converged: "converged"
      case .maxIterations: "max_iterations"
      case .stalled: "stalled"
      case .nonFinite: "non_finite"
      case .interrupted: "interrupted"
      }
    }
  }
}

extension TransportError {
  /// Whether the command line, not an array, is at fault.
  var isUsage: Bool {
    switch self {
    case .epsilon, .scale, .precision, .rho, .mass, .tolerance, .maxIterations: true
    default: false
    }
  }
}
