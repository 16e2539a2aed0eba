import Files
public import Layers
import Models
public import TensorRuntime

/// One encoder alone: the text layers on masked words, or the video encoder on telling clips apart
/// (two views of a clip against the views of the other clips; Chen et al. 2020, arXiv:2002.05709).
/// Encoders that are then trained together for few steps at a low temperature keep the gap between
/// their modalities that real encoders have (Liang et al. 2022, arXiv:2203.02053).
public struct TowerTask: EncoderTraining {
  let settings: EncoderSettings
  let source: ClipSource
  let tokenizer: WordPieceTokenizer
  let vocabulary: [String]
  let mask: Int32
  var training: TrainableModel<EncoderTask.Model>

  public init(
    _ settings: EncoderSettings, source: ClipSource, vocabulary: [String],
    parameters: ParameterSource, in work: borrowing Workspace
  ) throws {
    (self.settings, self.source, self.vocabulary) = (settings, source, vocabulary)
    tokenizer = try WordPieceTokenizer(vocabulary: vocabulary)
    mask = Int32(vocabulary.firstIndex(of: "[MASK]") ?? Int(tokenizer.unknown))
    var model = try EncoderTask.Model(settings, from: parameters)
    let fusion = settings.model.textEncoder.fusionLayer
    let isText = settings.stage == .text
    model.makeTrainable(in: work) { name in
      if !isText {
        return name == "temp"
          || name.hasPrefix("vision_encoder.") && name != "vision_encoder.img_pos_embed"
      }
      guard name.hasPrefix("text_encoder.") else { return false }
      guard
        let layer = name.split(separator: "encoder.layer.").last?.split(separator: ".").first
          .flatMap({ Int($0) })
      else { return true }
      return layer < fusion
    }
    training = TrainableModel(
      model,
      .init(
        beta2: settings.beta2, weightDecay: settings.weight_decay, moments: settings.moments),
      parameters: settings.parameters, in: work)
  }

  public mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    var order = RandomStream(seed: UInt64(settings.seed), .order, step: step)
    let indices = (0..<settings.batch).map { _ in order.below(1 << 30) }
    model.zeroGradients(in: work)
    let (loss, terms) =
      settings.stage == .text ? words(indices, step, in: work) : views(indices, step, in: work)
    let rate = LearningRateSchedule.cosine(floor: settings.final_rate).rate(
      settings.learning_rate, step: step, of: settings.steps, warmup: settings.warmup)
    let norm = try training.update(
      loss: loss, rate: rate, maximumNorm: settings.max_grad_norm, step: step, in: work)
    return StepRecord(
      loss: loss, terms: terms, gradientNorm: norm, learningRate: rate, samples: settings.batch)
  }

  /// Predicts masked words from the text layers alone.
  private mutating func words(_ indices: [Int], _ step: Int, in work: borrowing Workspace) -> (
    Double, [(name: String, value: Double)]
  ) {
    var draw = RandomStream(seed: UInt64(settings.seed), .caption, step: step)
    var masking = RandomStream(seed: UInt64(settings.seed), .masking, step: step)
    let rows = source.captions(indices, drawing: &draw).map {
      tokenizer.encode($0, maxLength: settings.model.maxTxtL)
    }
    let (masked, targets) = MaskedWords.draw(
      rows, tokenizer, mask: mask, share: settings.mask_share, from: &masking)
    let tokens = TokenBatch(masked, padding: tokenizer.pad, special: tokenizer.special)
    let d = settings.model.textEncoder.hiddenSize
    let (hidden, textSaved) = model.base.text.text(tokens, in: work)
    let flat = hidden.reshaped(Shape(hidden.shape.rows, d))
    let places = targets.map { Int32($0.row * tokens.length + $0.position) }
    let (logits, headSaved) = model.wordHead.forward(work.gather(flat, places), in: work)
    let word = CrossEntropy.rows(
      logits.doubles, columns: logits.shape[1], targets: targets.map { Int($0.id) })

    var dFlat: Tensor? = work.zeros(flat.shape)
    work.scatterAdd(
      model.wordHead.backward(Tensor(word.gradient, logits.shape, as: .f32), headSaved, in: work),
      places, to: &dFlat)
    model.base.text.textBackward(dFlat!.reshaped(hidden.shape), textSaved, in: work)
    return (
      word.loss,
      [("mlm", word.loss), ("mlm_accuracy", Double(word.hits) / Double(max(targets.count, 1)))]
    )
  }

  /// Compares two views of each clip with the views of the other clips.
  private mutating func views(_ indices: [Int], _ step: Int, in work: borrowing Workspace) -> (
    Double, [(name: String, value: Double)]
  ) {
    let b = indices.count
    let clips = source.clips(indices, in: work)
    let pixels = work.concatenated((0..<2).map { view(clips, $0, step, in: work) }, axis: 0)
    let preprocessing = PixelPreprocessing(size: settings.model.visionEncoder.imgSize)
    let (video, saved) = model.base.video.forward(
      preprocessing.forward(pixels, in: work).y, in: work)
    let (unit, rows) = L2Normalize.forward(video.projected, in: work)
    let temperature =
      settings.learn_temperature
      ? min(max(model.temperature.value.item, 0.02), 0.5) : settings.temperature
    let contrast = ContrastiveLoss(
      video: unit.slice(0..<b), text: unit.slice(b..<2 * b), temperature: temperature,
      identities: indices.map { "\($0)" }, doubted: [], in: work)

    let dUnit = work.concatenated([contrast.dVideo, contrast.dText], axis: 0)
    _ = model.base.video.backward(
      dTokens: work.zeros(video.tokens.shape),
      dProjected: L2Normalize.backward(dUnit, rows, in: work),
      saved, wantsPixels: false, in: work)
    model.temperature.gradient = Tensor(
      [settings.learn_temperature ? Float(contrast.dTemperature) : 0], Shape(1))
    return (
      contrast.loss,
      [("views", contrast.loss), ("recall", contrast.recall), ("temperature", temperature)]
    )
  }
  /// A view of a clip: brighter or darker, with noise, and every second one blurred.
  private func view(_ clips: Tensor, _ which: Int, _ step: Int, in work: borrowing Workspace)
    -> Tensor
  {
    var draw = RandomStream(seed: UInt64(settings.seed), .augmentation, step: step, sample: which)
    let b = clips.shape[0]
    let noise = RandomStream(seed: UInt64(settings.seed), .noise, step: step, sample: which).normal(
      clips.shape, in: work)
    let noisy = work.mixEach(
      (0..<b).map { _ in draw.uniform(0.7..<1.3) }, clips,
      (0..<b).map { _ in draw.uniform(0..<0.12) }, noise)
    var out = work.affineClamp(noisy, alpha: 1, beta: 0, to: 0...1)
    for i in stride(from: which, to: b, by: 2) {
      work.place(Blur.binomial(out.slice(i..<i + 1), in: work), into: &out, axis: 0, at: i)
    }
    return out
  }
}
