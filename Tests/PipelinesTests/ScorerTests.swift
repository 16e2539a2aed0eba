import Files
import Models
import Rewards
import TensorRuntime
import TestSupport
import Testing

@testable import Pipelines

/// What is decoded ahead and kept changes no score, and is used.
@Suite(.serialized) struct ScorerTests {
  private let folder: ScratchFolder
  private let model = try! RewardFolder("embedded:reward", frames: 9)
  init() throws { folder = try ScratchFolder() }

  private func clip(_ name: String, seed: UInt64) throws -> PairQueue.Pair {
    let pixels = Workspace().affineClamp(
      randomTensor(Shape(9, 3, 32, 32), seed: seed, type: .f32), alpha: 0.3, beta: 0.5, to: 0...1)
    try SafetensorsWriter.write([("pixels", pixels)], to: folder(name))
    return PairQueue.Pair(video: name, folder: folder.path, prompt: "a red star")
  }
  private func semantic(_ record: ScoreRecord) -> Double? { record.scores?.semantic }

  @Test func theNextVideoIsDecodedAhead() async throws {
    let (a, b) = (try clip("a.safetensors", seed: 1), try clip("b.safetensors", seed: 2))
    var alone = try Scorer(model, frames: 9)
    let expected = [
      semantic(try await alone.record(a)), semantic(try await alone.record(b)),
    ]
    #expect(expected[0] != nil && expected[0] != expected[1])
    var scorer = try Scorer(model, frames: 9)
    #expect(semantic(try await scorer.record(a, next: b)) == expected[0])
    #expect(scorer.ahead?.path == b.path)
    #expect(semantic(try await scorer.record(b, next: b)) == expected[1])
    #expect(scorer.ahead == nil)
    // A file that changes after it was decoded is read again.
    #expect(semantic(try await scorer.record(a, next: b)) == expected[0])
    _ = try await scorer.ahead?.video.value
    let other = try clip("b.safetensors", seed: 3)
    var fresh = try Scorer(model, frames: 9)
    let changed = semantic(try await fresh.record(other))
    #expect(changed != expected[1])
    #expect(semantic(try await scorer.record(b)) == changed)
  }

  @Test func featuresStayWithinTheirBudget() throws {
    let files = try (0..<4).map { i in
      try #require(FileIdentity(try clip("\(i).safetensors", seed: UInt64(i)).path))
    }
    let features = (0..<4).map { i in
      RewardModel.VideoFeatures(
        tokens: .full(Shape(1, 10, 8), Double(i)), projected: .zeros(Shape(1, 4)),
        unit: .zeros(Shape(1, 4)))
    }
    let one = 10 * 8 * 4 + 2 * 4 * 4
    var cache = FeatureCache(bytes: 2 * one)
    for i in 0..<2 { cache.keep(features[i], of: files[i]) }
    #expect(cache[files[0], returns: true]?.tokens.floats[0] == 0)
    // The one that was used longest ago goes.
    cache.keep(features[2], of: files[2])
    #expect(cache[files[1], returns: nil] == nil)
    // One that will not return is dropped as it is taken.
    #expect(cache[files[2], returns: false]?.tokens.floats[0] == 2)
    #expect(cache[files[2], returns: nil] == nil && cache[files[0], returns: nil] != nil)
    var none = FeatureCache(bytes: one - 1)
    none.keep(features[3], of: files[3])
    #expect(none[files[3], returns: nil] == nil)
  }
}
