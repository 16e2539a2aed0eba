import TensorRuntime
import Testing
import World

@Suite struct ScoreboardTests {
  /// A reading of a large red circle moving left, judged right or wrong in colour.
  private func judgements(_ right: [Bool]) -> [Judgement] {
    let object = ShapeObject(
      shape: .circle, colour: .red, size: .large, motion: .left, radius: (7, 7),
      travel: SIMD2(-9, 0))
    let truth = SceneDescription(ObjectDescription(.red, .circle, motion: .left))
    let wrong = SceneDescription(ObjectDescription(.blue, .circle, motion: .left))
    let scene = Scene(objects: [object], background: Background(level: 0.2), description: truth)
    let reading = Oracle().read(Renderer().render(scene, in: Workspace()))
    return right.map { Judgement(reading, against: $0 ? truth : wrong) }
  }

  @Test func meansAreThoseOfVBench() {
    let board = Scoreboard(judgements([true, false, false, true, false]))
    #expect(
      board[.dimension(.colour)] == 0.4 && board[.dimension(.shape)] == 1
        && board[.dimension(.relation)] == nil)
    #expect(abs(board[.semantic]! - (0.4 + 3) / 4) < 1e-12)  // colour, shape, motion, count
    #expect(abs(board[.clipSemantic]! - (2 + 3 * 0.75) / 5) < 1e-12)
    #expect(board[.allRight] == 0.4)
    #expect(Scoreboard()[.semantic] == nil)
  }

  @Test func theIntervalIsThatOfTheBinomial() throws {
    // 30 of 100 clips become right: the normal interval is .3 ± 1.96 √(.3 · .7/100) = [.210, .390].
    let comparison = PairedComparison(
      before: judgements(Array(repeating: false, count: 100)),
      after: judgements((0..<100).map { $0 % 10 < 3 }), seed: 1)
    let change = try #require(comparison[.dimension(.colour)])
    #expect(
      change.before == 0 && abs(change.after - 0.3) < 1e-12 && abs(change.difference - 0.3) < 1e-12)
    #expect(abs(change.low - 0.210) < 0.015 && abs(change.high - 0.390) < 0.015)
    let same = try #require(comparison[.dimension(.shape)])
    #expect(same.low == 0 && same.high == 0)
    #expect(comparison[.dimension(.multi)] == nil)
  }

  @Test func theIntervalIsPairedAndSeeded() throws {
    // Half of the clips are hard in both sets: paired, their spread cancels; the one that changed
    // is all there is.
    let before = judgements((0..<60).map { $0 % 2 == 0 })
    let after = judgements((0..<60).map { $0 % 2 == 0 || $0 == 1 })
    let a = try #require(PairedComparison(before: before, after: after, seed: 4)[.allRight])
    #expect(a.low == 0 && a.high <= 4.0 / 60 && a.high >= 2.0 / 60)
    let again = try #require(PairedComparison(before: before, after: after, seed: 4)[.allRight])
    #expect(again.low == a.low && again.high == a.high)
  }
}
