import ArgumentParser
import Files
import FoundationEssentials
import TensorRuntime
import Transport

extension OT {
  struct Divergence: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Sinkhorn divergence of two clouds of points.",
      discussion: """
        OT(a,b) - OT(a,a)/2 - OT(b,b)/2 + epsilon/2 (sum a - sum b)^2, OT the optimal value of \
        <P,C> + epsilon KL(P | a x b): 0 for equal measures, positive
        for different ones. Balanced (weights are divided by their sums), or with --rho \
        unbalanced. Three solves, whose costs are never stored; each
        has its certificate. `status` is the worst of the three.
        """)
    @OptionGroup var common: CommonOptions
    @OptionGroup var clouds: PointOptions
    @OptionGroup var solver: SolverOptions
    @Option(
      in: .real(0...1e300, takesInfinity: true),
      help: "KL strength of both marginals; default: hard marginals.") var rho: Double?
    @Option(
      in: .path,
      help:
        """
        Write gradients here (.safetensors): source_points, target_points, source_weights, \
        target_weights.
        """
    ) var gradient: String?

    func validate() throws {
      if clouds.points.isEmpty { throw ValidationError("give --points X Y") }
    }

    func run() async throws {
      try common.start()
      try gradient.map { try OutputFile.probe($0) }
      let work = Workspace()
      var arrays = TransportArrays()
      let x = try arrays.read("source points", clouds.points[0])
      let y = try arrays.read("target points", clouds.points[1])
      let source = try arrays.read("source weights", clouds.sourceWeights)
      let target = try arrays.read("target weights", clouds.targetWeights)
      let cost = EntropicTransport.Cost.points(x, y, clouds.metric, scale: clouds.scale)
      let divergence = SinkhornDivergence(
        epsilon: solver.epsilon, rho: rho ?? .infinity,
        tolerance: solver.tolerance ?? clouds.tolerance, maxIterations: solver.maxIterations,
        precision: clouds.dtype.element,
        isPlain: solver.plain)
      if rho == nil { DividedWeights.say(source, target, common) }
      let progress = SolveProgress(common)
      let result = try arrays.posing {
        if x.shape.rank == 2 && y.shape.rank == 2 && x.count > 0 && y.count > 0 {
          try MemoryBudget.check(
            try divergence.memoryBytes(cost, gradients: gradient != nil, in: work), common,
            clouds.points.joined(separator: ", "), mend: "take fewer points, or --dtype f32")
        }
        return try divergence.evaluate(
          cost, source: source, target: target, gradients: gradient != nil, progress: progress.ask,
          in: work)
      }
      let seconds = progress.seconds
      if let gradient, let points = result.points, result.status != .interrupted {
        try SafetensorsWriter.write(
          [
            ("source_points", points.source), ("target_points", points.target),
            ("source_weights", Tensor(result.source!, Shape(x.shape[0]))),
            ("target_weights", Tensor(result.target!, Shape(y.shape[0]))),
          ], to: gradient)
      }
      var o: JSONObject = [
        "status": .string(result.status.rawValue), "divergence": .number(result.value),
        "epsilon": .number(solver.epsilon),
      ]
      for (name, t) in zip(["source_target", "source_source", "target_target"], result.terms) {
        o[name] = .object(Self.certificate(t))
      }
      o["seconds"] = .number(seconds)
      solver.show(o)
      try solver.finish(result.terms.map(\.status))
    }
    private static func certificate(_ t: SinkhornDivergence.Term) -> JSONObject {
      [
        "status": .string(t.status.rawValue), "cost": .number(t.cost),
        "objective": .number(t.objective), "dual": .number(t.dual),
        "gap": .number(t.objective - t.dual),
        "iterations": .integer(t.iterations), "marginal_error_l1": .number(t.marginalErrorL1),
        "marginal_error_linf": .number(t.marginalErrorLinf), "mass": .number(t.mass),
      ]
    }
  }
}
