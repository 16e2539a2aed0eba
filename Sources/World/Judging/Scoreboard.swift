/// A measure of a set of judged clips.
public enum Measure: Hashable, Sendable, CaseIterable, CustomStringConvertible {
  /// Mean of the means of the seven dimensions, without dimensions that no clip has.
  case semantic
  /// Mean over clips of the mean of the clip's own dimensions.
  case clipSemantic
  /// Mean of the six quality dimensions.
  case quality
  /// Share of clips with every dimension right.
  case allRight
  case dimension(Judgement.Dimension)
  case qualityDimension(Quality.Dimension)

  public static let allCases: [Measure] =
    [.semantic, .clipSemantic, .quality, .allRight]
    + Judgement.Dimension.allCases.map { .dimension($0) }
    + Quality.Dimension.allCases.map { .qualityDimension($0) }

  public var description: String {
    switch self {
    case .semantic: "semantic"
    case .clipSemantic: "clip_semantic"
    case .quality: "quality"
    case .allRight: "all_right"
    case .dimension(let d): "\(d)"
    case .qualityDimension(let d): "\(d)"
    }
  }
}

/// A summary of judged clips in the manner of VBench (Huang et al. 2024, arXiv:2311.17982): for
/// each dimension the mean over clips, and means of those.
public struct Scoreboard: Sendable {
  private var sums = SIMD16<Double>.zero, counts = SIMD16<Double>.zero

  public init(_ judgements: some Sequence<Judgement> = []) {
    for judgement in judgements { add(Row(judgement)) }
  }

  /// A judgement as a row of numbers: seven dimensions, six qualities, the clip's semantic mean,
  /// all right.
  struct Row: Sendable {
    var values = SIMD16<Double>.zero, counts = SIMD16<Double>.zero
    init(_ judgement: Judgement) {
      func set(_ column: Int, _ value: Double?) {
        if let value { (values[column], counts[column]) = (value, 1) }
      }
      for d in Judgement.Dimension.allCases { set(d.rawValue, judgement[d]) }
      for d in Quality.Dimension.allCases { set(7 + d.rawValue, judgement.quality[d]) }
      set(13, judgement.semantic)
      set(14, judgement.isAllRight ? 1 : 0)
    }
  }
  mutating func add(_ row: Row) {
    sums += row.values
    counts += row.counts
  }

  /// The measure; nil if no clip has it.
  public subscript(measure: Measure) -> Double? {
    switch measure {
    case .dimension(let d): mean(d.rawValue)
    case .qualityDimension(let d): mean(7 + d.rawValue)
    case .clipSemantic: mean(13)
    case .allRight: mean(14)
    case .semantic: mean(of: 0..<7)
    case .quality: mean(of: 7..<13)
    }
  }
  private func mean(_ column: Int) -> Double? {
    counts[column] > 0 ? sums[column] / counts[column] : nil
  }
  private func mean(of columns: Range<Int>) -> Double? {
    let means = columns.compactMap { mean($0) }
    return means.isEmpty ? nil : means.reduce(0, +) / Double(means.count)
  }
}
