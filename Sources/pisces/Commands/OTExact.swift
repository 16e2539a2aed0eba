import ArgumentParser
import Files
import FoundationEssentials
import TensorRuntime
import Transport

extension OT {
  struct Exact: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "The exact plan, without regularisation, by the network simplex.",
      discussion: """
        Hard marginals, or with --mass caps and a given total. An infinite cost forbids its pair. \
        `gap` is recomputed from the costs as given, and decides
        the status. One thread and 80 to 100 bytes an entry of the cost: for problems of a few \
        million entries.
        """)
    @OptionGroup var common: CommonOptions
    @Option(in: .path, help: "Cost [N, M].") var cost: String
    @Option(in: .path, help: "Source weights [N]; default: uniform.") var sourceWeights: String?
    @Option(in: .path, help: "Target weights [M]; default: uniform.") var targetWeights: String?
    @Option(
      in: .real(above: 0, to: 1e300),
      help: "Partial: the total mass of the plan, the weights being caps.") var mass: Double?
    @Option(in: .path, help: "Write the plan [N, M] here (.npy or .safetensors).") var plan: String?
    @Option(
      in: .path,
      help: "Write the dual potentials here (.safetensors: source, target), in units of the cost.")
    var potentials: String?
    @Flag(
      help:
        "Exit with status 2 when the gap or the marginals do not bear out that the plan is exact.")
    var strict = false
    @Flag(help: "JSON on standard output.") var json = false

    func run() async throws {
      try common.start()
      var arrays = TransportArrays()
      let c = try arrays.read("cost", cost)
      let a = try arrays.read("source weights", sourceWeights)
      let b = try arrays.read("target weights", targetWeights)
      let clock = ContinuousClock()
      let start = clock.now
      if mass == nil { DividedWeights.say(a, b, common) }
      let r = try arrays.posing {
        try ExactTransport(mass.map { .exactMass($0) } ?? .balanced).solve(
          cost: c, source: a, target: b)
      }
      let seconds = (clock.now - start) / .seconds(1)
      if let plan {
        if plan.hasSuffix(".npy") {
          try NumpyFile.write(r.plan, to: plan)
        } else {
          try SafetensorsWriter.write([("plan", r.plan)], to: plan)
        }
      }
      if let potentials {
        try SafetensorsWriter.write(
          [
            ("source", Tensor(r.source, Shape(r.source.count))),
            ("target", Tensor(r.target, Shape(r.target.count))),
          ], to: potentials)
      }
      let o: JSONObject = [
        "status": .string(r.status.rawValue), "cost": .number(r.cost), "dual": .number(r.dual),
        "gap": .number(r.cost - r.dual), "marginal_error_l1": .number(r.marginalErrorL1),
        "marginal_error_linf": .number(r.marginalErrorLinf), "mass": .number(r.mass),
        "seconds": .number(seconds),
      ]
      OT.show(o, json: json)
      if strict && r.status != .converged { throw Failure.Status(code: 2) }
    }
  }
}
