import Diffusion
public import Models
public import Pipelines
public import Rewards
public import TensorRuntime
public import World

/// One generator on a fixed set of prompts and noise: what the oracle sees, and the rewards.
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
    _ generator: VideoGenerator, _ encoder: PromptEncoder, on prompts: [Prompt], oracle: Oracle,
    reward: RewardModel?, seed: UInt64, keepClips: Int = 0, batch: Int = 32,
    in work: borrowing Workspace
  ) throws(NonFiniteSample) {
    var judgements: [Judgement] = []
    var readings: [Reading] = []
    var latents: [Tensor] = []
    var clips: [Tensor] = []
    var quality: [Double] = []
    var semantic: [Double] = []
    var plainQuality: [Double] = []
    var plainSemantic: [Double] = []
    for start in stride(from: 0, to: prompts.count, by: batch) {
      let range = start..<min(start + batch, prompts.count)
      let list = prompts[range].map(\.caption)
      let noise = work.stacked(
        range.map {
          RandomStream(seed: seed, .evaluation, sample: $0).normal(
            Shape(generator.latentShape), in: work)
        })
      let z = generator.sampler.sample(
        generator.transformer, noise: noise, captions: list, encoder, in: work)
      let frames = try generator.decoder.samples(z, first: start, in: work)
      latents.append(z)
      for (i, index) in range.enumerated() {
        let clip = frames[row: i]
        let reading = oracle.read(clip)
        readings.append(reading)
        judgements.append(Judgement(reading, against: prompts[index].description))
        if index < keepClips { clips.append(work.copy(clip)) }
      }
      if let reward {
        let c = reward.captions(list, in: work)
        let v = reward.videos(frames, in: work)
        let s = reward.allScores(
          v, reward.fusion(of: v, in: work), withTransport: c, plain: c, in: work)
        quality += s.quality ?? []
        semantic += s.semantic
        plainQuality += s.vanillaQuality
        plainSemantic += s.vanillaSemantic
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
  public var scoreboard: Scoreboard { Scoreboard(judgements) }

  /// rms difference of the final latents, divided by their standard deviation.
  public func drift(from other: GeneratorEvaluation, in work: borrowing Workspace) -> Double {
    let n = Double(latents.count)
    let mean = work.total(other.latents) / n
    let variance = work.sumOfSquares(other.latents) / n - mean * mean
    return (work.sumOfSquares(work.difference(latents, other.latents)) / n / variance).squareRoot()
  }
}
