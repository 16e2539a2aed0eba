internal import TensorRuntime

/// Changes between two sets of clips for the same prompts, with bootstrap intervals (Efron 1979,
/// percentile method). Prompts are drawn with replacement, with both clips of a prompt together.
public struct PairedComparison: Sendable {
  public struct Change: Sendable {
    public var before: Double, after: Double
    /// after − before, and the ends of its confidence interval.
    public var difference: Double, low: Double, high: Double
  }
  private var changes: [Measure: Change] = [:]

  /// Judgements of the same prompts in the same order.
  public init(
    before: [Judgement], after: [Judgement], seed: UInt64, resamples: Int = 2000,
    confidence: Double = 0.95
  ) {
    precondition(
      before.count == after.count && !before.isEmpty,
      "\(before.count) clips before, \(after.count) after")
    precondition(
      resamples > 1 && confidence > 0 && confidence < 1,
      "\(resamples) resamples at confidence \(confidence)")
    let rows = zip(before, after).map { (Scoreboard.Row($0), Scoreboard.Row($1)) }
    var stream = RandomStream(seed: seed, .bootstrap)
    let boards = (0..<resamples).map { _ in
      var first = Scoreboard()
      var second = Scoreboard()
      for _ in rows {
        let row = rows[stream.below(rows.count)]
        first.add(row.0)
        second.add(row.1)
      }
      return (first, second)
    }
    let (first, second) = (Scoreboard(before), Scoreboard(after))
    for measure in Measure.allCases {
      guard let a = first[measure], let b = second[measure] else { continue }
      let differences = boards.compactMap { x, y in
        x[measure].flatMap { x in y[measure].map { $0 - x } }
      }.sorted()
      let tail = (1 - confidence) / 2
      changes[measure] = Change(
        before: a, after: b, difference: b - a, low: Self.quantile(differences, tail),
        high: Self.quantile(differences, 1 - tail))
    }
  }

  /// The change of a mean: `before[i]` and `after[i]` belong to the same prompt.
  public static func mean(
    before: [Double], after: [Double], seed: UInt64, resamples: Int = 2000,
    confidence: Double = 0.95
  ) -> Change {
    precondition(
      before.count == after.count && !before.isEmpty,
      "\(before.count) values before, \(after.count) after")
    let steps = zip(before, after).map { $1 - $0 }
    let n = Double(steps.count)
    var stream = RandomStream(seed: seed, .bootstrap)
    let means = (0..<resamples).map { _ in
      steps.reduce(0) { sum, _ in sum + steps[stream.below(steps.count)] } / n
    }.sorted()
    let tail = (1 - confidence) / 2
    return Change(
      before: before.reduce(0, +) / n, after: after.reduce(0, +) / n,
      difference: steps.reduce(0, +) / n, low: quantile(means, tail),
      high: quantile(means, 1 - tail))
  }

  /// nil if no clip has the measure.
  public subscript(measure: Measure) -> Change? { changes[measure] }

  /// Linear interpolation between the order statistics (type 7 of Hyndman and Fan 1996, numpy's
  /// default).
  private static func quantile(_ sorted: [Double], _ p: Double) -> Double {
    let at = p * Double(sorted.count - 1)
    let low = Int(at)
    return sorted[low] + (at - Double(low)) * (sorted[min(low + 1, sorted.count - 1)] - sorted[low])
  }
}
