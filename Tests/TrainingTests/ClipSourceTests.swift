import Files
import Models
import TensorRuntime
import TestSupport
import Testing
import World

@testable import Training

/// What training is shown: clips and captions by number, weights of pixels, masked words.
@Suite struct ClipSourceTests {
  private let world = ClipSource.world(
    SceneSampler(seed: 3), Renderer(Canvas(height: 16, width: 16, frames: 5)))
  private let captions = ["one", "two", "three"]
  private var own: ClipSource {
    .clips((0..<3).map { .full(Shape(5, 3, 16, 16), Double($0)) }, captions: captions)
  }

  /// Clip i depends on the source and i alone; the user's clips repeat.
  @Test func clipsByNumber() {
    let work = Workspace()
    let two = world.clips([5, 2], in: work)
    #expect(two[row: 1].floats == world.clips([2], in: work).floats)
    #expect(two[row: 0].floats != two[row: 1].floats && world.canvas == (5, 16, 16))
    let repeated = own.clips([4, 0, 2], in: work)
    #expect((0..<3).map { repeated[row: $0].floats[7] } == [1, 0, 2])
    #expect(own.identities([4, 0, 2]) == ["two", "one", "three"] && own.canvas == (5, 16, 16))
    var stream = RandomStream(seed: 1, .caption)
    #expect(own.captions([4, 0, 2], drawing: &stream) == ["two", "one", "three"])
    #expect(own.swappedCaptions([0], drawing: &stream) == nil)
  }
  /// Captions of the world say what the clip shows; noise makes its share of them wrong.
  @Test func captionsOfTheWorld() throws {
    guard case .world(let sampler, _) = world else { return }
    func right(_ noise: Double) throws -> Int {
      var stream = RandomStream(seed: 2, .caption)
      let captions = world.captions(Array(0..<200), noise: noise, drawing: &stream)
      return try captions.enumerated().count { i, caption in
        try CaptionGrammar.parse(caption) == sampler.training(i).description
      }
    }
    #expect(try right(0) == 200 && right(1) == 0)
    // 200 draws with probability .25: within four deviations of 150.
    #expect(try abs(right(0.25) - 150) < 25)
    try world.check(noise: 0.5)
    #expect(throws: ConfigurationError.self) { try self.own.check(noise: 0.5) }
  }

  /// A pixel that differs from the clip's median colour by more than 1/4, and its neighbours, weigh
  /// more.
  @Test func foregroundWeights() {
    let work = Workspace()
    var pixels = [Float](repeating: 0.25, count: 2 * 3 * 6 * 6)
    func at(_ frame: Int, _ channel: Int, _ row: Int, _ column: Int) -> Int {
      ((frame * 3 + channel) * 6 + row) * 6 + column
    }
    pixels[at(1, 2, 0, 5)] = 0.9
    pixels[at(0, 1, 3, 3)] = 0.45
    let weights = ForegroundWeights.compute(
      Tensor(pixels, Shape(1, 2, 3, 6, 6)), weight: 5, in: work
    ).floats
    var expected = pixels.map { _ in Float(1) }
    for c in 0..<3 { for r in 0...1 { for k in 4...5 { expected[at(1, c, r, k)] = 5 } } }
    #expect(weights == expected)
  }

  /// Every hidden word is a word, stands in the targets with its place, and every caption that has
  /// words has a hidden one.
  @Test(arguments: [0.0, 0.4, 1.0]) func maskedWords(_ share: Double) throws {
    let tokenizer = try WordPieceTokenizer(vocabulary: ["[PAD]", "[UNK]", "[CLS]", "[MASK]", "a"])
    let rows: [[Int32]] = Array(repeating: [2, 4, 4, 1, 4], count: 200) + [[2]]
    var stream = RandomStream(seed: 4, .masking)
    let (masked, targets) = MaskedWords.draw(rows, tokenizer, mask: 3, share: share, from: &stream)
    var restored = masked
    for t in targets {
      #expect(masked[t.row][t.position] == 3 && t.position > 0)
      restored[t.row][t.position] = t.id
    }
    #expect(restored == rows && masked.joined().count { $0 == 3 } == targets.count)
    #expect((0..<200).allSatisfy { row in targets.contains { $0.row == row } })
    // 4 words in each of 200 captions; a caption without a hidden word gets one.
    let expected = 200 * (4 * share + (share == 0.4 ? 0.6 * 0.6 * 0.6 * 0.6 : share == 0 ? 1 : 0))
    #expect(abs(Double(targets.count) - expected) < 4 * 14.0)
  }
}
