public import Diffusion
import Files
public import Layers
public import Models
public import Pipelines
public import PostTraining
import Rewards
public import TensorRuntime
import Transport

/// The sizes of the networks of a post-training run; as published where nothing else is given, with
/// InternVideo2 of 1 G and BERT-large for the rewards.
public struct ModelSizes: Sendable {
  /// The networks of a generator's family. Prompts are embedded by the reward model's text layers,
  /// or by OpenCLIP's tower.
  public enum Generator: Sendable {
    case transformer(TransformerConfig, AutoencoderConfig)
    case unet(VideoUNetConfig, ImageAutoencoderConfig, OpenCLIPTextConfig?)
  }
  public enum Published: String, Sendable, CaseIterable {
    /// 13 G parameters; 1.4 G.
    case hunyuanVideo = "hunyuan-video"
    case videocrafter2
  }
  public var generator: Generator
  public var process: GenerativeProcess
  public var reward = VideoTextConfig()
  /// Tokens of a prompt, where the text encoder leaves them open.
  public var words = 256

  public init(_ generator: Generator, _ process: GenerativeProcess) {
    (self.generator, self.process) = (generator, process)
  }
  public init(_ published: Published) {
    switch published {
    case .hunyuanVideo: self.init(.transformer(.init(), .init()), .flow(shift: 7))
    case .videocrafter2: self.init(.unet(.init(), .init(), .init()), .diffusion(.init()))
    }
  }
  /// Those of a generator directory.
  public init(of folder: GeneratorFolder) throws {
    let (network, geometry) = (try folder.denoiser(), try folder.autoencoder.geometry())
    let process = try folder.process()
    switch (network.config, geometry) {
    case (let c as TransformerConfig, let autoencoder as AutoencoderConfig):
      self.init(.transformer(c, autoencoder), process)
    case (let c as VideoUNetConfig, let autoencoder as ImageAutoencoderConfig):
      let prompts = try folder.promptEncoder() as? OpenCLIPPromptEncoder
      self.init(.unet(c, autoencoder, prompts?.encoder.config), process)
    default:
      throw FileError(
        .badData, "a network with the autoencoder of the other family", in: folder.path,
        mend: "give it the vae/ of its own family")
    }
  }

  /// Frames, height and width that the family was published with.
  public var usualClip: (frames: Int, height: Int, width: Int) {
    switch generator {
    case .transformer: (29, 480, 848)
    case .unet: (16, 320, 512)
    }
  }
  public var geometry: any ClipGeometry {
    switch generator {
    case .transformer(_, let autoencoder): autoencoder
    case .unet(_, let autoencoder, _): autoencoder
    }
  }
  /// The generator's network. It fits the text encoder that it gets.
  public func denoiser(from source: ParameterSource) throws -> any VideoDenoiser {
    let width = reward.textEncoder.hiddenSize
    switch generator {
    case .transformer(var c, _):
      (c.textEmbedDim, c.pooledProjectionDim) = (width, width)
      return try VideoTransformer(c, from: source)
    case .unet(var c, _, let text):
      c.contextDim = text?.width ?? width
      return try VideoUNet(c, from: source)
    }
  }

  /// Frames of a clip of `frames` that the rewards see.
  public func rewardFrames(_ s: PostSettings, of frames: Int) -> Int {
    guard case .unet = generator else { return frames }
    return s.rewardFrames(of: frames, decodesSingleFrames: true)
  }
  /// The models of a run with the network `teacher`. `frames` is the number of frames of a clip.
  func models<Model: VideoDenoiser>(
    _ teacher: Model, _ s: PostSettings, frames: Int, from source: ParameterSource
  ) throws -> PostModels<Model> {
    let network: LatentDecoder.Network =
      switch generator {
      case .transformer(_, let c): .clips(try AutoencoderDecoder(c, from: source))
      case .unet(_, let c, _): .frames(try ImageAutoencoderDecoder(c, from: source))
      }
    let decoder = LatentDecoder(
      network, chunk: s.vae.chunk_latents, checkpointing: s.vae.activation_checkpointing)
    var r = reward
    r.visionEncoder.numFrames = rewardFrames(s, of: frames)
    let video = try VideoTextModel(r, from: source)
    let map = try NeuralMap(
      .init(input: r.otMap.inputDim, hidden: r.otMap.hiddenDim, output: r.otMap.outputDim),
      from: source)
    let tokenizer = try WordPieceTokenizer(vocabulary: ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    let model =
      s.weights.quality > 0 || s.weights.semantic > 0
      ? try RewardModel(
        video, tokenizer: tokenizer, map: { map($0, in: $1) }, options: s.rewardOptions) : nil
    let prompts: any PromptEmbedder
    if case .unet(_, _, let text?) = generator {
      prompts = try OpenCLIPPromptEncoder(
        encoder: try OpenCLIPTextEncoder(text, from: source),
        tokenizer: try GeneratorFolder.openCLIPTokenizer())
    } else {
      prompts = PromptEncoder(encoder: video.text, tokenizer: tokenizer, maxLength: words)
    }
    return PostModels(
      teacher: teacher, process: process, decoder: decoder, reward: model, prompts: prompts)
  }
}

/// Parameters without values, for plans: addresses of a pool of their own, in bf16. They are never
/// written, so that they take no memory.
final class PlannedWeights {
  private let pool = BufferPool()
  private(set) var bytes = 0

  var source: ParameterSource {
    ParameterSource { [self] _, shape, _, need in
      if need == .optional { return nil }
      bytes += 2 * shape.count
      return Workspace(pool: pool).tensor(shape, .bf16)
    }
  }
}
