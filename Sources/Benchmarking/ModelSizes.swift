import Diffusion
import Layers
public import Models
import Pipelines
public import PostTraining
import Rewards
public import TensorRuntime
import Transport

/// The sizes of the networks of a post-training run; as published where nothing else is given:
/// HunyuanVideo's transformer of 13 G parameters and its autoencoder, and InternVideo2 of 1 G with
/// BERT-large, whose text layers embed the prompts too.
public struct ModelSizes: Sendable {
  public var transformer = TransformerConfig(), autoencoder = AutoencoderConfig()
  public var reward = VideoTextConfig()
  /// Tokens of a prompt.
  public var words = 256
  public init() {}

  /// Networks without values, for plans: their weights are address space of `pool`, in bf16.
  func models(_ s: PostSettings, frames: Int, in pool: BufferPool) throws -> (
    models: PostModels<VideoTransformer>, bytes: Int
  ) {
    var bytes = 0
    let source = ParameterSource { name, shape, _, _ in
      bytes += 2 * shape.count
      return Workspace(pool: pool).tensor(shape, .bf16)
    }
    var (c, r) = (transformer, reward)
    (c.textEmbedDim, c.pooledProjectionDim) = (r.textEncoder.hiddenSize, r.textEncoder.hiddenSize)
    let teacher = try VideoTransformer(c, from: source)
    let decoder = LatentDecoder(
      .clips(try AutoencoderDecoder(autoencoder, from: source)),
      chunk: s.vae.chunk_latents, checkpointing: s.vae.activation_checkpointing)
    r.visionEncoder.numFrames = frames
    let video = try VideoTextModel(r, from: source)
    let map = try NeuralMap(
      .init(input: r.otMap.inputDim, hidden: r.otMap.hiddenDim, output: r.otMap.outputDim),
      from: source)
    let tokenizer = try WordPieceTokenizer(vocabulary: ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])
    let model =
      s.weights.quality > 0 || s.weights.semantic > 0
      ? try RewardModel(
        video, tokenizer: tokenizer, map: { map($0, in: $1) }, options: s.rewardOptions) : nil
    return (
      PostModels(
        teacher: teacher, process: .flow(shift: 7), decoder: decoder, reward: model,
        prompts: PromptEncoder(encoder: video.text, tokenizer: tokenizer, maxLength: words)), bytes
    )
  }
}
