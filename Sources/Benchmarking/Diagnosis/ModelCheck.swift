import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import Transport

/// Loads a model strictly and runs it once on a fixed input. Every parameter must exist and be
/// used, every output must be finite, and the bits must be the same for any number of threads. The
/// fingerprint of the outputs identifies this model on this machine.
public enum ModelCheck {
  /// Findings for the model at `path`. Throws the errors of opening it.
  public static func run(_ path: String) throws -> [Finding] {
    try ModelSummary.of(path).flatMap { try check($0) }
  }

  /// Runs a model on its fixed input. The outputs have names for the findings.
  private typealias Runner = (borrowing Workspace) -> [(name: String, value: Tensor)]

  private static func check(_ summary: ModelSummary) throws -> [Finding] {
    let name = "\(summary.kind.rawValue) \(summary.path)"
    let holder = WeightHolder(
      try WeightTable(
        opening: summary.path,
        stripping: [.autoencoder, .imageAutoencoder].contains(summary.kind) ? ["vae."] : []))
    holder.table.checksFinite = true
    let run: Runner
    do { run = try runner(summary, holder) } catch let error as NoModel {
      return [Finding(name, false, error.reason)]
    }
    let ignored = try ignoredNames(summary)
    return [
      weights(name, summary, unexpected: holder.table.unexpected(ignoring: ignored)),
      outputs(name, run),
    ]
  }

  private static func ignoredNames(_ summary: ModelSummary) throws -> [String] {
    switch summary.kind {
    case .reward: VideoTextModel.ignoredNames
    case .openCLIPText: OpenCLIPTextEncoder.ignoredNames(try config(summary))
    default: []
    }
  }
  /// Decodes `config.json`, which must be one of this kind.
  private static func config<C: ModelConfig>(_ summary: ModelSummary) throws -> C {
    let file = "\(summary.path)/config.json"
    let c: C = try summary.config!.decoded(name: file)
    if let problem = c.problem {
      throw FileError(.badData, problem, in: file, mend: "correct the configuration")
    }
    return c
  }

  /// Weights that are no model which can be run.
  private struct NoModel: Error { let reason: String }

  /// Opens the model. Every parameter must exist.
  private static func runner(_ summary: ModelSummary, _ holder: WeightHolder) throws -> Runner {
    if summary.config == nil && summary.kind != .otMap {
      throw NoModel(
        reason:
          "no config.json beside the weights: give a model directory (pisces convert makes one)")
    }
    switch summary.kind {
    case .reward: return try reward(try config(summary), holder.source)
    case .textEncoder: return try prompts(summary.path, holder.source)
    case .hunyuanTransformer: return try transformer(try config(summary), holder.source)
    case .autoencoder: return try autoencoder(try config(summary), holder.source)
    case .videocrafterUNet: return try unet(try config(summary), holder.source)
    case .imageAutoencoder: return try imageAutoencoder(try config(summary), holder.source)
    case .openCLIPText: return try openCLIP(try config(summary), holder.source)
    case .otMap: return try otMap(holder)
    case .videocrafterOriginal:
      throw NoModel(
        reason: "the original checkpoint: convert it with pisces convert --kind videocrafter2")
    case .hunyuanOriginal:
      throw NoModel(
        reason: "the original layout: convert it with pisces convert --kind hunyuan-transformer")
    case .lora, .tensors: throw NoModel(reason: "no model of its own: give a model directory")
    }
  }

  private static func weights(_ name: String, _ summary: ModelSummary, unexpected: [String])
    -> Finding
  {
    Finding(
      "\(name): weights", unexpected.isEmpty,
      unexpected.isEmpty
        ? """
        \(summary.tensors) tensors, \(summary.parameters) parameters, fingerprint \
        \(summary.fingerprint)
        """
        : """
        \(unexpected.count) tensors that this model does not have, for instance \
        \(unexpected[0]): check that config.json belongs to these weights
        """
    )
  }
  /// Whether the outputs are finite and the same on another number of threads.
  private static func outputs(_ name: String, _ run: Runner) -> Finding {
    let work = Workspace()
    let outputs = run(work)
    let threads = Machine.threads
    let broken = outputs.filter { !work.isFinite($0.value) }.map(\.name)
    Machine.threads = threads == 1 ? 2 : 1
    let again = run(work)
    Machine.threads = threads
    let first = fingerprint(outputs.map(\.value))
    let second = fingerprint(again.map(\.value))
    func finding(_ isGood: Bool, _ detail: String) -> Finding {
      Finding("\(name): outputs", isGood, detail)
    }
    if !broken.isEmpty {
      return finding(
        false,
        """
        not finite: \(broken.joined(separator: ", ")): use a checkpoint from before training \
        diverged
        """
      )
    }
    if first != second {
      return finding(
        false,
        """
        other bits on another number of threads (\(hexadecimal(first)), \(hexadecimal(second))): \
        please report this
        """
      )
    }
    return finding(
      true,
      """
      \(outputs.map(\.name).joined(separator: ", ")) finite, the same bits on 1 and on several \
      threads, fingerprint \(hexadecimal(first))
      """
    )
  }

  private static func noise(_ shape: Shape, _ sample: Int, _ work: borrowing Workspace) -> Tensor {
    RandomStream(seed: 2602, .test, sample: sample).normal(shape, .f32, in: work)
  }

  private static func reward(_ c: VideoTextConfig, _ source: ParameterSource) throws -> Runner {
    let model = try VideoTextModel(c, from: source)
    return { work in
      // Two tubelets of noise and a caption of five words: enough to reach every parameter.
      let side = c.visionEncoder.imgSize
      let frames = max(2, 2 * c.visionEncoder.tubeletSize)
      let video = model.video.forward(
        noise(Shape(1, frames, 3, side, side), 1, work), checkpointing: true, in: work
      ).output
      let ids = (0..<7).map { Int32((101 + 37 * $0) % c.textEncoder.vocabSize) }
      let tokens = TokenBatch([ids])
      let hidden = model.text.text(tokens, in: work).hidden
      let projected = model.textProjection(VideoTextModel.cls(hidden, in: work), in: work)
      let fused = model.text.fusion(hidden, tokens, vision: video.tokens, in: work).hidden
      return [
        ("video feature", video.projected), ("text feature", projected),
        ("match logits", model.matchingHead(VideoTextModel.cls(fused, in: work), in: work)),
      ]
    }
  }
  private static func prompts(_ folder: String, _ source: ParameterSource) throws -> Runner {
    let encoder = try GeneratorFolder.promptEncoder(folder, from: source)
    return { work in
      let prompt = encoder(["a red circle moves to the left"], in: work)
      return [("prompt states", prompt.states), ("pooled prompt", prompt.pooled!)]
    }
  }
  private static func transformer(_ c: TransformerConfig, _ source: ParameterSource) throws
    -> Runner
  {
    let model = try VideoTransformer(c, from: source)
    return { work in
      let latents = noise(
        Shape(1, c.inChannels, 2 * c.patchSizeT, 4 * c.patchSize, 4 * c.patchSize), 2, work)
      let prompt = PromptEmbedding(
        states: noise(Shape(1, 8, c.textEmbedDim), 3, work), counts: [6],
        pooled: noise(Shape(1, c.pooledProjectionDim), 4, work))
      return [
        (
          "velocity",
          model(latents, times: [500], prompt, guidance: c.guidanceEmbeds ? [6000] : nil, in: work)
        )
      ]
    }
  }
  private static func autoencoder(_ c: AutoencoderConfig, _ source: ParameterSource) throws
    -> Runner
  {
    let encoder = try AutoencoderEncoder(c, from: source)
    let decoder = try AutoencoderDecoder(c, from: source)
    return { work in
      let video = noise(
        Shape(
          1, c.inChannels, 1 + c.temporalCompressionRatio, 2 * c.spatialCompressionRatio,
          2 * c.spatialCompressionRatio), 5, work)
      let moments = encoder.forward(video, in: work).y
      let latents = work.narrowed(moments, axis: 1, 0..<c.latentChannels)
      return [
        ("moments", moments), ("video", decoder.forward(latents, checkpointing: true, in: work).y),
      ]
    }
  }
  private static func unet(_ c: VideoUNetConfig, _ source: ParameterSource) throws -> Runner {
    let model = try VideoUNet(c, from: source)
    return { work in
      let side = 2 * c.spatialDivisor
      var prompt = PromptEmbedding(states: noise(Shape(1, 8, c.contextDim), 8, work), counts: [8])
      prompt.motion = c.motionCondProjDim == nil ? nil : [0.05]
      return [
        (
          "noise",
          model(
            noise(Shape(1, c.inChannels, 2, side, side), 7, work), times: [499], prompt,
            guidance: c.timeCondProjDim == nil ? nil : [7.5], in: work)
        )
      ]
    }
  }
  private static func imageAutoencoder(
    _ c: ImageAutoencoderConfig, _ source: ParameterSource
  ) throws -> Runner {
    let encoder = try ImageAutoencoderEncoder(c, from: source)
    let decoder = try ImageAutoencoderDecoder(c, from: source)
    return { work in
      let side = 2 * c.ratio
      let images = noise(Shape(1, c.inChannels, side, side), 9, work)
      let moments = encoder.forward(images, checkpointing: true, in: work).y
      let latents = work.narrowed(moments, axis: 1, 0..<c.embedDim)
      return [("moments", moments), ("image", decoder(latents, in: work))]
    }
  }
  /// The first ids of the vocabulary; the tokenizer lies elsewhere in the generator's directory.
  private static func openCLIP(_ c: OpenCLIPTextConfig, _ source: ParameterSource) throws -> Runner
  {
    let encoder = try OpenCLIPTextEncoder(c, from: source)
    return { work in
      let ids = (0..<c.contextLength).map { Int32(37 * $0 % c.vocabSize) }
      return [("prompt states", encoder([ids], in: work))]
    }
  }
  /// The sizes are those of the matrices (checkpoints.md 3.1).
  private static func otMap(_ holder: WeightHolder) throws -> Runner {
    func extents(_ name: String) throws(FileError) -> [Int] {
      guard let entry = holder.table.entry(name), entry.shape.count == 2 else {
        throw FileError(
          .badData, "no matrix '\(name)'", in: holder.table.path, mend: "give an OT map")
      }
      return entry.shape
    }
    let first = try extents("net.0.weight")
    let last = try extents("net.6.weight")
    let map = try NeuralMap(
      .init(input: first[1], hidden: first[0], output: last[0]), from: holder.source)
    return { work in [("mapped", map(noise(Shape(4, first[1]), 6, work), in: work))] }
  }

  /// FNV-1a over the bits of every element.
  static func fingerprint(_ tensors: [Tensor]) -> UInt64 {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for x in tensors.flatMap(\.floats) { hash = (hash ^ UInt64(x.bitPattern)) &* 0x100_0000_01b3 }
    return hash
  }
}
