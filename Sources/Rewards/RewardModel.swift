public import Layers
public import Models
public import TensorRuntime
public import Transport

/// Which rewards are computed, and how (algorithm.md 5, options 4.7).
public struct RewardOptions: Sendable, Equatable {
  /// With transport: the mapped text feature, and token plans in the fusion layers.
  public var useTransport = true
  public var quality = true, semantic = true
  public var plans = TokenTransport.Options()
  /// The longest text with token plans, and without them (D-3).
  public var transportLength = 300, plainLength = 40
  public init() {}
}

/// The frozen video-text model with both rewards. Pixels `[B, T, 3, H, W]` in [0, 1].
public struct RewardModel: Sendable {
  public private(set) var model: VideoTextModel
  public let tokenizer: WordPieceTokenizer?
  /// The OT map T on unit text features `[B, E]`; nil without one.
  public typealias Map = @Sendable (Tensor, borrowing Workspace) -> Tensor
  public let map: Map?
  public let options: RewardOptions
  let transport: TokenTransport
  let pixels: PixelPreprocessing

  public init(
    _ model: VideoTextModel, tokenizer: WordPieceTokenizer?, map: Map?,
    options: RewardOptions = RewardOptions()
  ) throws {
    (self.model, self.tokenizer, self.map, self.options) = (model, tokenizer, map, options)
    transport = try TokenTransport(
      options.plans, patchesPerFrame: model.config.visionEncoder.patchesPerFrame)
    pixels = PixelPreprocessing(size: model.config.visionEncoder.imgSize)
  }
  var config: VideoTextConfig { model.config }
  /// The same weights with other options.
  public func with(_ options: RewardOptions) throws -> RewardModel {
    try RewardModel(model, tokenizer: tokenizer, map: map, options: options)
  }

  // MARK: text, once for each caption

  /// The largest number of tokens of a caption that is read.
  public var mostTokens: Int {
    min(
      options.useTransport && options.semantic ? options.transportLength : options.plainLength,
      config.textEncoder.maxPositionEmbeddings)
  }
  /// A message that names what is left out of a caption; nil if all of it is read.
  public func truncation(of caption: String) -> String? {
    tokenizer?.truncation(of: caption, maxLength: mostTokens)
  }
  public func truncates(_ caption: String) -> Bool {
    tokenizer?.truncates(caption, maxLength: mostTokens) ?? false
  }
  public func tokens(_ captions: [String]) -> TokenBatch {
    guard let tokenizer else {
      preconditionFailure("this reward model was opened without a vocabulary")
    }
    let most = mostTokens
    return TokenBatch(
      captions.map { tokenizer.encode($0, maxLength: most) }, padding: tokenizer.pad,
      special: tokenizer.special)
  }
  public func captions(_ captions: [String], in work: borrowing Workspace) -> CaptionBatch {
    self.captions(tokens(captions), in: work)
  }
  public func captions(_ tokens: TokenBatch, in work: borrowing Workspace) -> CaptionBatch {
    let hidden = model.text.text(tokens, keeping: false, in: work).hidden
    let feature = model.textProjection(VideoTextModel.cls(hidden, in: work), in: work)
    let unit = L2Normalize.forward(feature, in: work).y
    return CaptionBatch(
      tokens: tokens, hidden: hidden, feature: feature, unit: unit,
      mapped: map.map { L2Normalize.forward($0(unit, work), in: work).y })
  }

  // MARK: rewards and their gradient

  /// The output of the video encoder: tokens `[B, M, D]`, feature `[B, E]` not normalised, unit
  /// feature.
  public struct VideoFeatures: Sendable {
    public let tokens, projected, unit: Tensor
    public init(tokens: Tensor, projected: Tensor, unit: Tensor) {
      (self.tokens, self.projected, self.unit) = (tokens, projected, unit)
    }
  }
  /// What the fusion layers read of videos, which is the same for all captions of a video.
  public func fusion(of video: VideoFeatures, in work: borrowing Workspace)
    -> TextEncoder.FusionVision
  { model.text.vision(video.tokens, in: work) }
  public func videos(
    _ x: Tensor, crop: PixelPreprocessing.Crop = .center, in work: borrowing Workspace
  ) -> VideoFeatures {
    let out = model.video(pixels.forward(x, crop: crop, in: work).y, in: work)
    return VideoFeatures(
      tokens: out.tokens, projected: out.projected,
      unit: L2Normalize.forward(out.projected, in: work).y
    )
  }

  public struct Scores: Sendable {
    /// R_quality in [-1, 1] and R_semantic in (0, 1), one value for each pair; empty if not
    /// computed.
    public var quality: [Double] = [], semantic: [Double] = []
    public init() {}
  }
  public struct Saved: Sendable {
    let pixels: PixelPreprocessing.Saved, video: VideoEncoder.Saved
    let tokens: Shape, projected: Tensor
    let unit: L2Normalize.Saved?, target: Tensor?
    let fusion: TextEncoder.FusionSaved?, logits: Tensor?, probability: [Double]
  }

  /// The enabled rewards of B pairs. A caption without lexical tokens keeps its plain attention
  /// (D-30). The processes of `share` have the same pairs, and share the video encoder's tokens.
  public func forward(
    _ x: Tensor, _ captions: CaptionBatch, crop: PixelPreprocessing.Crop = .center,
    checkpointing: Bool = false, sharing share: RowShare = .whole, in work: borrowing Workspace
  ) -> (scores: Scores, saved: Saved) {
    precondition(
      x.shape[0] == captions.tokens.batch,
      "\(x.shape[0]) videos for \(captions.tokens.batch) captions")
    let (input, ps) = pixels.forward(x, crop: crop, in: work)
    let (video, vs) = model.video.forward(
      input, checkpointing: checkpointing, sharing: share, in: work)
    var scores = Scores()
    var unit: L2Normalize.Saved?
    var target: Tensor?
    var fusion: TextEncoder.FusionSaved?
    var logits: Tensor?
    if options.quality {
      let (v, s) = L2Normalize.forward(video.projected, in: work)
      let t = qualityTarget(captions)
      scores.quality = QualityReward.forward(v, t, in: work)
      (unit, target) = (s, t)
    }
    if options.semantic {
      let (hidden, s) = model.text.fusion(
        captions.hidden, captions.tokens, vision: video.tokens,
        prior: options.useTransport ? prior() : nil, in: work)
      let l = model.matchingHead(VideoTextModel.cls(hidden, in: work), in: work)
      scores.semantic = MatchProbability.forward(l)
      (fusion, logits) = (s, l)
    }
    let saved = Saved(
      pixels: ps, video: vs, tokens: video.tokens.shape, projected: video.projected, unit: unit,
      target: target, fusion: fusion, logits: logits, probability: scores.semantic)
    return (scores, saved)
  }

  /// Gradient of the pixels for upstream gradients of the rewards (an empty array for a reward that
  /// has none).
  public mutating func backward(
    dQuality: [Double], dSemantic: [Double], _ s: Saved, in work: borrowing Workspace
  ) -> Tensor {
    var dTokens: Tensor?
    var dProjected: Tensor?
    if let unit = s.unit, let target = s.target, dQuality.contains(where: { $0 != 0 }) {
      dProjected = L2Normalize.backward(
        QualityReward.backward(dQuality, target: target, in: work), unit, in: work)
    }
    if let fusion = s.fusion, let logits = s.logits, dSemantic.contains(where: { $0 != 0 }) {
      let dLogits = MatchProbability.backward(dSemantic, s.probability, type: logits.type)
      let dCls = model.matchingHead.backwardInput(dLogits, in: work)
      let d = dCls.shape[1]
      var dHidden = work.zeros(Shape(dCls.shape[0], fusion.length, d), dCls.type)
      work.place(dCls.reshaped(Shape(dCls.shape[0], 1, d)), into: &dHidden, axis: 1, at: 0)
      dTokens = model.text.fusionBackward(dHidden, fusion, wantsText: false, in: work).dVision
    }
    if dTokens == nil && dProjected == nil { return work.zeros(s.pixels.input, s.projected.type) }
    let dInput = model.video.backward(dTokens: dTokens, dProjected: dProjected, s.video, in: work)!
    return pixels.backward(dInput, s.pixels, in: work)
  }

  /// The rewards with and without transport, from one pass of the video encoder (the record of
  /// `score`).
  public struct AllScores: Sendable {
    /// With the map (nil without one), with token plans, and the same model without transport.
    public let quality: [Double]?, semantic, vanillaQuality, vanillaSemantic: [Double]
    public init(
      quality: [Double]?, semantic: [Double], vanillaQuality: [Double], vanillaSemantic: [Double]
    ) {
      (self.quality, self.semantic, self.vanillaQuality, self.vanillaSemantic) = (
        quality, semantic, vanillaQuality, vanillaSemantic
      )
    }
  }
  public func allScores(
    _ video: VideoFeatures, _ fusion: TextEncoder.FusionVision, withTransport: CaptionBatch,
    plain: CaptionBatch, in work: borrowing Workspace
  ) -> AllScores {
    func match(_ c: CaptionBatch, _ prior: AttentionPrior?) -> [Double] {
      let hidden = model.text.fusion(
        c.hidden, c.tokens, vision: fusion, prior: prior, keeping: false, in: work
      ).hidden
      return MatchProbability.forward(
        model.matchingHead(VideoTextModel.cls(hidden, in: work), in: work))
    }
    return AllScores(
      quality: withTransport.mapped.map { QualityReward.forward(video.unit, $0, in: work) },
      semantic: match(withTransport, prior()),
      vanillaQuality: QualityReward.forward(video.unit, plain.unit, in: work),
      vanillaSemantic: match(plain, nil))
  }

  /// ẑ with transport and a map, ŷ otherwise (5.1).
  private func qualityTarget(_ c: CaptionBatch) -> Tensor {
    if options.useTransport, let mapped = c.mapped { return mapped }
    return c.unit
  }

  /// Token plans for the fusion layers. `each` is called with every layer's plans. `lastLayer` also
  /// computes those of the last layer, which never reach the matching head (algorithm.md 2.4).
  public func prior(
    lastLayer: Bool = false, each: ((CrossAttentionView, TokenPlans) -> Void)? = nil
  ) -> AttentionPrior {
    AttentionPrior(
      transport, skipping: lastLayer ? nil : config.textEncoder.numHiddenLayers - 1, each: each)
  }
}

extension AttentionPrior {
  /// The plans of `transport` in every fusion layer where it acts, except the layer `skipping`. A
  /// plan in the last layer never reaches the matching head, unless [CLS] itself gets one
  /// (algorithm.md 2.4).
  public init(
    _ transport: TokenTransport, skipping last: Int?,
    each: ((CrossAttentionView, TokenPlans) -> Void)? = nil
  ) {
    let skipped = transport.options.includeCLS ? nil : last
    self.init(acts: { transport.acts(onLayer: $0) && $0 != skipped }) { view, work in
      let plans = transport.plans(
        queries: view.queries, keys: view.keys, attention: view.attention, lexical: view.lexical,
        details: each != nil, in: work)
      each?(view, plans)
      return plans.plan
    }
  }
}
