import Files
import Rewards
import TensorRuntime
import World

/// What the demo of short video measured.
struct ShortDemoOutcome {
  /// A generator, sampled on all prompts.
  struct Stage { let name: String, steps: Int, evaluation: GeneratorEvaluation }
  let settings: ShortDemoSettings, machine: String, prompts: [Prompt]
  /// Before, distilled, with rewards, and perhaps without them.
  let stages: [Stage]
  /// Of the training with rewards.
  let curves: [Curve]
  let phases: [PhaseClock.Phase]
  var seconds: Double { phases.reduce(0) { $0 + $1.seconds } }

  /// Comparison of two stages, paired by prompt.
  func change(from a: Int, to b: Int) -> PairedComparison {
    PairedComparison(
      before: stages[a].evaluation.judgements, after: stages[b].evaluation.judgements,
      seed: UInt64(settings.evaluation_seed))
  }
}

/// Its page and its summary, which claim no more than the intervals show.
struct ShortDemoReport {
  private let o: ShortDemoOutcome
  init(_ outcome: ShortDemoOutcome) { o = outcome }

  /// The comparisons that are reported: stages and a key.
  private var comparisons: [(from: Int, to: Int, key: String)] {
    let all = [
      (from: 0, to: 1, key: "distilled"), (from: 0, to: 2, key: "rewarded"),
      (from: 1, to: 2, key: "over_distilled"), (from: 1, to: 3, key: "control"),
      (from: 3, to: 2, key: "over_control"),
    ]
    return all.filter { max($0.from, $0.to) < o.stages.count }
  }

  /// Writes the page and `summary.json`. Returns the summary.
  func write(to folder: String) async throws -> JSONObject {
    try createFolder(folder)
    var page = HTML("PISCES demo, short video: a small UNet distilled to few steps with rewards")
    page.paragraph(verdict)
    page.heading("The first \(o.stages[0].evaluation.clips.count) prompts")
    page.cards(cards)
    for c in comparisons { table(c.from, c.to, on: &page) }
    page.heading("Training with rewards")
    page.charts(o.curves)
    page.heading("Time and memory")
    page.table(
      ["phase", "seconds", "peak tensor memory, MiB"],
      o.phases.map { [$0.name, DemoReport.short($0.seconds), "\($0.bytes >> 20)"] })
    page.paragraph(
      """
      \(DemoReport.short(o.seconds)) s in all, at most \(ProcessMemory.peak >> 20) MiB, \
      \(Machine.threads) threads, \(Machine.current.rawValue) kernels, \(o.machine).
      """
    )
    let summary = summary
    try OutputFile.write(JSONValue.object(summary).pretty + "\n", to: "\(folder)/summary.json")
    try page.write(to: "\(folder)/report.html")
    return summary
  }

  private var verdict: String {
    let parts = comparisons.compactMap { c -> String? in
      guard let x = o.change(from: c.from, to: c.to)[.semantic] else { return nil }
      let (a, b) = (o.stages[c.from], o.stages[c.to])
      return
        """
        \(a.name) (\(a.steps) steps) to \(b.name) (\(b.steps) steps) \
        \(DemoReport.short(x.before)) to \(DemoReport.short(x.after)), \(DemoReport.interval(x))
        """
    }
    return
      """
      The oracle's semantic score on \(o.settings.prompts) held-out prompts: \
      \(parts.joined(separator: "; ")).
      """
  }
  private var cards: [ClipCard] {
    let shown = o.stages[0].evaluation.clips.count
    return (0..<shown).map { i in
      let (a, b) = (
        o.stages[0].evaluation.judgements[i], o.stages[2].evaluation.judgements[i]
      )
      let marks = Judgement.Dimension.allCases.compactMap { d in
        d == .multi
          ? nil : a[d].flatMap { x in b[d].map { ClipCard.Mark("\(d)", before: x, after: $0) } }
      }
      return ClipCard(
        prompt: o.prompts[i].caption,
        clips: o.stages.map { ("\($0.name), \($0.steps) steps", $0.evaluation.clips[i]) },
        marks: marks)
    }
  }
  private func table(_ from: Int, _ to: Int, on page: inout HTML) {
    let change = o.change(from: from, to: to)
    page.heading("\(o.stages[from].name) to \(o.stages[to].name)")
    page.table(
      ["measure", "first", "second", "change"],
      Measure.allCases.compactMap { m in
        change[m].map {
          [
            "\(m)", DemoReport.short($0.before), DemoReport.short($0.after),
            DemoReport.interval($0),
          ]
        }
      })
  }

  /// `summary.json` (interfaces.md 12).
  private var summary: JSONObject {
    var s: JSONObject = [
      "seed": .integer(o.settings.seed), "prompts": .integer(o.settings.prompts),
      "evaluation_seed": .integer(o.settings.evaluation_seed),
    ]
    for c in comparisons {
      let change = o.change(from: c.from, to: c.to)
      var side: JSONObject = [
        "steps_before": .integer(o.stages[c.from].steps),
        "steps_after": .integer(o.stages[c.to].steps),
      ]
      for (key, measure) in [
        ("semantic", Measure.semantic), ("quality", .quality), ("all_right", .allRight),
      ] {
        if let x = change[measure] { side[key] = DemoOutcome.json(x) }
      }
      for r in DemoOutcome.rewards {
        if let a = o.stages[c.from].evaluation.rewards.flatMap(r.of),
          let b = o.stages[c.to].evaluation.rewards.flatMap(r.of)
        {
          side[r.key] = DemoOutcome.json(
            PairedComparison.mean(
              before: a, after: b, seed: UInt64(o.settings.evaluation_seed)))
        }
      }
      s[c.key] = .object(side)
    }
    s["seconds"] = .number(o.seconds)
    s["peak_resident_bytes"] = .integer(ProcessMemory.peak)
    return s
  }
}
