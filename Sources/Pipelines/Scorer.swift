import Files
import Models
import Rewards
public import TensorRuntime

/// Scores pairs of a video and a prompt one at a time. A score depends only on its own pair, never
/// on batch, order or padding.
public struct Scorer {
  let folder: RewardFolder, frames: Int
  let withTransport: RewardModel, plain: RewardModel
  let pool = BufferPool()
  let explanations: String?, strict: Bool
  private var count = 0
  private var last: (file: FileIdentity, video: SeenVideo)?
  private typealias SeenVideo = (
    source: Video, features: RewardModel.VideoFeatures, fusion: TextEncoder.FusionVision
  )

  /// `storage` keeps the weights in another type (bf16 halves their memory). `explain` names a
  /// folder for explanations. `strict` refuses damaged videos.
  public init(
    _ folder: RewardFolder, frames: Int, storage: ElementType? = nil, explain: String? = nil,
    strict: Bool = false
  ) throws {
    (self.folder, self.frames, explanations, self.strict) = (folder, frames, explain, strict)
    withTransport = try folder.reward(storage: storage)
    plain = try folder.reward(
      {
        var o = RewardOptions()
        o.useTransport = false
        return o
      }(), storage: storage)
    if let explain { try createFolder(explain) }
  }

  /// The record of one pair. `place` is the folder of relative paths. Throws errors that do not come
  /// from the pair: a missing program, or an output that cannot be written.
  public mutating func record(_ video: String, in place: String = ".", _ prompt: String)
    async throws -> ScoreRecord
  {
    count += 1
    do {
      return ScoreRecord(video, prompt, .scored(try await scores(video, in: place, prompt)))
    } catch {
      if let error = error as? FileError, !error.isOfOneItem { throw error }
      return ScoreRecord(video, prompt, .failed("\(error)"))
    }
  }

  /// The output of the video encoder. That of the last file is kept while the file does not change,
  /// for several captions of one video in a row.
  private mutating func seen(_ path: String) async throws -> SeenVideo {
    let file = FileIdentity(path)
    if let last, last.file == file { return last.video }
    last = nil
    let work = Workspace(pool: pool)
    let video = try await VideoReader.read(path, frames: frames)
    let features = withTransport.videos(
      video.pixels.reshaped(Shape([1] + video.pixels.shape.dims)), in: work)
    let seen = (video, features, withTransport.fusion(of: features, in: work))
    last = file.map { ($0, seen) }
    return seen
  }
  private mutating func scores(_ name: String, in place: String, _ prompt: String) async throws
    -> ScoreRecord.Scores
  {
    let work = Workspace(pool: pool)
    let clock = ContinuousClock()
    let start = clock.now
    let path = PairReader.path(name, in: place)
    let (video, features, fusion) = try await seen(path)
    if strict, let error = video.damageError(path) { throw error }
    let long = withTransport.captions([prompt], in: work)
    let short = plain.captions([prompt], in: work)
    let s = withTransport.allScores(features, fusion, withTransport: long, plain: short, in: work)
    for value in [s.quality?[0], s.semantic[0], s.vanillaQuality[0], s.vanillaSemantic[0]]
    where value?.isFinite == false {
      throw FileError(
        .badData, "a score is not finite", in: path, mend: "check the pixels and the weights")
    }
    var scores = ScoreRecord.Scores(
      s, of: video, truncation: withTransport.truncation(of: prompt))
    scores.seconds = (clock.now - start) / .seconds(1)
    if let explanations {
      scores.explanation = try Explanation(
        withTransport, folder.tokenizer, features, long, video, prompt, in: work
      ).write(to: explanations, index: count, video: path)
    }
    return scores
  }
}
