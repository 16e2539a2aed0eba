import Diffusion
import Files
import Layers
import Models
import Pipelines
import Rewards
import TensorRuntime
import TestSupport
import Testing
import World

@testable import Evaluation

#if canImport(Glibc)
  import Glibc
#endif

/// The evaluations on small untrained networks: each number against its definition, and no number
/// depends on how samples are batched.
@Suite struct EvaluationTests {
  private static let sampler = SceneSampler(seed: 5)
  private static let renderer = Renderer(Canvas(height: 16, width: 16, frames: 5))
  private static let prompts = sampler.heldOutPrompts(count: 5)
  private static let captions = prompts.map(\.caption)
  private static let flow = FlowSampler(steps: 2, shift: 3, guidanceScale: 2)

  /// f32 parameters without zeros.
  private static func parameters(_ seed: UInt64) -> ParameterSource {
    let double = noisySource(seed: seed)
    return ParameterSource { name, shape, initial, _ in
      Workspace().converted(try double(name, shape, initial).value, to: .f32)
    }
  }
  private static var videoText: VideoTextConfig {
    var c = SmallModels.videoText
    c.visionEncoder.numFrames = 5
    c.textEncoder.vocabSize = CaptionGrammar.vocabulary().count
    (c.textEncoder.maxPositionEmbeddings, c.maxTxtL) = (24, 24)
    return c
  }
  private static func reward(useTransport: Bool = true) throws -> RewardModel {
    var options = RewardOptions()
    options.useTransport = useTransport
    return try RewardModel(
      try VideoTextModel(videoText, from: parameters(1)),
      tokenizer: try WordPieceTokenizer(vocabulary: CaptionGrammar.vocabulary()), map: nil,
      options: options)
  }
  private static func promptEncoder() throws -> PromptEncoder {
    var c = videoText.textEncoder
    c.numHiddenLayers = c.fusionLayer
    return PromptEncoder(
      encoder: try TextEncoder(c, from: parameters(2)),
      tokenizer: try WordPieceTokenizer(vocabulary: CaptionGrammar.vocabulary()), maxLength: 24)
  }
  private static func decoder() throws -> LatentDecoder {
    LatentDecoder(
      .clips(try AutoencoderDecoder(SmallModels.autoencoder, from: parameters(3))),
      scalingFactor: 0.7)
  }
  private static func transformer(_ seed: UInt64) throws -> VideoTransformer {
    try VideoTransformer(SmallModels.transformer, from: parameters(seed))
  }
  private static func evaluation(_ seed: UInt64, reward: RewardModel? = nil, batch: Int = 32) throws
    -> GeneratorEvaluation
  {
    try GeneratorEvaluation(
      VideoGenerator(transformer(seed), flow, decoder(), latentShape: [3, 2, 4, 4]),
      promptEncoder(), on: prompts, oracle: Oracle(), reward: reward, seed: 9, keepClips: 2,
      batch: batch, in: Workspace())
  }
  private func close(_ a: [Double], _ b: [Double], _ tolerance: Double) -> Bool {
    a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) < tolerance }
  }

  /// Prompt i gets noise i, whatever the batch; the oracle judges what was decoded; the rewards are
  /// those of the same frames.
  @Test func generator() throws {
    let work = Workspace()
    let reward = try Self.reward()
    let plain = try Self.reward(useTransport: false)
    let whole = try Self.evaluation(4, reward: reward)
    let pieces = try Self.evaluation(4, reward: reward, batch: 2)
    #expect(whole.latents.shape == Shape(5, 3, 2, 4, 4) && whole.clips.count == 2)
    #expect(close(whole.latents.doubles, pieces.latents.doubles, 1e-5))

    let (encoder, model, decoder) = (
      try Self.promptEncoder(), try Self.transformer(4), try Self.decoder()
    )
    for i in 0..<5 {
      let noise = RandomStream(seed: 9, .evaluation, sample: i).normal(
        Shape(1, 3, 2, 4, 4), in: work)
      let z = Self.flow.sample(
        model, noise: noise, encoder([Self.captions[i]], in: work),
        unconditional: encoder([""], in: work), in: work)
      #expect(close(whole.latents[row: i].doubles, z.doubles, 1e-5))
      let frames = decoder(z, in: work)
      if i < 2 { #expect(close(whole.clips[i].doubles, frames.doubles, 1e-4)) }
      let judged = Judgement(
        Oracle().read(decoder(whole.latents.slice(i..<i + 1), in: work)[row: 0]),
        against: Self.prompts[i].description)
      #expect(abs(judged.semantic - whole.judgements[i].semantic) < 1e-9)
      #expect(abs(judged.quality.mean - whole.judgements[i].quality.mean) < 1e-4)
      let scores = reward.forward(
        frames, reward.captions([Self.captions[i]], in: work), in: work
      ).scores
      let without = plain.forward(
        frames, reward.captions([Self.captions[i]], in: work), in: work
      ).scores
      let all = try #require(whole.rewards)
      #expect(abs(all.vanillaSemantic[i] - without.semantic[0]) < 1e-4)
      #expect(abs(all.semantic[i] - scores.semantic[0]) < 1e-4 && all.quality == nil)
      #expect(abs(all.vanillaQuality[i] - scores.quality[0]) < 1e-4)
    }
    let board = whole.scoreboard
    let qualities = whole.judgements.map(\.quality.mean)
    #expect(abs(try #require(board[.quality]) - qualities.reduce(0, +) / 5) < 1e-12)
    #expect(try Self.evaluation(4).rewards == nil)
  }

  /// rms of the difference over the standard deviation of the latents before.
  @Test func drift() throws {
    let work = Workspace()
    let (before, after) = (try Self.evaluation(4), try Self.evaluation(6))
    let (x, y) = (before.latents.doubles, after.latents.doubles)
    let n = Double(x.count)
    let mean = x.reduce(0, +) / n
    let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n
    let squares = zip(x, y).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } / n
    let found = after.drift(from: before, in: work)
    #expect(found > 0.01 && abs(found - (squares / variance).squareRoot()) < 1e-5 * found)
    #expect(before.drift(from: before, in: work) == 0)
  }

  /// The summary of a demo: changes are after minus before, of the right sides.
  @Test func demoSummary() throws {
    let (a, b, c, d) = (
      try Self.evaluation(4), try Self.evaluation(6), try Self.evaluation(7), try Self.evaluation(8)
    )
    var settings = DemoSettings()
    settings.prompts = 5
    var outcome = DemoOutcome(
      settings: settings, machine: "none", prompts: Self.prompts,
      before: .init(unguided: a, guided: b), map: [("mknn_after", 0.25)])
    outcome.after = .init(unguided: c, guided: d)
    outcome.drift = 0.125
    outcome.phases = [
      .init(name: "one", seconds: 1.5, bytes: 7), .init(name: "two", seconds: 2, bytes: 9),
    ]
    func check(_ change: JSONValue?, _ before: GeneratorEvaluation, _ after: GeneratorEvaluation)
      throws
    {
      let x = try #require(before.scoreboard[.quality])
      let y = try #require(after.scoreboard[.quality])
      let o = try #require(change)
      func number(_ key: String) throws -> Double { try #require(o[key]?.number) }
      #expect(x != y)
      #expect(try abs(number("before") - x) < 1e-12 && abs(number("after") - y) < 1e-12)
      #expect(try abs(number("difference") - (y - x)) < 1e-12)
      #expect(try number("low") <= y - x && y - x <= number("high"))
    }
    #expect(outcome.overControl(guided: false)?[.quality] == nil)
    outcome.control = .init(unguided: b, guided: a)
    let summary = JSONValue.object(outcome.summary)
    try check(summary["unguided"]?["quality_change"], a, c)
    try check(summary["guided"]?["quality_change"], b, d)
    #expect(summary["guided"]?["guidance_after"]?.number == settings.guidance_after)
    #expect(summary["seconds"]?.number == 3.5 && summary["drift"]?.number == 0.125)
    #expect(summary["mknn_after"]?.number == 0.25 && summary["prompts"]?.integer == 5)
    // What the rewards add is after minus control.
    try check(summary["unguided"]?["quality_over_control"], b, c)
    try check(summary["guided"]?["quality_over_control"], a, d)
    let own = try #require(outcome.controlChange(guided: false)?[.quality])
    let change = try #require(b.scoreboard[.quality]) - #require(a.scoreboard[.quality])
    #expect(abs(own.difference - change) < 1e-12)
  }

  /// P(positive > negative), ties one half, over all pairs.
  @Test func areaUnderTheCurve() {
    var stream = RandomStream(seed: 10, .test)
    for (n, m) in [(1, 1), (30, 20), (7, 50)] {
      // Few values, so that there are ties.
      let positive = (0..<n).map { _ in Double(stream.below(8)) }
      let negative = (0..<m).map { _ in Double(stream.below(6)) }
      var wins = 0.0
      for p in positive { for q in negative { wins += p > q ? 1 : p == q ? 0.5 : 0 } }
      let found = MatchingEvaluation.areaUnderCurve(positive, negative)
      #expect(abs(found - wins / Double(n * m)) < 1e-12)
    }
    #expect(MatchingEvaluation.areaUnderCurve([2, 3], [1]) == 1)
    #expect(MatchingEvaluation.areaUnderCurve([2, 3], [4]) == 0)
  }

  /// Shares and areas from the probabilities of one pair at a time. A batch's captions are drawn in
  /// order, then its captions with a swapped attribute.
  @Test func matching() throws {
    let work = Workspace()
    let count = 6
    let reward = try Self.reward()
    let found = MatchingEvaluation(
      reward, Self.sampler, Self.renderer, count: count, seed: 3, in: work)
    let scenes = (0..<count).map { Self.sampler.heldOut($0) }
    var stream = RandomStream(seed: 3, .evaluation)
    let right = scenes.map { CaptionGrammar.caption($0.description, drawing: &stream) }
    let swapped = scenes.map {
      CaptionGrammar.caption($0.description.swapped(drawing: &stream).description, drawing: &stream)
    }
    let shuffled = (0..<count).map { right[($0 + 3) % count] }
    let plain = try Self.reward(useTransport: false)
    for (side, model) in [(found.withTransport, reward), (found.plain, plain)] {
      let p = [right, shuffled, swapped].map { captions in
        (0..<count).map { i in
          model.forward(
            Self.renderer.render([scenes[i]], in: work), model.captions([captions[i]], in: work),
            in: work
          ).scores.semantic[0]
        }
      }
      // None is so near 1/2 that rounding decides.
      #expect(p.joined().allSatisfy { abs($0 - 0.5) > 1e-4 })
      func share(_ k: Int, _ isRight: (Double) -> Bool) -> Double {
        Double(p[k].count(where: isRight)) / Double(count)
      }
      #expect(side.positives == share(0) { $0 > 0.5 })
      #expect(side.shuffled == share(1) { $0 <= 0.5 } && side.swapped == share(2) { $0 <= 0.5 })
      for (area, negative) in [(side.aucShuffled, p[1]), (side.aucSwapped, p[2])] {
        var wins = 0.0
        for x in p[0] { for y in negative { wins += x > y ? 1 : x == y ? 0.5 : 0 } }
        // Two probabilities may change places in the last bits.
        #expect(abs(area - wins / Double(count * count)) <= 1.0 / 36 + 1e-12)
      }
    }
  }

  /// 10 log₁₀ (1 / mean squared error) of clips in [0, 1], one clip at a time.
  @Test func reconstruction() throws {
    let work = Workspace()
    let encoder = try AutoencoderEncoder(SmallModels.autoencoder, from: Self.parameters(11))
    let decoder = try AutoencoderDecoder(SmallModels.autoencoder, from: Self.parameters(12))
    let found = ReconstructionEvaluation(
      LatentEncoder(.clips(encoder)), LatentDecoder(.clips(decoder)), Self.sampler, Self.renderer,
      oracle: Oracle(), count: 3, in: work)
    var squares = 0.0
    var judgements: [Judgement] = []
    for i in 0..<3 {
      let scene = Self.sampler.heldOut(i)
      let clip = Self.renderer.render([scene], in: work)
      let x = work.permuted(clip, [0, 2, 1, 3, 4])
      let moments = encoder.forward(
        Tensor(x.floats.map { 2 * $0 - 1 }, x.shape), in: work
      ).y
      let y = decoder.forward(work.narrowed(moments, axis: 1, 0..<3), in: work).y
      let back = y.doubles.map { min(max($0 / 2 + 0.5, 0), 1) }
      squares += zip(back, x.doubles).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      let frames = work.permuted(Tensor(back, y.shape, as: .f32), [0, 2, 1, 3, 4])
      judgements.append(Judgement(Oracle().read(frames[row: 0]), against: scene.description))
    }
    let pixels = 3.0 * 5 * 3 * 16 * 16
    #expect(abs(found.psnr - 10 * log10(pixels / squares)) < 1e-4)
    #expect(found.scoreboard[.semantic] == Scoreboard(judgements)[.semantic])
  }
}
