public import Files
public import Layers
public import Models
import Pipelines
import Rewards
public import TensorRuntime
import Transport

/// What `train encoders` can be told.
public struct EncoderSettings: TrainingSettings {
  @Setting(keys: ModelKeys.videoText) public var model = VideoTextConfig()
  @Setting(.computeType) public var compute_dtype = Machine.ComputeType.f32
  @Setting(.moments) public var moments = AdamW.Moments.f32
  @Setting(.parameters) public var parameters = ParameterStorage.f32
  public enum Stage: String, Codable, Sendable, CaseIterable {
    /// Both towers on contrast, matching and masked words.
    case joint
    /// The text layers alone, on masked words.
    case text
    /// The video tower alone, on telling clips apart.
    case video
  }
  @Setting(
    .choice(Stage.self),
    "Both towers together; or one by itself, as towers that are pretrained apart.") public
    var stage = Stage.joint
  @Setting(.seed, "Seed.") public var seed = 1
  @Setting(.steps, "Optimiser steps.") public var steps = 3000
  @Setting(.batch, "Clips of a step.") public var batch = 64
  @Setting(.learningRate, "Learning rate.") public var learning_rate = 1e-3
  @Setting(.warmup, "Steps of linear rise.") public var warmup = 60
  @Setting(.share, "Learning rate at the end, as a share.") public var final_rate = 0.02
  @Setting(.beta, "Decay of AdamW's second moment.") public var beta2 = 0.98
  @Setting(.weightDecay, "Weight decay of AdamW.") public var weight_decay = 0.02
  @Setting(.gradientNorm, "Largest norm of the gradient.") public var max_grad_norm = 1.0
  @Setting(.share, "Share of the words that are masked.") public var mask_share = 0.4
  @Setting(.share, "Share of the clips that also meet a hard text of their batch.") public
    var hard_share = 0.5
  @Setting(
    .share,
    """
    Share of the captions wrong in one attribute, as on the web; drawn anew at every step, of the \
    world only.
    """
  )
  public var caption_noise = 0.0
  @Setting(
    .share, "Share of the clips that also meet their caption wrong in one attribute, as a negative."
  ) public var swapped_share = 1.0
  @Setting(.toggle, "Whether those negatives are in the contrast, too, or in matching alone.")
  public var swapped_contrast = true
  @Setting(.share, "Share of the positive clips that pass through the autoencoder.") public
    var reconstruction_share = 0.0
  @Setting(
    .share,
    """
    Share of the positive clips shown as a generator predicts them in one step from a random level \
    (--generator).
    """
  )
  public var prediction_share = 0.0
  @Setting(
    .whole(0...1 << 20, zero: "none"),
    "Generated clips added to a step, negatives of their own caption.")
  public var generated_per_step = 0
  @Setting(
    .whole(0...1 << 20, zero: "none"),
    "Clips of the world with an object between two shapes, negatives of their caption.")
  public var malformed_per_step = 0
  @Setting(.list(of: .share, count: 2...2), "Least and largest share of the other shape.") public
    var malformed_share = [0.3, 0.7]
  @Setting(.real(above: 0, to: 100), "Temperature of the contrast at the start.") public
    var temperature = 0.07
  @Setting(.toggle, "Learn the temperature within [0.02, 0.5]; otherwise it stays.") public
    var learn_temperature = true
  @Setting(
    .toggle,
    "Fuse token plans into the cross-attention while matching is trained, as the rewards do.")
  public var token_transport = false
  @Setting(.every, "Steps between checkpoints.") public var checkpoint_every = 250
  public init() {}

  /// Numbers that do not go together, found before any work starts.
  public func check() throws {
    if malformed_share[0] >= malformed_share[1] {
      throw ConfigurationError(
        "malformed_share is \(malformed_share)", "malformed_share",
        "give [least, largest], for example [0.3, 0.7]")
    }
    if reconstruction_share + prediction_share > 1 {
      throw ConfigurationError(
        """
        reconstruction_share \(reconstruction_share) and prediction_share \(prediction_share) are \
        more than all clips
        """,
        "prediction_share", "let them add up to at most 1")
    }
  }
}

/// Trains video and text encoders on contrast (VTC), matching (VTM) and masked words (MLM), weight
/// 1 each (InternVideo2 stage 2, arXiv:2403.15377, without the teacher; world.md 3.1).
public struct EncoderTask: EncoderTraining {
  struct Model: Layer {
    var base: VideoTextModel
    var wordHead: FeedForwardHead
    var temperature: Parameter
    init(_ settings: EncoderSettings, from parameters: ParameterSource) throws {
      let c = settings.model.textEncoder
      let fresh = ParameterSource.random(seed: UInt64(settings.seed))
      base = try VideoTextModel(settings.model, from: parameters)
      wordHead = try FeedForwardHead(c.hiddenSize, c.vocabSize, from: fresh)
      temperature = try fresh("temp", Shape(1), .constant(settings.temperature))
    }
    mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
      try base.forEachParameter(body)
      try wordHead.forEachParameter(body)
      try body(&temperature)
    }
    /// A reward-model directory without an OT map.
    func write(_ config: VideoTextConfig, _ vocabulary: [String], to folder: String) throws {
      try ModelFolder.write(base, config: config, weights: "model.safetensors", to: folder)
      try OutputFile.write(vocabulary.joined(separator: "\n") + "\n", to: "\(folder)/vocab.txt")
    }
  }
  let settings: EncoderSettings
  let source: ClipSource
  let tokenizer: WordPieceTokenizer
  let vocabulary: [String]
  let mask: Int32
  /// The autoencoder whose reconstructions count as positives.
  let reconstruct: (@Sendable (Tensor, borrowing Workspace) -> Tensor)?
  /// Generators whose predictions count as positives, in turns.
  let predictions: [OneStepPrediction]
  /// Generated clips `[T, 3, H, W]` and their captions.
  let generated: (clips: [Tensor], captions: [String])
  /// Token plans of the matching pass; nil: plain attention.
  let transport: TokenTransport?
  var training: TrainableModel<Model>

  public init(
    _ settings: EncoderSettings, source: ClipSource, vocabulary: [String],
    reconstruct: (@Sendable (Tensor, borrowing Workspace) -> Tensor)? = nil,
    predictions: [OneStepPrediction] = [],
    generated: (clips: [Tensor], captions: [String]) = ([], []), parameters: ParameterSource,
    in work: borrowing Workspace
  ) throws {
    (
      self.settings, self.source, self.vocabulary, self.reconstruct, self.predictions,
      self.generated
    ) = (settings, source, vocabulary, reconstruct, predictions, generated)
    tokenizer = try WordPieceTokenizer(vocabulary: vocabulary)
    mask = Int32(vocabulary.firstIndex(of: "[MASK]") ?? Int(tokenizer.unknown))
    transport =
      settings.token_transport
      ? try TokenTransport(patchesPerFrame: settings.model.visionEncoder.patchesPerFrame) : nil
    var model = try Model(settings, from: parameters)
    model.makeTrainable(in: work) { $0 != "vision_encoder.img_pos_embed" }
    training = TrainableModel(
      model,
      .init(
        beta2: settings.beta2, weightDecay: settings.weight_decay, moments: settings.moments),
      parameters: settings.parameters, in: work)
  }

  public mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    let batch = batch(step, in: work)
    let b = settings.batch
    let tokens = TokenBatch(batch.rows, padding: tokenizer.pad, special: tokenizer.special)
    let l = tokens.length
    model.zeroGradients(in: work)
    let preprocessing = PixelPreprocessing(size: settings.model.visionEncoder.imgSize)
    let (video, videoSaved) = model.base.video.forward(
      preprocessing.forward(batch.pixels, in: work).y, in: work)
    let (hidden, textSaved) = model.base.text.text(tokens, in: work)

    let temperature =
      settings.learn_temperature
      ? min(max(model.temperature.value.item, 0.02), 0.5) : settings.temperature
    let contrasted = settings.swapped_contrast ? batch.swapped.upperBound : b
    let cls = VideoTextModel.cls(hidden, in: work).slice(0..<contrasted)
    let (projected, projectionSaved) = model.base.textProjection.forward(cls, in: work)
    let (t, textRows) = L2Normalize.forward(projected, in: work)
    let (v, videoRows) = L2Normalize.forward(video.projected.slice(0..<b), in: work)
    let contrast = ContrastiveLoss(
      video: v, text: t, temperature: temperature, identities: source.identities(batch.indices),
      doubted: batch.doubted, in: work)
    let matching = matching(
      batch, pairs(batch, contrast.hardness, step), hidden, video.tokens, in: work)
    let loss = contrast.loss + matching.match.loss + matching.word.loss

    // Backward, the same in reverse.
    let (dHidden, dTokens) = matchingBackward(matching, in: work)
    let dProjectedText = model.base.textProjection.backward(
      L2Normalize.backward(contrast.dText, textRows, in: work), projectionSaved, in: work)
    var dRows: Tensor? = dHidden
    work.scatterAdd(dProjectedText, (0..<contrasted).map { Int32($0 * l) }, to: &dRows)
    model.base.text.textBackward(dRows!.reshaped(hidden.shape), textSaved, in: work)
    var dProjected = work.zeros(video.projected.shape)
    work.place(
      L2Normalize.backward(contrast.dVideo, videoRows, in: work), into: &dProjected, axis: 0, at: 0)
    _ = model.base.video.backward(
      dTokens: dTokens, dProjected: dProjected, videoSaved, wantsPixels: false, in: work)
    model.temperature.gradient = Tensor(
      [settings.learn_temperature ? Float(contrast.dTemperature) : 0], Shape(1))

    let rate = LearningRateSchedule.cosine(floor: settings.final_rate).rate(
      settings.learning_rate, step: step, of: settings.steps, warmup: settings.warmup)
    let norm = try training.update(
      loss: loss, rate: rate, maximumNorm: settings.max_grad_norm, step: step, in: work)
    let terms: [(name: String, value: Double)] = [
      ("vtc", contrast.loss), ("vtm", matching.match.loss), ("mlm", matching.word.loss),
      ("recall", contrast.recall),
      ("vtm_accuracy", Double(matching.match.hits) / Double(matching.matched)),
      ("mlm_accuracy", Double(matching.word.hits) / Double(max(batch.targets.count, 1))),
      ("temperature", temperature),
    ]
    return StepRecord(loss: loss, terms: terms, gradientNorm: norm, learningRate: rate, samples: b)
  }
}

/// What all stages of the encoders share: their state, and what they leave.
protocol EncoderTraining: TrainingTask {
  var settings: EncoderSettings { get }
  var vocabulary: [String] { get }
  var training: TrainableModel<EncoderTask.Model> { get set }
}
extension EncoderTraining {
  var model: EncoderTask.Model {
    get { training.model }
    _modify { yield &training.model }
  }
  public var totalSteps: Int { settings.steps }
  public func state() -> TrainingState {
    training.state("model.")
  }
  public mutating func restore(_ state: inout SavedState, in work: borrowing Workspace) throws {
    try training.restore("model.", from: &state, in: work)
  }
  /// A reward-model directory without an OT map; a tower that was not trained is as it was.
  public func export(to folder: String) throws {
    try model.write(settings.model, vocabulary, to: folder)
  }
}

/// The masked-word head: Linear, GELU, LayerNorm, Linear. Thrown away after training.
struct FeedForwardHead: Layer {
  var dense: Linear
  var norm: LayerNorm
  var decoder: Linear
  struct Saved {
    let dense: Linear.Saved, hidden: Tensor, norm: LayerNorm.Saved, decoder: Linear.Saved
  }

  init(_ width: Int, _ vocabulary: Int, from source: ParameterSource) throws {
    let name = "text_encoder.cls.predictions"
    dense = try Linear(
      "\(name).transform.dense", width, width, initial: .normal(deviation: 0.02), from: source)
    norm = try LayerNorm("\(name).transform.LayerNorm", width, epsilon: 1e-12, from: source)
    decoder = try Linear(
      "\(name).decoder", width, vocabulary, initial: .normal(deviation: 0.02), from: source)
  }
  func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    let (h, ds) = dense.forward(x, in: work)
    let (n, ns) = norm.forward(work.activation(.geluErf, h), in: work)
    let (y, os) = decoder.forward(n, in: work)
    return (y, Saved(dense: ds, hidden: h, norm: ns, decoder: os))
  }
  mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    let dn = norm.backward(decoder.backward(dy, s.decoder, in: work), s.norm, in: work)
    return dense.backward(work.activationBackward(.geluErf, dn, x: s.hidden), s.dense, in: work)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try dense.forEachParameter(body)
    try norm.forEachParameter(body)
    try decoder.forEachParameter(body)
  }
}

/// The 5x5 binomial blur (1 4 6 4 1)/16 on both axes, edges repeated.
enum Blur {
  static func binomial(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    let (h, w) = (x.shape[x.shape.rank - 2], x.shape.last)
    let planes = x.count / (h * w)
    func matrix(_ n: Int) -> Tensor {
      var m = Array(repeating: 0.0, count: n * n)
      for i in 0..<n {
        for (k, c) in [1.0, 4, 6, 4, 1].enumerated() {
          m[i * n + min(max(i + k - 2, 0), n - 1)] += c / 16
        }
      }
      return Tensor(m, Shape(n, n), as: x.type)
    }
    let rows = work.matmul(x.reshaped(Shape(planes * h, w)), matrix(w), transposeB: true).reshaped(
      Shape(planes, h, w))
    return work.batchedMatmul(work.repeated(matrix(h), planes), rows).reshaped(x.shape)
  }
}
