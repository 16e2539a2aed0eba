import ArgumentParser
import Files
import FoundationEssentials
import TensorRuntime
import Transport

extension OT {
  struct Barycenter: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Entropic barycenter of histograms on a fixed support.",
      discussion: """
        Minimises over a the weighted sum of OT(b_k, a), OT the optimal value of <P,C> + epsilon \
        sum P(log P - 1); with --debiased of Sinkhorn divergences, without the
        blur that epsilon makes. Histograms are rows and are divided by their sums. Without --out \
        the barycenter is part of the result.
        """)
    @OptionGroup var common: CommonOptions
    @Option(in: .path, help: "Histograms [K, N], one a row.") var histograms: String
    @Option(
      in: .path,
      help: "Cost [N, M] from their support to the barycenter's, or [K, N, M], one a histogram.")
    var cost: String
    @OptionGroup var solver: SolverOptions
    @Option(in: .path, help: "Weights [K] of the histograms; default: equal.") var weights: String?
    @Flag(help: "The barycenter of Sinkhorn divergences.") var debiased = false
    @Option(
      in: .path,
      help:
        """
        Debiased: symmetric cost [M, M] of the barycenter's support; default: --cost, if one and \
        square.
        """
    ) var ownCost: String?
    @Option(in: .path, help: "Write the barycenter [M] here (.npy or .safetensors).") var out:
      String?
    @Option(
      in: .path, help: "Write log_u [K, N] and log_v [K, M] of the plans here (.safetensors).")
    var potentials: String?

    func run() async throws {
      try common.start()
      for output in [out, potentials] { try output.map { try OutputFile.probe($0) } }
      let work = Workspace()
      var arrays = TransportArrays()
      let b = try arrays.read("histograms", histograms)
      let c = try arrays.read("cost", cost)
      let w = try arrays.read("barycentric weights", weights)
      let own = try arrays.read("own cost", ownCost)
      typealias Defaults = Workspace.TransportDefaults
      let tolerance = debiased ? Defaults.toleranceOfDebiased : Defaults.toleranceOfBarycenter
      var barycenter = Transport.Barycenter(
        epsilon: solver.epsilon, isDebiased: debiased,
        tolerance: solver.tolerance ?? tolerance, maxIterations: solver.maxIterations)
      barycenter.isPlain = solver.plain
      DividedWeights.say(histograms: b, common)
      let progress = SolveProgress(common)
      let r = try arrays.posing {
        if b.shape.rank == 2 && c.shape.rank >= 2 && b.count > 0 && c.count > 0 {
          let bytes = barycenter.memoryBytes(cost: c, count: b.shape[0], in: work)
          try MemoryBudget.check(
            bytes, common, cost, mend: "take a coarser support, or fewer histograms")
        }
        return try barycenter.solve(
          histograms: b, cost: c, own: own, weights: w, progress: progress.ask, in: work)
      }
      let seconds = progress.seconds
      if let out { try Solve.write("barycenter", r.barycenter, to: out) }
      if let potentials {
        try SafetensorsWriter.write([("log_u", r.logU), ("log_v", r.logV)], to: potentials)
      }
      var o: JSONObject = [
        "status": .string(r.status.rawValue), "cost": .number(r.cost),
        "objective": .number(r.objective),
      ]
      if let dual = r.dual { (o["dual"], o["gap"]) = (.number(dual), .number(r.objective - dual)) }
      o["iterations"] = .integer(r.iterations)
      for (name, x) in [
        ("marginal_error_l1", r.marginalErrorL1), ("marginal_error_linf", r.marginalErrorLinf),
        ("mass", r.mass), ("epsilon", solver.epsilon),
      ] { o[name] = .number(x) }
      o["errors"] = .array(r.errors.map { .number($0) })
      if out == nil { o["barycenter"] = .array(r.barycenter.doubles.map { .number($0) }) }
      o["seconds"] = .number(seconds)
      solver.show(o)
      try solver.finish([r.status])
    }
  }
}
