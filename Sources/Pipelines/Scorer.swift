public import Files
import Models
import Rewards
public import TensorRuntime

/// Scores video/prompt pairs one at a time: a score depends on its own pair alone, never on batch, order or padding.
public struct Scorer {
  let folder: RewardFolder, frames: Int
  let planned: RewardModel, plain: RewardModel
  let pool = BufferPool()
  let explanations: String?
  private var count = 0
  private var last: (file: FileIdentity, video: SeenVideo)?
  private typealias SeenVideo = (source: Video, features: RewardModel.VideoFeatures, fusion: TextEncoder.FusionVision)

  /// `storage` keeps the weights in another type (bf16 halves their memory); `explain` names a folder for explanations.
  public init(_ folder: RewardFolder, frames: Int, storage: ElementType? = nil, explain: String? = nil) throws {
    (self.folder, self.frames, explanations) = (folder, frames, explain)
    planned = try folder.reward(storage: storage)
    plain = try folder.reward({ var o = RewardOptions(); o.useTransport = false; return o }(), storage: storage)
    if let explain { try createFolder(explain) }
  }

  /// The record of one pair (interfaces.md 7), or one with an `error`.
  public mutating func record(_ video: String, _ prompt: String) async -> JSONObject {
    count += 1
    do { return try await scored(video, prompt) } catch { return ["video": .string(video), "prompt": .string(prompt), "error": .string("\(error)")] }
  }

  /// What the video side yields. That of the last file is kept while the file stays as it is, for captions of one video in a row.
  private mutating func seen(_ path: String) async throws -> SeenVideo {
    let file = FileIdentity(path)
    if let last, last.file == file { return last.video }
    last = nil
    let work = Workspace(pool: pool), video = try await VideoReader.read(path, frames: frames)
    let features = planned.videos(video.pixels.reshaped(Shape([1] + video.pixels.shape.dims)), in: work)
    let seen = (video, features, planned.fusion(of: features, in: work))
    last = file.map { ($0, seen) }
    return seen
  }
  private mutating func scored(_ path: String, _ prompt: String) async throws -> JSONObject {
    let work = Workspace(pool: pool), clock = ContinuousClock(), start = clock.now
    let (video, features, fusion) = try await seen(path)
    let long = planned.captions([prompt], in: work), short = plain.captions([prompt], in: work)
    let s = planned.allScores(features, fusion, planned: long, plain: short, in: work)
    for value in [s.quality?[0], s.semantic[0], s.vanillaQuality[0], s.vanillaSemantic[0]] where value?.isFinite == false {
      throw FileError(.badData, "a score is not finite", in: path, mend: "check the pixels and the weights")
    }
    var r: JSONObject = ["video": .string(path), "prompt": .string(prompt), "quality": JSONValue(s.quality?[0]), "semantic": .number(s.semantic[0])]
    r["vanilla_quality"] = .number(s.vanillaQuality[0])
    r["vanilla_semantic"] = .number(s.vanillaSemantic[0])
    r["frames"] = .array(video.frameIndices.map { .integer($0) })
    r["seconds"] = .number((clock.now - start) / .seconds(1))
    if let explanations { r["explanation"] = .string(try Explanation(planned, folder.tokenizer, features, long, video, prompt, in: work).write(to: explanations, index: count, video: path)) }
    return r
  }
}
