import Layers
import Models
import Rewards
import TensorRuntime
import TestSupport
import Testing
import Transport

#if canImport(Glibc)
  import Glibc
#endif

/// Both rewards on a small model in double: values from their definitions, gradients against finite
/// differences, and what must not change them (algorithm.md 5, 14.6).
@Suite struct RewardModelTests {
  /// Three captions of different lengths; 11 is [CLS]. The last has no word.
  private static let rows: [[Int32]] = [[11, 3, 4, 5], [11, 7, 2], [11]]
  private static let clips = Shape(3, 2, 3, 20, 24)
  private static let special: Set<Int32> = [0, 11]
  private let pixels = Tensor(
    randomTensor(clips, seed: 1).doubles.map { 0.5 + 0.1 * $0 }, clips)

  /// T(y) = y M with a fixed matrix.
  private static let map: RewardModel.Map = { y, work in
    work.matmul(y, randomTensor(Shape(6, 6), seed: 2))
  }
  private static func reward(
    _ set: (inout RewardOptions) -> Void = { _ in }, map: RewardModel.Map? = map
  ) throws -> RewardModel {
    var options = RewardOptions()
    set(&options)
    return try RewardModel(
      try VideoTextModel(SmallModels.videoText, from: noisySource(seed: 3)), tokenizer: nil,
      map: map, options: options)
  }
  private static func batch(_ rows: [[Int32]] = rows) -> TokenBatch {
    TokenBatch(rows, special: special)
  }
  private func rows(_ t: Tensor) -> [[Double]] { (0..<t.shape[0]).map { t[row: $0].doubles } }
  private func unit(_ x: [Double]) -> [Double] {
    let norm = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return x.map { $0 / norm }
  }
  private func dot(_ a: [Double], _ b: [Double]) -> Double {
    zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
  }
  private func close(_ a: [Double], _ b: [Double], _ tolerance: Double = 1e-12) -> Bool {
    a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) < tolerance }
  }

  /// The plans of the fusion layers, as they were at the first pixels.
  private final class Plans {
    var layers: [Int: Tensor] = [:]
    func recording(_ prior: AttentionPrior) -> AttentionPrior {
      AttentionPrior(acts: prior.acts) { view, work in
        let plan = prior.plans(view, work)
        self.layers[view.layer] = plan
        return plan
      }
    }
    var frozen: AttentionPrior {
      AttentionPrior(acts: { self.layers[$0] != nil }) { view, _ in self.layers[view.layer]! }
    }
  }
  /// Both rewards from the encoders' outputs: ⟨v̂, ẑ⟩ and softmax(head([CLS]))[1].
  private func definition(
    _ reward: RewardModel, _ x: Tensor, _ captions: CaptionBatch, targets: [[Double]],
    prior: AttentionPrior?, in work: borrowing Workspace
  ) -> (quality: [Double], semantic: [Double]) {
    let input = PixelPreprocessing(size: 16).forward(x, in: work).y
    let video = reward.model.video.forward(input, in: work).output
    let quality = zip(rows(video.projected), targets).map { dot(unit($0), $1) }
    let hidden = reward.model.text.fusion(
      captions.hidden, captions.tokens, vision: video.tokens, prior: prior, in: work
    ).hidden
    let logits = reward.model.matchingHead(VideoTextModel.cls(hidden, in: work), in: work)
    return (quality, rows(logits).map { exp($0[1]) / (exp($0[0]) + exp($0[1])) })
  }

  @Test(arguments: [true, false]) func valuesAndGradients(_ useTransport: Bool) throws {
    let work = Workspace()
    var reward = try Self.reward { $0.useTransport = useTransport }
    let captions = reward.captions(Self.batch(), in: work)
    // ŷ of the caption's feature; with transport the unit vector of T(ŷ).
    let y = rows(captions.feature).map(unit)
    let mapped = rows(Self.map(Tensor(y.flatMap { $0 }, Shape(3, 6)), work)).map(unit)
    let targets = useTransport ? mapped : y

    let plans = Plans()
    let prior = useTransport ? plans.recording(reward.prior()) : nil
    let expected = definition(reward, pixels, captions, targets: targets, prior: prior, in: work)
    let (scores, saved) = reward.forward(pixels, captions, in: work)
    #expect(close(scores.quality, expected.quality) && close(scores.semantic, expected.semantic))
    #expect(plans.layers.count == (useTransport ? 1 : 0))

    // Plans are constants for differentiation (algorithm.md 4.6).
    let weights = (quality: [0.8, -1.1, 0.6], semantic: [2.0, 1.5, -3.0])
    let gradient = reward.backward(
      dQuality: weights.quality, dSemantic: weights.semantic, saved, in: work)
    let fixed = reward
    let none = [0.0, 0, 0]
    let parts: [(gradient: Tensor, weights: (quality: [Double], semantic: [Double]))] = [
      (gradient, weights),
      (
        reward.backward(dQuality: weights.quality, dSemantic: [], saved, in: work),
        (weights.quality, none)
      ),
      (
        reward.backward(dQuality: [], dSemantic: weights.semantic, saved, in: work),
        (none, weights.semantic)
      ),
    ]
    for (part, w) in parts {
      let u = randomTensor(Self.clips, seed: 5)
      let numeric = directionalDerivative(pixels.doubles, along: u.doubles, step: 1e-4) {
        let s = definition(
          fixed, Tensor($0, Self.clips), captions, targets: targets,
          prior: useTransport ? plans.frozen : nil, in: work)
        return dot(w.quality, s.quality) + dot(w.semantic, s.semantic)
      }
      let analytic = work.dot(part, u)
      #expect(abs(analytic - numeric) < 1e-7 * (0.01 + abs(numeric)), "\(analytic), \(numeric)")
    }
    #expect(
      reward.backward(dQuality: [0, 0, 0], dSemantic: [], saved, in: work).doubles
        .allSatisfy { $0 == 0 })
  }

  /// A pair's rewards depend on the pair alone: not on order, batch or padding.
  @Test(arguments: [true, false]) func pairsAreIndependent(_ useTransport: Bool) throws {
    let work = Workspace()
    let reward = try Self.reward { $0.useTransport = useTransport }
    let all = reward.captions(Self.batch(), in: work)
    let scores = reward.forward(pixels, all, in: work).scores
    let order = [2, 0, 1]
    let turned = reward.forward(
      work.stacked(order.map { pixels[row: $0] }), all.selecting(order, in: work), in: work
    ).scores
    #expect(close(turned.quality, order.map { scores.quality[$0] }))
    #expect(close(turned.semantic, order.map { scores.semantic[$0] }))
    for b in 0..<3 {
      let alone = reward.forward(
        pixels.slice(b..<b + 1), reward.captions(Self.batch([Self.rows[b]]), in: work), in: work
      ).scores
      #expect(close(alone.quality, [scores.quality[b]]))
      #expect(close(alone.semantic, [scores.semantic[b]]))
    }
    // Captions computed apart and joined: the shorter ones are padded.
    let joined = CaptionBatch(
      joining: [[1, 2], [0]].map { (part: [Int]) in
        reward.captions(Self.batch(part.map { Self.rows[$0] }), in: work)
      }, in: work)
    let again = reward.forward(
      work.stacked([1, 2, 0].map { pixels[row: $0] }), joined, in: work
    ).scores
    #expect(close(again.quality, [1, 2, 0].map { scores.quality[$0] }))
    #expect(close(again.semantic, [1, 2, 0].map { scores.semantic[$0] }))
  }

  /// Plans change the semantic reward of captions with words, and of no other (D-30); a plan in the
  /// last layer never reaches the matching head.
  @Test func wherePlansAct() throws {
    let work = Workspace()
    let reward = try Self.reward()
    let plain = try Self.reward { $0.useTransport = false }
    let captions = reward.captions(Self.batch(), in: work)
    let a = reward.forward(pixels, captions, in: work).scores.semantic
    let b = plain.forward(pixels, captions, in: work).scores.semantic
    #expect(abs(a[0] - b[0]) > 1e-6 && abs(a[1] - b[1]) > 1e-6 && abs(a[2] - b[2]) < 1e-12)

    let video = reward.videos(pixels, in: work)
    func cls(_ prior: AttentionPrior) -> Tensor {
      VideoTextModel.cls(
        reward.model.text.fusion(
          captions.hidden, captions.tokens, vision: video.tokens, prior: prior, in: work
        ).hidden, in: work)
    }
    #expect(reward.prior().acts(1) && !reward.prior().acts(2))
    let everywhere = reward.prior(lastLayer: true)
    #expect(everywhere.acts(2))
    #expect(close(cls(everywhere).doubles, cls(reward.prior()).doubles))
    // [CLS] with a plan of its own, and layers that were chosen.
    #expect(try Self.reward { $0.plans.includeCLS = true }.prior().acts(2))
    #expect(try !Self.reward { $0.plans.layers = [2] }.prior().acts(1))
  }

  /// One pass of the video encoder gives the rewards with and without transport.
  @Test func allScoresAreThoseOfBothModels() throws {
    let work = Workspace()
    let reward = try Self.reward()
    let plain = try Self.reward { $0.useTransport = false }
    let captions = reward.captions(Self.batch(), in: work)
    let video = reward.videos(pixels, in: work)
    let all = reward.allScores(
      video, reward.fusion(of: video, in: work), withTransport: captions, plain: captions, in: work)
    let with = reward.forward(pixels, captions, in: work).scores
    let without = plain.forward(pixels, captions, in: work).scores
    #expect(close(try #require(all.quality), with.quality) && close(all.semantic, with.semantic))
    #expect(
      close(all.vanillaQuality, without.quality) && close(all.vanillaSemantic, without.semantic))
    // Without a map there is no quality reward with transport.
    let bare = try Self.reward(map: nil)
    let own = bare.captions(Self.batch(), in: work)
    #expect(
      bare.allScores(
        video, bare.fusion(of: video, in: work), withTransport: own, plain: own, in: work
      )
      .quality == nil)
    #expect(close(bare.forward(pixels, own, in: work).scores.quality, without.quality))
  }

  @Test func oneRewardAlone() throws {
    let work = Workspace()
    let both = try Self.reward()
    let captions = both.captions(Self.batch(), in: work)
    let scores = both.forward(pixels, captions, in: work).scores
    let quality = try Self.reward { $0.semantic = false }.forward(pixels, captions, in: work).scores
    let semantic = try Self.reward { $0.quality = false }.forward(pixels, captions, in: work).scores
    #expect(quality.quality == scores.quality && quality.semantic.isEmpty)
    #expect(semantic.semantic == scores.semantic && semantic.quality.isEmpty)
  }

  /// 300 tokens with plans, 40 without (D-3), and never more than the model has positions.
  @Test func lengthOfCaptions() throws {
    let tokenizer = try WordPieceTokenizer(vocabulary: ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    var config = SmallModels.videoText
    let caption = Array(repeating: "a", count: 50).joined(separator: " ")
    for (positions, useTransport, semantic, read) in [
      (64, true, true, 51), (64, false, true, 40), (64, true, false, 40), (12, true, true, 12),
    ] {
      config.textEncoder.maxPositionEmbeddings = positions
      var options = RewardOptions()
      (options.useTransport, options.semantic) = (useTransport, semantic)
      let reward = try RewardModel(
        try VideoTextModel(config, from: .random(seed: 1)), tokenizer: tokenizer, map: nil,
        options: options)
      #expect(reward.tokens([caption]).counts == [Int32(read)])
      #expect((reward.truncation(of: caption) == nil) == (read == 51))
      #expect(reward.truncation(of: "a a") == nil)
    }
  }
}
