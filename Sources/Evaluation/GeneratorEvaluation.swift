import Diffusion
public import Models
public import Pipelines
public import Rewards
public import TensorRuntime
import Training
public import World

/// One generator on a fixed set of prompts and noise: what the oracle sees, and the rewards. Ranks
/// share out the samples.
public struct GeneratorEvaluation: Sendable {
  public let captions: [String]
  public let judgements: [Judgement]
  /// What the oracle saw in each clip, whatever the prompt asked for.
  public let readings: [Reading]
  /// Rewards with and without transport for each prompt; nil without a reward model (quality:
  /// without a map).
  public let rewards: RewardModel.AllScores?
  /// Final latents `[N, C, n, h, w]`, scaled, from which drift is measured.
  public let latents: Tensor
  /// Decoded clips `[T, 3, H, W]` of the first prompts, as many as asked for.
  public let clips: [Tensor]

  /// Prompt i gets the noise identified by (seed, i), so that two generators are compared on equal
  /// noise. `batch`: clips sampled at once.
  public init(
    _ generator: VideoGenerator, _ encoder: any PromptEmbedder, on prompts: [Prompt],
    oracle: Oracle, reward: RewardModel?, seed: UInt64, keepClips: Int = 0, batch: Int = 32,
    in work: borrowing Workspace
  ) throws {
    var judgements: [Judgement] = []
    var readings: [Reading] = []
    var latents: [Tensor] = []
    var clips: [Tensor] = []
    var quality: [Double] = []
    var semantic: [Double] = []
    var plainQuality: [Double] = []
    var plainSemantic: [Double] = []
    func rows(_ block: Int) -> Range<Int> {
      block * batch..<min((block + 1) * batch, prompts.count)
    }
    let blocks = (prompts.count + batch - 1) / batch
    let canvas = generator.decoder.clipShape(of: generator.latentShape)
    for first in stride(from: 0, to: blocks, by: BlockShare.width) {
      let some = first..<min(first + BlockShare.width, blocks)
      var found: [Int: [Tensor]] = [:]
      try BlockShare.run(some.count, in: work) { i in
        let n = rows(first + i).count
        return [
          (Shape([n] + generator.latentShape), .f32), (Shape([n] + canvas), .f32),
          (Shape(4, n), .f64),
        ]
      } body: { i, work in
        let range = rows(first + i)
        let list = prompts[range].map(\.caption)
        let noise = work.stacked(
          range.map {
            RandomStream(seed: seed, .evaluation, sample: $0).normal(
              Shape(generator.latentShape), in: work)
          })
        let z = generator.latents(
          noise, captions: list, encoder, seed: seed, first: range.lowerBound, in: work)
        let frames = try generator.decoder.samples(z, first: range.lowerBound, in: work)
        return [z, frames, Self.scores(frames, list, reward, in: work)]
      } take: { i, results, _ in
        found[i] = results
      }
      for block in some {
        let (z, frames, scores) = (
          found[block - first]![0], found[block - first]![1], found[block - first]![2]
        )
        latents.append(z)
        for (i, index) in rows(block).enumerated() {
          let clip = frames[row: i]
          let reading = oracle.read(clip)
          readings.append(reading)
          judgements.append(Judgement(reading, against: prompts[index].description))
          if index < keepClips { clips.append(work.copy(clip)) }
        }
        if reward == nil { continue }
        // A model without a map gives no quality.
        quality += scores[row: 0].doubles.filter { !$0.isNaN }
        semantic += scores[row: 1].doubles
        plainQuality += scores[row: 2].doubles
        plainSemantic += scores[row: 3].doubles
      }
    }
    captions = prompts.map(\.caption)
    (self.judgements, self.readings, self.clips, self.latents) = (
      judgements, readings, clips, work.concatenated(latents, axis: 0)
    )
    rewards = reward.map { _ in
      .init(
        quality: quality.isEmpty ? nil : quality, semantic: semantic, vanillaQuality: plainQuality,
        vanillaSemantic: plainSemantic)
    }
  }
  /// Rewards of clips, `[4, clips]`: quality, semantic, and the same without transport; NaN where
  /// there is none.
  private static func scores(
    _ frames: Tensor, _ captions: [String], _ reward: RewardModel?, in work: borrowing Workspace
  ) -> Tensor {
    let none = Array(repeating: Double.nan, count: captions.count)
    guard let reward else {
      return Tensor(none + none + none + none, Shape(4, captions.count))
    }
    let c = reward.captions(captions, in: work)
    let v = reward.videos(frames, in: work)
    let s = reward.allScores(
      v, reward.fusion(of: v, in: work), withTransport: c, plain: c, in: work)
    return Tensor(
      (s.quality ?? none) + s.semantic + s.vanillaQuality + s.vanillaSemantic,
      Shape(4, captions.count))
  }
  public var scoreboard: Scoreboard { Scoreboard(judgements) }

  /// rms difference of the final latents, divided by their standard deviation.
  public func drift(from other: GeneratorEvaluation, in work: borrowing Workspace) -> Double {
    let n = Double(latents.count)
    let mean = work.total(other.latents) / n
    let variance = work.sumOfSquares(other.latents) / n - mean * mean
    return (work.sumOfSquares(work.difference(latents, other.latents)) / n / variance).squareRoot()
  }
}
