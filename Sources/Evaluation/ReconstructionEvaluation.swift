import Models
public import Pipelines
public import TensorRuntime
public import World

#if canImport(Glibc)
  import Glibc
#endif

/// Held-out clips of the world, encoded and decoded by an autoencoder: what the oracle still reads,
/// and the peak signal-to-noise ratio.
public struct ReconstructionEvaluation: Sendable {
  public let scoreboard: Scoreboard
  /// In dB, over all pixels in [0, 1].
  public let psnr: Double

  public init(
    _ encoder: LatentEncoder, _ decoder: LatentDecoder, _ sampler: SceneSampler,
    _ renderer: Renderer, oracle: Oracle, count: Int, in work: borrowing Workspace
  ) {
    var judgements: [Judgement] = []
    var squares = 0.0
    var pixels = 0
    for start in stride(from: 0, to: count, by: 16) {
      let scenes = (start..<min(start + 16, count)).map { sampler.heldOut($0) }
      let clips = renderer.render(scenes, in: work)
      let z = work.scaled(encoder(clips, in: work), by: decoder.scalingFactor)
      let frames = decoder(z, in: work)
      squares += work.sumOfSquares(work.difference(frames, clips))
      pixels += clips.count
      for (i, scene) in scenes.enumerated() {
        judgements.append(Judgement(oracle.read(frames[row: i]), against: scene.description))
      }
    }
    (scoreboard, psnr) = (Scoreboard(judgements), -10 * log10(squares / Double(pixels)))
  }
}
