public import Rewards
public import TensorRuntime
public import World

/// The matching head on held-out clips with correct captions, shuffled ones, and ones with one
/// attribute swapped.
public struct MatchingEvaluation: Sendable {
  public struct Side: Sendable {
    /// Share judged correctly at the threshold 1/2.
    public var positives, shuffled, swapped: Double
    /// Area under the ROC curve of P(match) for correct against shuffled or swapped captions.
    public var aucShuffled, aucSwapped: Double
  }
  public let withTransport, plain: Side

  public init(
    _ reward: RewardModel, _ sampler: SceneSampler, _ renderer: Renderer, count: Int, seed: UInt64,
    in work: borrowing Workspace
  ) {
    var withTransport: [[Double]] = [[], [], []]
    var plain = withTransport
    var stream = RandomStream(seed: seed, .evaluation)
    for start in stride(from: 0, to: count, by: 32) {
      let range = start..<min(start + 32, count)
      let scenes = range.map { sampler.heldOut($0) }
      let videos = reward.videos(renderer.render(scenes, in: work), in: work)
      let fusion = reward.fusion(of: videos, in: work)
      let right = scenes.map { CaptionGrammar.caption($0.description, drawing: &stream) }
      let shuffled = scenes.indices.map { i in right[(i + scenes.count / 2) % scenes.count] }
      let swapped = scenes.map {
        CaptionGrammar.caption(
          $0.description.swapped(drawing: &stream).description, drawing: &stream)
      }
      for (k, captions) in [right, shuffled, swapped].enumerated() {
        let c = reward.captions(captions, in: work)
        let s = reward.allScores(videos, fusion, withTransport: c, plain: c, in: work)
        withTransport[k] += s.semantic
        plain[k] += s.vanillaSemantic
      }
    }
    (self.withTransport, self.plain) = (Self.side(withTransport), Self.side(plain))
  }
  private static func side(_ p: [[Double]]) -> Side {
    func share(_ x: [Double], _ test: (Double) -> Bool) -> Double {
      Double(x.count(where: test)) / Double(max(x.count, 1))
    }
    return Side(
      positives: share(p[0]) { $0 > 0.5 }, shuffled: share(p[1]) { $0 <= 0.5 },
      swapped: share(p[2]) { $0 <= 0.5 }, aucShuffled: areaUnderCurve(p[0], p[1]),
      aucSwapped: areaUnderCurve(p[0], p[2]))
  }
  /// P(positive > negative). Ties count one half.
  static func areaUnderCurve(_ positive: [Double], _ negative: [Double]) -> Double {
    let n = negative.sorted()
    func below(_ x: Double, orEqual: Bool) -> Int {
      var lo = 0
      var hi = n.count
      while lo < hi {
        let mid = (lo + hi) / 2
        if n[mid] < x || orEqual && n[mid] == x { lo = mid + 1 } else { hi = mid }
      }
      return lo
    }
    let wins = positive.reduce(0.0) {
      $0 + 0.5 * Double(below($1, orEqual: false) + below($1, orEqual: true))
    }
    return wins / Double(max(positive.count * n.count, 1))
  }
}
