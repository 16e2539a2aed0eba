public import Files
import Rewards
public import TensorRuntime

/// What `score` says of one pair (interfaces.md 7).
public struct ScoreRecord: Sendable {
  /// nil if the pair itself could not be read.
  public let video: String?, prompt: String?
  public let outcome: Outcome
  public enum Outcome: Sendable {
    case scored(Scores)
    /// Why there is no score.
    case failed(String)
  }
  public struct Scores: Sendable {
    /// With the OT map; nil without one.
    public let quality: Double?
    public let semantic, vanillaQuality, vanillaSemantic: Double
    /// Indices of the frames that were sampled.
    public let frames: [Int]
    public let isDamaged: Bool
    /// What was left out of the prompt; nil if nothing was.
    public let truncation: String?
    /// What a reader should know of the scores.
    public let notes: [String]
    public var seconds = 0.0
    /// The type of operands of products.
    public var computeType = Machine.ComputeType.f32
    /// What scoring takes beyond the mapped weights (`Scorer.workingBytes`), if it was asked for.
    public var scoringBytes: Int?
    /// The file of the explanation, if one was asked for.
    public var explanation: String?

    init(_ s: RewardModel.AllScores, of video: Video, truncation: String?) {
      quality = s.quality?[0]
      (semantic, vanillaQuality, vanillaSemantic) = (
        s.semantic[0], s.vanillaQuality[0], s.vanillaSemantic[0]
      )
      (frames, isDamaged, self.truncation) = (video.frameIndices, video.damage != nil, truncation)
      let damage = video.damage.map {
        "the video is damaged (\($0)): scored as far as it could be decoded"
      }
      notes = [damage, truncation].compactMap { $0 }
    }
  }
  /// How far a score with bf16 operands may be from that in f32 (interfaces.md 7).
  public static let errorOfBF16 = 0.02

  public init(_ video: String?, _ prompt: String?, _ outcome: Outcome) {
    (self.video, self.prompt, self.outcome) = (video, prompt, outcome)
  }

  public var scores: Scores? { if case .scored(let scores) = outcome { scores } else { nil } }

  public var json: JSONValue {
    var o: JSONObject = [
      "video": video.map { .string($0) } ?? .null, "prompt": prompt.map { .string($0) } ?? .null,
    ]
    switch outcome {
    case .failed(let error): o["error"] = .string(error)
    case .scored(let s):
      o["quality"] = JSONValue(s.quality)
      o["semantic"] = .number(s.semantic)
      o["vanilla_quality"] = .number(s.vanillaQuality)
      o["vanilla_semantic"] = .number(s.vanillaSemantic)
      o["frames"] = .array(s.frames.map { .integer($0) })
      if s.isDamaged { o["damaged"] = true }
      if s.truncation != nil { o["truncated"] = true }
      if !s.notes.isEmpty { o["notes"] = .array(s.notes.map { .string($0) }) }
      o["seconds"] = .number(s.seconds)
      o["compute_dtype"] = .string(s.computeType.rawValue)
      if s.computeType == .bf16 { o["compute_error"] = .number(ScoreRecord.errorOfBF16) }
      if let bytes = s.scoringBytes { o["scoring_bytes"] = .integer(bytes) }
      if let explanation = s.explanation { o["explanation"] = .string(explanation) }
    }
    return .object(o)
  }
  /// One line for people.
  public var text: String {
    switch outcome {
    case .failed(let error): return "\(video ?? "-")\terror\t\(error)"
    case .scored(let s):
      func short(_ x: Double?) -> String { x.map { "\(($0 * 1e6).rounded() / 1e6)" } ?? "null" }
      return
        """
        quality \(short(s.quality))  semantic \(short(s.semantic))  \
        vanilla \(short(s.vanillaQuality)) \(short(s.vanillaSemantic))  \(video ?? "")  \
        \(prompt ?? "")\(s.isDamaged ? "  damaged" : "")
        """
    }
  }
}
