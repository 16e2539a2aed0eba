import Benchmarking
import Testing

@Suite struct ScalingPlanTests {
  let plan = ScalingPlan(
    seconds: 10, leaves: 8, parameters: 10_000_000, peakBytes: 1 << 30, gradientBytes: 44_000_000,
    sharedBytes: 46_000_000, checkpointBytes: 120 << 20, latency: 1e-3, bytesPerSecond: 1e8,
    memoryRate: 1e10, fileRate: 1e9)

  /// One node is the run itself.
  @Test func oneNodeIsTheRun() {
    let one = plan[1]!
    #expect(abs(one.seconds - 10) < 1e-9 && one.exchange == 0 && one.bytesSent == 0)
    #expect(abs(one.efficiency - 1) < 1e-9 && one.peakBytes == 1 << 30)
  }
  /// Written out by hand: an update of 7 x 40 MB at 10 GB/s, four leaves a node, one root and the
  /// values over the link.
  @Test func twoNodes() {
    let two = plan[2]!
    let update = 0.028
    let compute = 4 * (10 - update) / 8 + update / 2
    let bytes = 4e7 / 2 * 2
    let exchange = bytes / 1e8 + 3 * bytes / 1e10 + 7e-3
    #expect(abs(two.compute - compute) < 1e-9 && two.bytesSent == Int(bytes))
    #expect(abs(two.exchange - exchange) < 1e-9)
    #expect(abs(two.seconds - 1.02 * (compute + exchange)) < 1e-9)
    // Half of the moments, and one gradient of four fewer.
    #expect(two.peakBytes == 1 << 30 - 23_000_000 - 44_000_000)
  }
  /// Values of half the bytes are sent.
  @Test func roundedParameters() {
    var rounded = plan
    rounded.parameterBytes = 2
    #expect(rounded[1]! == plan[1]!)
    #expect(rounded[2]!.bytesSent == Int(4e7 / 2 * 1.5))
  }
  /// Four gradients over the link instead of one root. In memory the last leaf's and halves of two
  /// instead of three.
  @Test func early() {
    var early = plan
    early.sendsEarly = true
    #expect(early[1]! == plan[1]!)
    #expect(early[2]!.bytesSent == Int(4e7 / 2 * 5))
    #expect(early[2]!.peakBytes == plan[2]!.peakBytes - 44_000_000)
  }
  /// Three nodes have two or three leaves, which are two subtrees at most.
  @Test func unevenShares() {
    let three = plan[3]!
    #expect(three.bytesSent == Int(4e7 * 2 / 3 * 3))
    #expect(three.compute > plan[4]!.compute)
  }
  @Test func moreNodesThanLeaves() {
    #expect(plan[8] != nil && plan[9] == nil && plan[0] == nil)
  }
}
