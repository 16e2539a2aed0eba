import Files
public import Layers
public import Models
import TensorRuntime

/// The scheduler's `scheduler_config.json`.
public struct SchedulerConfig: Codable, Sendable, Equatable {
  public var shift = 7.0, numTrainTimesteps = 1000
  enum CodingKeys: String, CodingKey {
    case shift
    case numTrainTimesteps = "num_train_timesteps"
  }
  public init(shift: Double = 7) { self.shift = shift }
  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    shift = try c.decodeIfPresent(Double.self, forKey: .shift) ?? shift
    numTrainTimesteps =
      try c.decodeIfPresent(Int.self, forKey: .numTrainTimesteps) ?? numTrainTimesteps
  }
}

/// A generator directory in diffusers' layout (interfaces.md 5). Parts are read when they are
/// needed.
public struct GeneratorFolder: Sendable {
  public let path: String
  public init(_ path: String) { self.path = path }

  public func transformerConfig() throws -> TransformerConfig {
    try ModelFolder.config("\(path)/transformer")
  }
  public func autoencoderConfig() throws -> AutoencoderConfig {
    try ModelFolder.config("\(path)/vae")
  }
  public func scheduler() throws -> SchedulerConfig {
    let file = "\(path)/scheduler/scheduler_config.json"
    return TextFile.exists(file)
      ? try JSONValue(contentsOf: file).decoded(name: file) : SchedulerConfig()
  }
  public func transformer() throws -> VideoTransformer {
    try VideoTransformer(
      try transformerConfig(), from: try WeightHolder.opening("\(path)/transformer").source)
  }
  public func decoder() throws -> AutoencoderDecoder {
    try AutoencoderDecoder(
      try autoencoderConfig(),
      from: try WeightHolder.opening("\(path)/vae", stripping: ["vae."]).source)
  }
  public func encoder() throws -> AutoencoderEncoder {
    try AutoencoderEncoder(
      try autoencoderConfig(),
      from: try WeightHolder.opening("\(path)/vae", stripping: ["vae."]).source)
  }

  public var hasPromptEncoder: Bool { TextFile.exists("\(path)/text_encoder/config.json") }
  /// The text encoder of small models. Larger models take precomputed prompt embeddings.
  public func promptEncoder() throws -> PromptEncoder {
    try Self.promptEncoder("\(path)/text_encoder")
  }

  /// The text layers of a BERT directory or of a reward-model directory; from `source`, if its
  /// weights are open already.
  public static func promptEncoder(_ folder: String, from source: ParameterSource? = nil) throws
    -> PromptEncoder
  {
    let file = "\(folder)/config.json"
    let json = try JSONValue(contentsOf: file)
    var maxLength = 40
    var c: TextEncoderConfig
    var problem: String?
    if json["text_encoder"] != nil {
      let whole: VideoTextConfig = try json.decoded(name: file)
      (c, maxLength, problem) = (whole.textEncoder, whole.maxTxtL, whole.problem)
    } else {
      c = try json.decoded(name: file)
      (maxLength, problem) = (
        json["max_txt_l"]?.integer ?? min(40, c.maxPositionEmbeddings), c.problem
      )
      if maxLength < 1 || maxLength > c.maxPositionEmbeddings {
        problem = problem ?? "max_txt_l: \(maxLength) is out of range"
      }
    }
    if let p = problem { throw FileError(.badData, p, in: file, mend: "correct the field") }
    c.numHiddenLayers = c.fusionLayer
    let tokenizer = try Vocabulary.tokenizer("\(folder)/vocab.txt", size: c.vocabSize)
    return PromptEncoder(
      encoder: try TextEncoder(c, from: try source ?? WeightHolder.opening(folder).source),
      tokenizer: tokenizer, maxLength: maxLength)
  }
}

public enum Vocabulary {
  /// A WordPiece tokenizer from a vocabulary file, which must fit a model of `size` words.
  public static func tokenizer(_ path: String, size: Int) throws -> WordPieceTokenizer {
    let lines = try TextFile.lines(path)
    if lines.count > size {
      throw FileError(
        .badData, "\(lines.count) words for a model of \(size)", in: path,
        mend: "use the model's own vocabulary")
    }
    do { return try WordPieceTokenizer(vocabulary: lines) } catch {
      switch error {
      case .missing(let token):
        throw FileError(
          .badData, "the token \(token) is missing", in: path,
          mend: "use the model's own vocabulary")
      }
    }
  }
}
