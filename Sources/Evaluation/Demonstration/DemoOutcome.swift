import Files
import Rewards
import World

/// What the demo measured, before any of it is interpreted.
struct DemoOutcome {
  /// Two evaluations of one generator: without guidance, and at its own best guidance.
  struct Sides {
    let unguided, guided: GeneratorEvaluation
    subscript(isGuided: Bool) -> GeneratorEvaluation { isGuided ? guided : unguided }
  }

  let settings: DemoSettings, machine: String, prompts: [Prompt]
  let before: Sides
  var after: Sides!
  var control: Sides?
  /// Metrics of the OT map.
  let map: [(name: String, value: Double)]
  var curves: [Curve] = []
  /// Drift of the unguided latents.
  var drift = 0.0
  var phases: [PhaseClock.Phase] = []
  var seconds: Double { phases.reduce(0) { $0 + $1.seconds } }

  init(
    settings: DemoSettings, machine: String, prompts: [Prompt], before: Sides,
    map: [(name: String, value: Double)]
  ) {
    (self.settings, self.machine, self.prompts, self.before, self.map) = (
      settings, machine, prompts, before, map
    )
  }

  /// Comparison paired by prompt and noise.
  func change(guided: Bool) -> PairedComparison { comparison(before[guided], after[guided]) }
  func overControl(guided: Bool) -> PairedComparison? {
    control.map { comparison($0[guided], after[guided]) }
  }
  func controlChange(guided: Bool) -> PairedComparison? {
    control.map { comparison(before[guided], $0[guided]) }
  }
  private func comparison(_ a: GeneratorEvaluation, _ b: GeneratorEvaluation) -> PairedComparison {
    PairedComparison(
      before: a.judgements, after: b.judgements, seed: UInt64(settings.evaluation_seed))
  }

  /// The rewards of the same samples, with and without transport.
  static let rewards:
    [(name: String, key: String, of: @Sendable (RewardModel.AllScores) -> [Double]?)] = [
      ("quality (OT map)", "reward_quality", { $0.quality }),
      ("semantic (token plans)", "reward_semantic", { $0.semantic }),
      ("quality, plain", "vanilla_quality", { $0.vanillaQuality }),
      ("semantic, plain", "vanilla_semantic", { $0.vanillaSemantic }),
    ]
  func reward(_ of: (RewardModel.AllScores) -> [Double]?, guided: Bool) -> PairedComparison.Change?
  {
    guard let a = before[guided].rewards.flatMap(of), let b = after[guided].rewards.flatMap(of)
    else { return nil }
    return PairedComparison.mean(before: a, after: b, seed: UInt64(settings.evaluation_seed))
  }

  /// `summary.json` (interfaces.md 12).
  var summary: JSONObject {
    var o: JSONObject = [
      "seed": .integer(settings.seed), "prompts": .integer(settings.prompts),
      "evaluation_seed": .integer(settings.evaluation_seed),
    ]
    for guided in [false, true] {
      var side = JSONObject()
      if guided {
        (side["guidance_before"], side["guidance_after"]) = (
          .number(settings.guidance_before), .number(settings.guidance_after)
        )
      }
      let comparisons =
        [("change", change(guided: guided))]
        + (overControl(guided: guided).map { [("over_control", $0)] } ?? [])
      for (name, comparison) in comparisons {
        for (key, measure) in [
          ("semantic", Measure.semantic), ("quality", .quality), ("all_right", .allRight),
        ] {
          if let c = comparison[measure] { side["\(key)_\(name)"] = Self.json(c) }
        }
      }
      for r in Self.rewards {
        if let c = reward(r.of, guided: guided) { side[r.key] = Self.json(c) }
      }
      o[guided ? "guided" : "unguided"] = .object(side)
    }
    for m in map { o[m.name] = .number(m.value) }
    o["drift"] = .number(drift)
    o["seconds"] = .number(seconds)
    o["peak_resident_bytes"] = .integer(ProcessMemory.peak)
    o["phases"] = .array(
      phases.map {
        [
          "phase": .string($0.name), "seconds": .number($0.seconds),
          "peak_tensor_bytes": .integer($0.bytes),
        ]
      })
    return o
  }
  static func json(_ c: PairedComparison.Change) -> JSONValue {
    [
      "before": .number(c.before), "after": .number(c.after), "difference": .number(c.difference),
      "low": .number(c.low), "high": .number(c.high),
    ]
  }
}
