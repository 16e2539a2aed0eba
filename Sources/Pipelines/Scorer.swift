public import Files
import Models
import Rewards
public import TensorRuntime

/// Scores pairs of a video and a prompt one at a time. A score depends only on its own pair, never
/// on batch, order or padding.
public struct Scorer {
  let folder: RewardFolder, frames: Int
  let model: PairScorer
  let pool: BufferPool
  let explanations: String?, strict: Bool
  private let scoringBytes: Int?
  private var count = 0
  private var last: (file: FileIdentity, video: SeenVideo)?
  private var features: FeatureCache
  private(set) var ahead: Reading?
  private typealias SeenVideo = (
    source: Video, features: RewardModel.VideoFeatures, fusion: TextEncoder.FusionVision
  )
  /// A video that is decoded while another one is computed.
  struct Reading {
    let path: String, file: FileIdentity?, video: Task<Video, any Error>
  }

  public struct Options: Sendable {
    /// Keeps the weights in another type (bf16 halves the memory of f32).
    public var storage: ElementType?
    /// A folder for explanations.
    public var explain: String?
    /// Refuses damaged videos.
    public var strict = false
    /// Bytes that may be kept from pair to pair: features of videos, and up to 64 MiB of packed
    /// weights.
    public var memory = 1 << 30
    /// Whether records say what scoring takes.
    public var plansMemory = false
    public init() {}
  }

  public init(_ folder: RewardFolder, frames: Int, _ options: Options = Options()) throws {
    (self.folder, self.frames) = (folder, frames)
    (explanations, strict) = (options.explain, options.strict)
    let panels = min(options.memory, 64 << 20)
    pool = BufferPool(panelBudget: PanelBudget(bytes: panels))
    features = FeatureCache(bytes: options.memory - panels)
    model = try PairScorer(folder, storage: options.storage)
    scoringBytes =
      options.plansMemory && options.storage == nil
      ? Self.workingBytes(folder, model, frames: frames) : nil
    if let explain = options.explain { try createFolder(explain) }
  }

  /// Bytes that scoring one pair takes beyond the mapped weights, with nothing kept, weights as
  /// they are stored, and a caption of `max_txt_l` words; nil if the directory is not a complete
  /// reward model.
  public static func workingBytes(_ path: String) -> Int? {
    guard let folder = try? RewardFolder(path, check: .later), let model = try? PairScorer(folder)
    else { return nil }
    return workingBytes(folder, model, frames: folder.config.visionEncoder.numFrames)
  }
  private static func workingBytes(_ folder: RewardFolder, _ model: PairScorer, frames: Int)
    -> Int?
  {
    let c = folder.config.visionEncoder
    let budget = PanelBudget(bytes: 0)
    let words = Array(repeating: "a", count: folder.config.maxTxtL).joined(separator: " ")
    let encoder = MemoryPlan(BufferPool(panelBudget: budget)) { work in
      let pixels = work.tensor(Shape(1, frames, 3, c.imgSize, c.imgSize))
      _ = model.withTransport.videos(pixels, in: work)
    }
    let rest = MemoryPlan(BufferPool(panelBudget: budget)) { work in
      let features = RewardModel.VideoFeatures(
        tokens: work.tensor(Shape(1, c.tokens(frames: frames), c.dModel)),
        projected: work.tensor(Shape(1, folder.config.embedDim)),
        unit: work.tensor(Shape(1, folder.config.embedDim)))
      let fusion = model.withTransport.fusion(of: features, in: work)
      _ = model.scores(features, fusion, words, in: work)
    }
    guard let encoder, let rest else { return nil }
    return max(encoder.bytes, rest.bytes)
  }

  /// The record of one pair. Throws errors that do not come from the pair: a missing program, or an
  /// output that cannot be written.
  ///
  /// The video of `next`, the pair after it if that is known, is decoded meanwhile. `returns` says
  /// whether this video will be asked for again, if that is known.
  /// `number` is its position among all pairs, from 0, which names its explanation.
  public mutating func record(
    _ pair: PairQueue.Pair, number: Int? = nil, next: PairQueue.Pair? = nil, returns: Bool? = nil
  ) async throws -> ScoreRecord {
    count = number.map { $0 + 1 } ?? count + 1
    do {
      let scores = try await scores(pair.path, pair.prompt, next: next?.path, returns: returns)
      return ScoreRecord(pair.video, pair.prompt, .scored(scores))
    } catch {
      if let error = error as? FileError, !error.isOfOneItem { throw error }
      return ScoreRecord(pair.video, pair.prompt, .failed("\(error)"))
    }
  }

  /// The output of the video encoder. That of the last file is kept while the file does not change,
  /// for several captions of one video in a row; those of earlier ones within the budget.
  private mutating func seen(_ path: String, next: String?, returns: Bool?) async throws
    -> SeenVideo
  {
    let file = FileIdentity(path)
    let reading = ahead
    ahead = nil
    if let last, last.file == file {
      if next == reading?.path { ahead = reading } else { start(next) }
      return last.video
    }
    last = nil
    let isRead = reading?.path == path && reading?.file == file
    let video = isRead ? try await reading!.video.value : try await read(path)
    if next != path { start(next) }
    let work = Workspace(pool: pool)
    let found: RewardModel.VideoFeatures
    if let file, let kept = features[file, returns: returns] {
      found = kept
    } else {
      // The video encoder and the fusion layers need memory in other sizes.
      pool.releaseUnused()
      defer { pool.releaseUnused() }
      found = model.withTransport.videos(
        video.pixels.reshaped(Shape([1] + video.pixels.shape.dims)), in: work)
      if let file, returns != false { features.keep(found, of: file) }
    }
    let seen = (video, found, model.withTransport.fusion(of: found, in: work))
    last = file.map { ($0, seen) }
    return seen
  }
  private func read(_ path: String) async throws -> Video {
    try await VideoReader.read(path, frames: frames)
  }
  private mutating func start(_ path: String?) {
    guard let path, let file = FileIdentity(path) else { return }
    let frames = frames
    ahead = Reading(
      path: path, file: file, video: Task { try await VideoReader.read(path, frames: frames) })
  }

  private mutating func scores(_ path: String, _ prompt: String, next: String?, returns: Bool?)
    async throws -> ScoreRecord.Scores
  {
    let work = Workspace(pool: pool)
    let clock = ContinuousClock()
    let start = clock.now
    let (video, features, fusion) = try await seen(path, next: next, returns: returns)
    if strict, let error = video.damageError(path) { throw error }
    let (s, caption) = model.scores(features, fusion, prompt, in: work)
    if !s.isFinite {
      throw FileError(
        .badData, "a score is not finite", in: path, mend: "check the pixels and the weights")
    }
    var scores = ScoreRecord.Scores(
      s, of: video, truncation: model.withTransport.truncation(of: prompt))
    scores.seconds = (clock.now - start) / .seconds(1)
    (scores.computeType, scores.scoringBytes) = (Machine.computeType, scoringBytes)
    if let explanations {
      scores.explanation = try Explanation(
        model.withTransport, folder.tokenizer, features, caption, video, prompt, in: work
      ).write(to: explanations, index: count, video: path)
    }
    return scores
  }
}
