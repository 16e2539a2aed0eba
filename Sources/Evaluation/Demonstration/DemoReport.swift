import Files
import TensorRuntime
import World

/// The demo's page: what a reader wants to see first at the top, tables and curves below. It claims
/// no more than the intervals show.
struct DemoReport {
  private let o: DemoOutcome
  init(_ outcome: DemoOutcome) { o = outcome }

  /// Writes the page, its pictures and `summary.json`. Returns the summary.
  func write(to folder: String) async throws -> JSONObject {
    try createFolder(folder)
    var page = HTML(
      """
      PISCES demo: a small text-to-video model, before and after post-training with \
      optimal-transport rewards
      """
    )
    page.paragraph(verdict)
    page.heading("The first \(o.before.unguided.clips.count) prompts, without guidance")
    page.cards(cards(guided: false))
    page.paragraph(tally(guided: false))
    page.heading("What changed on all \(o.settings.prompts) prompts")
    page.drawing(chart)
    if let text = controlled { page.paragraph(text) }
    page.beginDetails("The same prompts, each generator at its own best guidance")
    page.paragraph(tally(guided: true))
    page.cards(cards(guided: true))
    page.endDetails()
    for guided in [false, true] { table(guided, on: &page) }
    page.heading("OT map")
    page.table(["metric", "value"], o.map.map { [$0.name, Self.short($0.value)] })
    page.heading("Training")
    page.charts(o.curves)
    page.heading("Time and memory")
    page.table(
      ["phase", "seconds", "peak tensor memory, MiB"],
      o.phases.map { [$0.name, Self.short($0.seconds), "\($0.bytes >> 20)"] })
    page.paragraph(
      """
      \(Self.short(o.seconds)) s in all, at most \(ProcessMemory.peak >> 20) MiB, \
      \(Machine.threads) threads, \(Machine.current.rawValue) kernels, \(o.machine).
      """
    )
    let rows = zip(o.before.unguided.clips, o.after.unguided.clips).map { [$0, $1] }
    try ClipSheet.picture(rows).write(to: "\(folder)/samples.png")
    try await VideoWriter.write(
      ClipSheet.movie(rows), to: "\(folder)/samples.gif", framesPerSecond: 6)
    let summary = o.summary
    try OutputFile.write(JSONValue.object(summary).pretty + "\n", to: "\(folder)/summary.json")
    try page.write(to: "\(folder)/report.html")
    return summary
  }

  /// One sentence that claims no more than the intervals show.
  private var verdict: String {
    let s = o.settings
    func part(_ m: Measure, guided: Bool) -> String {
      guard let x = o.change(guided: guided)[m] else { return "could not be measured" }
      return
        "\(Self.word(x)) (\(Self.short(x.before)) to \(Self.short(x.after)), \(Self.interval(x)))"
    }
    return
      """
      On \(s.prompts) held-out prompts the oracle's semantic score \
      \(part(.semantic, guided: false)) without guidance and \(part(.semantic, guided: true)) 
      """
        + """
        at each one's best guidance (\(Self.short(s.guidance_before)) before, \
        \(Self.short(s.guidance_after)) after); its quality score \(part(.quality, guided: false)) \
        and 
        """
        + "\(part(.quality, guided: true))."
  }
  /// The change of the control, and what the rewards add to it.
  private var controlled: String? {
    let parts = [false, true].compactMap { guided -> String? in
      guard let own = o.controlChange(guided: guided)?[.semantic],
        let over = o.overControl(guided: guided)?[.semantic]
      else { return nil }
      return
        """
        \(guided ? "at its best guidance" : "without guidance") its semantic score \
        \(Self.word(own)) (\(Self.interval(own))), and above it the score of post-training \
        \(Self.word(over)) (\(Self.interval(over)))
        """
    }
    return parts.isEmpty
      ? nil
      : """
      The control takes the same steps on samples of its own, with flow matching in the place of \
      the rewards: \(parts.joined(separator: "; ")).
      """
  }
  private var chart: String {
    var rows: [ChangeChart.Row] = []
    for (name, measure) in [("semantic", Measure.semantic), ("quality", .quality)] {
      for guided in [false, true] {
        guard let c = o.change(guided: guided)[measure] else { continue }
        rows.append(
          .init(
            "\(name), \(guided ? "best guidance" : "no guidance")", before: c.before,
            after: c.after, control: o.overControl(guided: guided)?[measure]?.before,
            note: Self.interval(c)))
      }
    }
    return ChangeChart(rows).svg()
  }
  private func tally(guided: Bool) -> String {
    let a = o.before[guided].judgements.map(\.isAllRight)
    let b = o.after[guided].judgements.map(\.isAllRight)
    let pairs = zip(a, b)
    return
      """
      Of all \(a.count) prompts \(a.count { $0 }) were wholly right before and \(b.count { $0 }) \
      are after: \(pairs.count { !$0 && $1 }) became right, \(pairs.count { $0 && !$1 }) became \
      wrong. 
      """
        + """
        ✓ and ✗ are the oracle's, which reads the pixels and knows nothing of the rewards; ½ is \
        one of two objects.
        """
  }
  private func cards(guided: Bool) -> [ClipCard] {
    let before = o.before[guided]
    let after = o.after[guided]
    return zip(before.clips, after.clips).enumerated().map { i, clips in
      let (a, b) = (before.judgements[i], after.judgements[i])
      let marks = Judgement.Dimension.allCases.compactMap { d in
        // With two objects, `multi` says no more than shape and colour.
        d == .multi
          ? nil : a[d].flatMap { x in b[d].map { ClipCard.Mark("\(d)", before: x, after: $0) } }
      }
      return ClipCard(
        prompt: o.prompts[i].caption, clips: [("before", clips.0), ("after", clips.1)], marks: marks
      )
    }
  }
  private func table(_ guided: Bool, on page: inout HTML) {
    let change = o.change(guided: guided)
    let over = o.overControl(guided: guided)
    page.heading(
      guided
        ? "Oracle and rewards at each one's best guidance" : "Oracle and rewards without guidance")
    page.table(
      ["measure", "before", "after", "change"]
        + (over == nil ? [] : ["control", "after - control"]),
      Measure.allCases.compactMap { m in
        guard let c = change[m] else { return nil }
        return ["\(m)", Self.short(c.before), Self.short(c.after), Self.interval(c)]
          + (over?[m].map { [Self.short($0.before), Self.interval($0)] } ?? [])
      })
    page.table(
      ["reward on the same samples", "before", "after", "change"],
      DemoOutcome.rewards.compactMap { r in
        o.reward(r.of, guided: guided).map {
          [r.name, Self.short($0.before), Self.short($0.after), Self.interval($0)]
        }
      })
    page.paragraph(
      """
      One fixed noise a prompt, \(o.settings.sampler_steps) Euler steps. Brackets are 95 % paired \
      bootstrap intervals over prompts; an interval that holds 0 shows no change.
      """
    )
  }

  private static func word(_ c: PairedComparison.Change) -> String {
    c.low > 0 ? "rose" : c.high < 0 ? "fell" : "did not change measurably"
  }
  static func interval(_ c: PairedComparison.Change) -> String {
    "\(c.difference >= 0 ? "+" : "")\(short(c.difference)) [\(short(c.low)), \(short(c.high))]"
  }
  /// A number with at most four decimals.
  static func short(_ x: Double) -> String {
    let text = "\((x * 10000).rounded() / 10000)"
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }
}
