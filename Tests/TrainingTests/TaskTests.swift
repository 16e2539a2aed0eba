import Diffusion
import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import TestSupport
import Testing
import World

@testable import Training

#if canImport(Glibc)
  import Glibc
#endif

/// The losses of pretraining by their definitions, and their gradients as they reach the
/// parameters.
@Suite struct TaskTests {
  private static func clips(_ count: Int) -> [Tensor] {
    (0..<count).map { i in
      Workspace().affineClamp(
        randomTensor(Shape(5, 3, 16, 16), seed: UInt64(30 + i), type: .f32), alpha: 0.2, beta: 0.5,
        to: 0...1)
    }
  }
  private static let captions = ["a red star", "a blue ring", "a green cross"]
  private static let source = ClipSource.clips(clips(3), captions: captions)

  /// Along the gradient of a part of the parameters the loss rises by the gradient's norm. Tasks
  /// compute in f32, so the comparison is one of percents. The rate of learning is 0.
  private func gradientIsTheLosss<Task: TrainingTask, Model: Layer>(
    _ task: Task, _ training: WritableKeyPath<Task, TrainableModel<Model>>, step: Int,
    parts: [String]
  ) throws {
    let work = Workspace()
    var first = task
    let record = try first.step(step, in: work)
    var gradients: [String: Tensor] = [:]
    for p in first[keyPath: training].model.trainableParameters() {
      gradients[p.name] = p.gradient
    }
    var total = 0.0
    for part in parts {
      let names = gradients.keys.filter { $0.hasPrefix(part) }
      let norm = names.reduce(0) { $0 + work.sumOfSquares(gradients[$1]!) }.squareRoot()
      total += norm * norm
      #expect(norm > 1e-4, "\(part)")
      func loss(_ t: Double) throws -> Double {
        var moved = task
        moved[keyPath: training].model.forEachParameter { p in
          if p.name.hasPrefix(part), let g = gradients[p.name] {
            p.value = work.combine(1, p.value, t / norm, g)
          }
        }
        return try moved.step(step, in: work).loss
      }
      let h = 4e-3
      let numeric = try (loss(h) - loss(-h)) / (2 * h)
      #expect(abs(numeric - norm) < 0.02 * norm, "\(part): \(numeric), \(norm)")
    }
    #expect(abs(record.gradientNorm - total.squareRoot()) < 1e-3 * record.gradientNorm)
  }

  // MARK: autoencoder

  private func autoencoderTask() throws -> AutoencoderTask<ClipAutoencoder> {
    var s = AutoencoderSettings()
    (s.model, s.steps, s.single_frame_share) = (SmallModels.autoencoder, 4, 0.5)
    (s.frames_per_step, s.clips_per_step, s.learning_rate, s.kl_weight) = (3, 2, 0, 0.5)
    return try AutoencoderTask(
      s, try ClipAutoencoder(s.model, from: .random(seed: 7)), source: Self.source, in: Workspace())
  }
  /// mean of w (|e| + e²/2) over pixels in [-1, 1], and kl_weight times the mean over the latent's
  /// elements of KL(N(μ, σ²) ‖ N(0, 1)) = (μ² + σ² - 1 - log σ²) / 2.
  @Test func autoencoderLoss() throws {
    let work = Workspace()
    var task = try autoencoderTask()
    let model = task.training.model
    let record = try task.step(2, in: work)
    var order = RandomStream(seed: 1, .order, step: 2)
    let chosen = (0..<2).map { _ in order.below(1 << 30) }
    let clips = Self.source.clips(chosen, in: work)
    let weights = work.permuted(
      ForegroundWeights.compute(clips, weight: 5, in: work), [0, 2, 1, 3, 4]
    ).doubles
    let x = work.permuted(clips, [0, 2, 1, 3, 4]).doubles.map { 2 * $0 - 1 }
    let moments = model.encoder.forward(Tensor(x, Shape(2, 3, 5, 16, 16), as: .f32), in: work).y
    let mean = work.narrowed(moments, axis: 1, 0..<3)
    let log = work.narrowed(moments, axis: 1, 3..<6).doubles
    let noise = RandomStream(seed: 1, .latent, step: 2).normal(mean.shape, in: work).doubles
    let z = zip(mean.doubles, zip(log, noise)).map { $0 + exp($1.0 / 2) * $1.1 }
    let y = model.decoder.forward(Tensor(z, mean.shape, as: .f32), in: work).y.doubles
    let errors = zip(x, y).map { abs($1 - $0) }
    let pixels =
      zip(weights, errors).reduce(0) { $0 + $1.0 * ($1.1 + $1.1 * $1.1 / 2) } / Double(x.count)
    let kl =
      zip(mean.doubles, log).reduce(0) { $0 + ($1.0 * $1.0 + exp($1.1) - 1 - $1.1) / 2 }
      / Double(z.count)
    #expect(abs(record.loss - pixels - 0.5 * kl) < 1e-5 * record.loss)
    #expect(record.terms.map(\.name) == ["reconstruction", "kl"])
    #expect(abs(record.terms[1].value - kl) < 1e-5 * kl && record.samples == 2)
  }
  @Test func autoencoderGradient() throws {
    try gradientIsTheLosss(
      autoencoderTask(), \.training, step: 2,
      parts: ["encoder.", "quant_conv.", "decoder.", "post_quant_conv."])
  }
  /// A step depends on the state and its number alone, and the first half sees single frames.
  @Test func stepsAreIndependent() throws {
    let work = Workspace()
    var first = try autoencoderTask()
    let (single, clips) = (try first.step(1, in: work), try first.step(3, in: work))
    var second = try autoencoderTask()
    #expect(try second.step(3, in: work).loss == clips.loss)
    #expect(try second.step(1, in: work).loss == single.loss)
    #expect(single.samples == 3 && clips.samples == 2 && single.loss != clips.loss)
    #expect(first.kindsOfStep(from: 0) == [0, 3] && first.kindsOfStep(from: 2) == [2])
  }
  /// The exported scaling factor makes the latents' deviation 1.
  @Test func exportedScale() throws {
    let folder = try ScratchFolder()
    let work = Workspace()
    let task = try autoencoderTask()
    try task.export(to: folder("vae"))
    let encoder = task.training.model.encoder
    // 64 clips of a source of three.
    let three = (0..<3).map { i in
      let x = work.permuted(Self.source.clips([i], in: work), [0, 2, 1, 3, 4])
      let centered = work.combine(2, x, -1, .ones(x.shape))
      return LatentPosterior(encoder.forward(centered, in: work).y, in: work).mean.doubles
    }
    let latents = (0..<64).flatMap { three[$0 % 3] }
    let mean = latents.reduce(0, +) / Double(latents.count)
    let variance = latents.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(latents.count)
    let config = try JSONValue(contentsOf: folder("vae/config.json"))
    let found = try #require(config["scaling_factor"]?.number)
    #expect(abs(found - 1 / variance.squareRoot()) < 1e-4 * found)
    // Many at once are the same as one at a time, times the scale.
    let all = try Self.source.latents(
      7, of: LatentEncoder(.clips(encoder)), times: 0.5, atOnce: 4, in: work
    ).doubles
    #expect(zip(all, latents).allSatisfy { abs($0 - 0.5 * $1) < 1e-5 })
  }

  // MARK: generator

  private func generatorTask(_ set: (inout GeneratorSettings) -> Void = { _ in }) throws
    -> GeneratorTask<VideoTransformer>
  {
    var text = SmallModels.videoText.textEncoder
    text.numHiddenLayers = text.fusionLayer
    let tokenizer = try WordPieceTokenizer(
      vocabulary: ["[PAD]", "[UNK]", "[CLS]", "a", "red", "blue", "green", "star", "ring", "cross"])
    var s = GeneratorSettings()
    (s.model, s.steps, s.batch, s.clips, s.learning_rate) = (SmallModels.transformer, 9, 4, 3, 0)
    (s.drop_prompt, s.shift, s.warmup) = (0.4, 5, 0)
    set(&s)
    var autoencoder = SmallModels.autoencoder
    autoencoder.scalingFactor = 0.7
    let work = Workspace()
    return try GeneratorTask(
      s, source: Self.source,
      frozen: .init(
        process: .flow(shift: 5),
        encoder: LatentEncoder(
          .clips(try AutoencoderEncoder(autoencoder, from: .random(seed: 8)))),
        prompts: PromptEncoder(
          encoder: try TextEncoder(text, from: .random(seed: 9)), tokenizer: tokenizer,
          maxLength: 8), preview: nil),
      model: try VideoTransformer(s.model, from: noisySingle), early: "", components: { _ in },
      report: { _ in }, in: work)
  }
  /// Parameters without zeros, in f32.
  private var noisySingle: ParameterSource {
    let double = noisySource(seed: 10)
    return ParameterSource { name, shape, initial, _ in
      Workspace().converted(try double(name, shape, initial).value, to: .f32)
    }
  }
  /// mean (v - (ε - z))² at x = σ ε + (1-σ) z; or, distilled, against v∅ + w (v - v∅) of the first
  /// network. σ = s u / (1 + (s-1) u), u the logistic of a normal; prompts are dropped by chance.
  @Test(arguments: [0.0, 2.5]) func generatorLoss(_ distilled: Double) throws {
    let work = Workspace()
    var task = try generatorTask { $0.distil_guidance = distilled }
    let model = task.training.model
    let record = try task.step(3, in: work)
    var order = RandomStream(seed: 1, .order, step: 3)
    var levels = RandomStream(seed: 1, .timestep, step: 3)
    let chosen = (0..<4).map { _ in order.below(3) }
    let captions = chosen.map { order.uniform() < 0.4 ? "" : Self.captions[$0] }
    #expect(captions.contains("") && captions.contains { $0 != "" })
    let shape = Shape(4, 3, 2, 4, 4)
    let z = chosen.flatMap { task.latents[row: $0].doubles }
    let noise = RandomStream(seed: 1, .noise, step: 3).normal(shape, in: work).doubles
    let sigmas = (0..<4).map { _ -> Double in
      let u = 1 / (1 + exp(-levels.normal()))
      return 5 * u / (1 + 4 * u)
    }
    let x = z.indices.map { i -> Double in
      let s = sigmas[i / 96]
      return s * noise[i] + (1 - s) * z[i]
    }
    func velocity(_ captions: [String]) -> [Double] {
      model(
        Tensor(x, shape, as: .f32), times: sigmas.map { Float(1000 * $0) },
        task.frozen.prompts(captions, in: work), guidance: nil, in: work
      ).doubles
    }
    let v = velocity(captions)
    let empty = velocity(captions.map { _ in "" })
    let loss = z.indices.reduce(0.0) { sum, i in
      let target =
        distilled == 0 ? noise[i] - z[i] : empty[i] + distilled * (v[i] - empty[i])
      return sum + (v[i] - target) * (v[i] - target)
    }
    #expect(abs(record.loss - loss / Double(z.count)) < 1e-4 * record.loss && record.samples == 4)
  }
  @Test func generatorGradient() throws {
    try gradientIsTheLosss(
      generatorTask(), \.training, step: 3,
      parts: [
        "x_embedder.", "context_embedder.", "time_text_embed.", "transformer_blocks.",
        "single_transformer_blocks.", "norm_out.", "proj_out.",
      ])
  }

  // MARK: encoders

  @Test(arguments: [true, false]) func encoderGradient(_ swapsInContrast: Bool) throws {
    let vocabulary = CaptionGrammar.vocabulary()
    var s = EncoderSettings()
    s.model = SmallModels.videoText
    (s.model.maxTxtL, s.model.textEncoder.maxPositionEmbeddings) = (24, 24)
    (s.model.textEncoder.vocabSize, s.model.visionEncoder.numFrames) = (vocabulary.count, 5)
    (s.steps, s.batch, s.learning_rate, s.warmup, s.temperature) = (4, 4, 0, 0, 0.4)
    // Drawn hard negatives would jump with the parameters.
    (s.hard_share, s.swapped_contrast, s.generated_per_step) = (0, swapsInContrast, 1)
    let source = ClipSource.world(
      SceneSampler(seed: 1), Renderer(Canvas(height: 16, width: 16, frames: 5)))
    let task = try EncoderTask(
      s, source: source, vocabulary: vocabulary,
      generated: ([Self.clips(1)[0]], ["a red star moving left"]), parameters: noisySingle,
      in: Workspace())
    // Two whole towers, the heads and the temperature.
    try gradientIsTheLosss(
      task, \.training, step: 1,
      parts: [
        "vision_encoder.", "text_encoder.bert.", "text_encoder.cls.", "text_proj.", "itm_head.",
        "temp",
      ])
  }
}
