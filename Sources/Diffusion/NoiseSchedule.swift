/// The discrete levels of flow matching and their phases (algorithm.md 7.2, 7.3). A level σ mixes x
/// = σ ε + (1-σ) z.
public struct NoiseSchedule: Sendable, Equatable {
  /// The end level of the one-step prediction to clean data (D-15): the first entry of the table
  /// (released), or exactly 0.
  public enum End: String, Sendable, Codable, CaseIterable { case first, zero }

  public let shift: Double
  /// σ_i, in ascending order, and σ'_i, the level one Euler step below.
  public let sigmas, previous: [Double]

  /// `steps` Euler levels out of `trainingSteps` (T) table entries s_t = shift (t/T) / (1 +
  /// (shift-1) t/T).
  public init(shift: Double = 17, trainingSteps: Int = 1000, steps: Int = 50, end: End = .first) {
    precondition(steps > 0 && trainingSteps % steps == 0, "\(steps) levels out of \(trainingSteps)")
    self.shift = shift
    let ratio = trainingSteps / steps
    // The table is f32 in every implementation. Network times are 1000 times these values.
    let table = (1...trainingSteps).map {
      Double(Float(Self.shifted(Double($0) / Double(trainingSteps), shift)))
    }
    sigmas = (0..<steps).map { table[ratio * ($0 + 1) - 1] }
    previous = (0..<steps).map { $0 == 0 ? (end == .zero ? 0 : table[0]) : table[ratio * $0 - 1] }
  }
  public var count: Int { sigmas.count }

  /// shift u / (1 + (shift - 1) u).
  public static func shifted(_ u: Double, _ shift: Double) -> Double {
    shift * u / (1 + (shift - 1) * u)
  }

  /// End index of level i with P phases: the largest phase start floor(p n / P) that is at most i.
  public func phaseEnd(_ i: Int, phases: Int) -> Int {
    (0..<phases).map { $0 * count / phases }.last { $0 <= i }!
  }
  /// End level σ'_{e(i)} of the consistency predictions.
  public func endLevel(_ i: Int, phases: Int) -> Double { previous[phaseEnd(i, phases: phases)] }
  /// End level σ'_0 of the prediction the rewards see.
  public var cleanLevel: Double { previous[0] }

  /// The descending levels of an Euler sampler with S steps: σ_0 = 1 ... σ_S = 0 (algorithm.md
  /// 7.8).
  public static func samplerLevels(steps: Int, shift: Double) -> [Double] {
    (0...steps).map { shifted(1 - Double($0) / Double(steps), shift) }
  }
  /// The levels of the PCM scheduler: `steps` of the table's, largest first, then 0.
  public func pcmLevels(steps: Int) -> [Double] {
    let descending = Array(sigmas.reversed())
    return (0..<steps).map { descending[$0 * count / steps] } + [0]
  }
}

/// "4000-1,8000-2": comma-separated `step-phases`. The first entry whose step is at least the
/// current step (1-based) holds.
public struct PhaseSchedule: Sendable, Equatable {
  public let entries: [(step: Int, phases: Int)]
  public static func == (a: Self, b: Self) -> Bool {
    a.entries.elementsEqual(b.entries) { $0 == $1 }
  }
  public init?(_ text: String) {
    var list: [(Int, Int)] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let pair = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
      guard pair.count == 2, let s = pair[0], let p = pair[1], s > 0, p > 0 else { return nil }
      list.append((s, p))
    }
    entries = list
  }
  public func phases(step: Int) -> Int {
    (entries.first { $0.step >= step } ?? entries.last!).phases
  }
}
