public import Diffusion
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

/// A generator directory (interfaces.md 5): HunyuanVideo's family in diffusers' layout with
/// `transformer/`, or VideoCrafter2's with `unet/` (videocrafter.md 12.3). Parts are read when they
/// are needed.
public struct GeneratorFolder: Sendable {
  public let path: String
  public init(_ path: String) { self.path = path }

  /// Whether the network is a UNet. Its folder says so.
  private var hasUNet: Bool { TextFile.exists("\(path)/unet/config.json") }

  /// The network.
  public func denoiser() throws -> any VideoDenoiser {
    hasUNet ? try network(VideoUNet.self) : try network(VideoTransformer.self)
  }
  private func network<Model: VideoDenoiser>(_: Model.Type) throws -> Model {
    let folder = "\(path)/\(Model.component.folder)"
    return try Model(
      try ModelFolder.config(folder), from: try WeightHolder.opening(folder).source)
  }
  /// Writes the network alone.
  public static func write<Model: VideoDenoiser>(_ model: Model, to folder: String) throws {
    try ModelFolder.write(
      model, config: model.config, kind: Model.component.kind,
      weights: "diffusion_pytorch_model.safetensors", to: "\(folder)/\(Model.component.folder)")
  }

  /// How data are made from noise.
  public func process() throws -> GenerativeProcess {
    if !hasUNet { return .flow(shift: try scheduler().shift) }
    let file = "\(path)/scheduler.json"
    if !TextFile.exists(file) { return .diffusion(.init()) }
    let parameters: DiffusionSchedule.Parameters = try JSONValue(contentsOf: file).decoded(
      name: file)
    if let problem = parameters.problem {
      throw FileError(.badData, problem, in: file, mend: "correct the field")
    }
    return .diffusion(parameters)
  }
  private func scheduler() throws -> SchedulerConfig {
    let file = "\(path)/scheduler/scheduler_config.json"
    return TextFile.exists(file)
      ? try JSONValue(contentsOf: file).decoded(name: file) : SchedulerConfig()
  }

  public var autoencoder: AutoencoderFolder { AutoencoderFolder("\(path)/vae") }

  public var hasPromptEncoder: Bool { TextFile.exists("\(path)/text_encoder/config.json") }
  /// The text encoder: OpenCLIP's tower, or that of small models. Larger models of HunyuanVideo's
  /// family take precomputed prompt embeddings.
  public func promptEncoder() throws -> any PromptEmbedder {
    let folder = "\(path)/text_encoder"
    let json = try JSONValue(contentsOf: "\(folder)/config.json")
    if json["context_length"] == nil { return try Self.promptEncoder(folder) }
    do {
      return try OpenCLIPPromptEncoder(
        encoder: try OpenCLIPTextEncoder(
          try ModelFolder.config(folder), from: try WeightHolder.opening(folder).source),
        tokenizer: try Self.openCLIPTokenizer("\(path)/tokenizer/merges.txt"))
    } catch let fault as OpenCLIPPromptEncoder.VocabularyMismatch {
      throw FileError(
        .badData, "\(fault.ids) ids of the tokenizer for a table of \(fault.rows) rows", in: folder,
        mend: "use the model's own tokenizer")
    }
  }

  /// OpenCLIP's tokenizer with the merges in `path`, or with its own if there is no such file.
  public static func openCLIPTokenizer(_ path: String? = nil) throws -> BytePairTokenizer {
    let file = path.flatMap { TextFile.exists($0) ? $0 : nil } ?? "embedded:openclip/merges.txt"
    return try BytePairTokenizer(merges: try TextFile.lines(file))
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
