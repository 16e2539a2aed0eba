import Files
import Models
import Rewards
public import TensorRuntime

/// Scores pairs of a video and a prompt one at a time. A score depends only on its own pair, never
/// on batch, order or padding.
public struct Scorer {
  let folder: RewardFolder, frames: Int
  let withTransport: RewardModel, plain: RewardModel
  let pool: BufferPool
  let explanations: String?, strict: Bool
  private let scoringBytes: Int?
  private var count = 0
  private var last: (file: FileIdentity, video: SeenVideo)?
  private var features: FeatureCache
  private var ahead: Reading?
  private typealias SeenVideo = (
    source: Video, features: RewardModel.VideoFeatures, fusion: TextEncoder.FusionVision
  )
  /// A video that is decoded while another one is computed.
  private struct Reading {
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
    withTransport = try folder.reward(storage: options.storage)
    var plainOptions = RewardOptions()
    plainOptions.useTransport = false
    plain = try withTransport.with(plainOptions)
    scoringBytes =
      options.plansMemory && options.storage == nil
      ? Self.workingBytes(folder, withTransport, frames: frames) : nil
    if let explain = options.explain { try createFolder(explain) }
  }

  /// Bytes that scoring one pair takes beyond the mapped weights, with nothing kept and weights as
  /// they are stored; nil if the directory is not a complete reward model.
  public static func workingBytes(_ path: String) -> Int? {
    guard let folder = try? RewardFolder(path, check: .later), let reward = try? folder.reward()
    else { return nil }
    return workingBytes(folder, reward, frames: folder.config.visionEncoder.numFrames)
  }
  private static func workingBytes(_ folder: RewardFolder, _ reward: RewardModel, frames: Int)
    -> Int?
  {
    let c = folder.config.visionEncoder
    let budget = PanelBudget(bytes: 0)
    let words = Array(repeating: "a", count: folder.config.maxTxtL).joined(separator: " ")
    let encoder = MemoryPlan(BufferPool(panelBudget: budget)) { work in
      let pixels = work.tensor(Shape(1, frames, 3, c.imgSize, c.imgSize))
      _ = reward.videos(pixels, in: work)
    }
    let rest = MemoryPlan(BufferPool(panelBudget: budget)) { work in
      let features = RewardModel.VideoFeatures(
        tokens: work.tensor(Shape(1, c.tokens(frames: frames), c.dModel)),
        projected: work.tensor(Shape(1, folder.config.embedDim)),
        unit: work.tensor(Shape(1, folder.config.embedDim)))
      let fusion = reward.fusion(of: features, in: work)
      let captions = reward.captions([words], in: work)
      _ = reward.allScores(features, fusion, withTransport: captions, plain: captions, in: work)
    }
    guard let encoder, let rest else { return nil }
    return max(encoder.bytes, rest.bytes)
  }

  /// The record of one pair. `place` is the folder of relative paths. Throws errors that do not come
  /// from the pair: a missing program, or an output that cannot be written.
  ///
  /// `next` is the video of the pair after it, if that is known: it is decoded meanwhile. `returns`
  /// says whether this video will be asked for again, if that is known.
  public mutating func record(
    _ video: String, in place: String = ".", _ prompt: String, next: String? = nil,
    returns: Bool? = nil
  ) async throws -> ScoreRecord {
    count += 1
    do {
      let path = PairReader.path(video, in: place)
      let scores = try await scores(
        path, prompt, next: next.map { PairReader.path($0, in: place) }, returns: returns)
      return ScoreRecord(video, prompt, .scored(scores))
    } catch {
      if let error = error as? FileError, !error.isOfOneItem { throw error }
      return ScoreRecord(video, prompt, .failed("\(error)"))
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
      found = withTransport.videos(
        video.pixels.reshaped(Shape([1] + video.pixels.shape.dims)), in: work)
      if let file, returns != false { features.keep(found, of: file) }
    }
    let seen = (video, found, withTransport.fusion(of: found, in: work))
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
    let long = withTransport.captions([prompt], in: work)
    let short =
      plain.tokens([prompt]).ids == long.tokens.ids ? long : plain.captions([prompt], in: work)
    let s = withTransport.allScores(features, fusion, withTransport: long, plain: short, in: work)
    for value in [s.quality?[0], s.semantic[0], s.vanillaQuality[0], s.vanillaSemantic[0]]
    where value?.isFinite == false {
      throw FileError(
        .badData, "a score is not finite", in: path, mend: "check the pixels and the weights")
    }
    var scores = ScoreRecord.Scores(
      s, of: video, truncation: withTransport.truncation(of: prompt))
    scores.seconds = (clock.now - start) / .seconds(1)
    (scores.computeType, scores.scoringBytes) = (Machine.computeType, scoringBytes)
    if let explanations {
      scores.explanation = try Explanation(
        withTransport, folder.tokenizer, features, long, video, prompt, in: work
      ).write(to: explanations, index: count, video: path)
    }
    return scores
  }
}

/// Features of videos that were seen, within a budget of bytes. The one that was used longest ago
/// goes first.
struct FeatureCache {
  private struct Entry {
    let file: FileIdentity, features: RewardModel.VideoFeatures
    var bytes: Int { features.tokens.byteCount + features.projected.byteCount * 2 }
  }
  private let budget: Int
  /// The last one was used last.
  private var entries: [Entry] = []
  init(bytes: Int) { budget = bytes }

  /// The features of a file, if they are there. They are dropped if the video will not return.
  subscript(file: FileIdentity, returns returns: Bool?) -> RewardModel.VideoFeatures? {
    mutating get {
      guard let at = entries.firstIndex(where: { $0.file == file }) else { return nil }
      let entry = entries.remove(at: at)
      if returns != false { entries.append(entry) }
      return entry.features
    }
  }
  mutating func keep(_ f: RewardModel.VideoFeatures, of file: FileIdentity) {
    let entry = Entry(file: file, features: f)
    if entry.bytes > budget { return }
    while entries.reduce(entry.bytes, { $0 + $1.bytes }) > budget { entries.removeFirst() }
    entries.append(entry)
  }
}
