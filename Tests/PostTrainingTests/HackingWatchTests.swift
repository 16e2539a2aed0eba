import Models
import Testing

@testable import PostTraining

/// What is called hacking.
@Suite struct HackingWatchTests {
  @Test func judgement() {
    func judge(_ reward: [Double], _ heldOut: [Double]) -> HackingWatch<VideoTransformer>.Finding {
      HackingWatch<VideoTransformer>.judge(reward: reward, heldOut: heldOut, limit: 0.5)
    }
    let up = (0..<20).map { 0.1 + 0.01 * Double($0 % 5) }
    let down = up.map { -$0 }
    let none = (0..<20).map { $0 % 2 == 0 ? 0.1 : -0.1 }
    #expect(!judge(up, up).isHacking && judge(up, up).share == 0)
    #expect(judge(up, down).isHacking && judge(up, down).share == 1)
    // A held-out reward that stays while half of the samples lose, and one more than half.
    #expect(!judge(up, none).isHacking && judge(up, none).share == 0.5)
    #expect(judge(up, none.enumerated().map { $0 == 0 ? -0.1 : $1 }).isHacking)
    // Nothing was gained: a failure, not hacking.
    #expect(!judge(down, down).isHacking && !judge(none, down).isHacking)
    #expect(
      abs(judge(up, down).reward - 0.12) < 1e-12 && abs(judge(up, down).heldOut + 0.12) < 1e-12)
  }
}
