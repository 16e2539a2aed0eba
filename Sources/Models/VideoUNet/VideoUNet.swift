public import Layers
public import TensorRuntime

/// VideoCrafter2's denoising network (arXiv:2401.09047; videocrafter.md 2): a UNet whose stages see
/// single frames, then single pixels over all frames. It predicts the noise of latents.
public struct VideoUNet: Layer {
  public let config: VideoUNetConfig
  public var embedding: UNetEmbedding
  var convIn: Convolution
  var down: [UNetStage]
  var initial: SpaceTimeTransformer
  var middle: UNetStage
  var up: [UNetStage]
  var normOut: GroupNorm
  var convOut: Convolution

  /// What the prediction depends on beside latents and times.
  public struct Condition: Sendable {
    /// Text states `[B, L, context_dim]`; all rows are seen.
    public var text: Tensor
    /// Frames a second, of each sample.
    public var fps: [Float]
    /// Guidance scale, which only a student embeds, and motion scale.
    public var guidance: [Double]?, motion: [Double]?
    public init(
      text: Tensor, fps: [Float], guidance: [Double]? = nil, motion: [Double]? = nil
    ) {
      (self.text, self.fps, self.guidance, self.motion) = (text, fps, guidance, motion)
    }
  }
  public struct Saved: Sendable {
    /// emb `[B, 4 mc]`.
    public let vector: Tensor
    let embedding: UNetEmbedding.Saved
    let condition: UNetStage.Condition
    let convIn: Convolution.Saved, initial: Kept<SpaceTimeTransformer.Saved, Tensor>
    var down: [UNetStage.Saved], middle: UNetStage.Saved, up: [UNetStage.Saved]
    /// Channels of what was kept on the way down, in the order of its use on the way up.
    let skipped: [Int]
    let convOut: GroupNorm.Saved
  }
  public struct InputGradients: Sendable { public let latents: Tensor?, text: Tensor? }

  public init(_ c: VideoUNetConfig, from source: ParameterSource) throws {
    config = c
    embedding = try UNetEmbedding(c, from: source)
    let mc = c.modelChannels
    convIn = try .image("input_blocks.0.0", c.inChannels, mc, kernel: 3, from: source)
    initial = try SpaceTimeTransformer(
      "init_attn.0", .time, width: mc, inner: c.initAttnHeads * c.numHeadChannels,
      heads: c.initAttnHeads, cellAxes: 1, c, from: source)
    var width = mc
    var skips = [mc]
    down = []
    for level in 0..<c.levels {
      for _ in 0..<c.numResBlocks {
        let output = c.width(ofLevel: level)
        down.append(
          try UNetStage(
            "input_blocks.\(down.count + 1)", width, output, level: level, c, from: source))
        (width, skips) = (output, skips + [output])
      }
      if level + 1 < c.levels {
        down.append(
          try UNetStage(downsampling: "input_blocks.\(down.count + 1)", width, from: source))
        skips.append(width)
      }
    }
    middle = try UNetStage(
      "middle_block", width, width, level: c.levels - 1, isMiddle: true, c, from: source)
    up = []
    for level in (0..<c.levels).reversed() {
      for i in 0...c.numResBlocks {
        let name = "output_blocks.\(up.count)"
        let output = c.width(ofLevel: level)
        var stage = try UNetStage(
          name, width + skips.removeLast(), output, level: level, c, from: source)
        if level > 0 && i == c.numResBlocks {
          try stage.addUpsampling(name, output, from: source)
        }
        up.append(stage)
        width = output
      }
    }
    normOut = try GroupNorm(
      "out.0", mc, groups: c.normNumGroups, epsilon: 1e-5, silu: true, eachFrame: true,
      from: source)
    convOut = try .image("out.2", mc, c.outChannels, kernel: 3, initial: .zeros, from: source)
  }

  /// Noise `[B, out, T, H, W]` in latents x `[B, in, T, H, W]` at times 0 to 999. H and W must be
  /// divisible by `config.spatialDivisor`. The parts of `keeping` are blocks and transformers.
  public func forward(
    _ x: Tensor, times: [Float], _ c: Condition, keeping: Keeping = .all,
    in work: borrowing Workspace
  ) -> (noise: Tensor, saved: Saved) {
    precondition(
      times.count == x.shape[0] && c.fps.count == x.shape[0] && c.text.shape[0] == x.shape[0]
        && x.shape[3] % config.spatialDivisor == 0 && x.shape[4] % config.spatialDivisor == 0,
      "\(times.count) times, \(c.fps.count) rates, text \(c.text.shape) for latents \(x.shape)")
    let (vector, es) = embedding.forward(
      times: times, fps: c.fps, guidance: c.guidance, motion: c.motion, type: x.type, in: work)
    let shared = UNetStage.Condition(active: work.activation(.silu, vector), text: c.text)
    let (first, cs) = convIn.forward(x, in: work)
    let (start, initialKept) = initial.run(first, context: nil, keeping: keeping, in: work)
    var h = start
    var skips = [h]
    var downSaved: [UNetStage.Saved] = []
    for stage in down {
      let (y, s) = stage.forward(h, shared, keeping: keeping, in: work)
      downSaved.append(s)
      skips.append(y)
      h = y
    }
    var middleSaved: UNetStage.Saved
    (h, middleSaved) = middle.forward(h, shared, keeping: keeping, in: work)
    var upSaved: [UNetStage.Saved] = []
    var skipped: [Int] = []
    for stage in up {
      let skip = skips.removeLast()
      skipped.append(skip.shape[1])
      let (y, s) = stage.forward(
        work.concatenated([h, skip], axis: 1), shared, keeping: keeping, in: work)
      upSaved.append(s)
      h = y
    }
    let (noise, os) = convOut.forward(h, after: normOut, in: work)
    return (
      noise,
      Saved(
        vector: vector, embedding: es, condition: shared, convIn: cs,
        initial: initialKept, down: downSaved, middle: middleSaved, up: upSaved, skipped: skipped,
        convOut: os)
    )
  }
  /// Whether something of the embedding is trained, so that its gradient is needed.
  private var trainsEmbedding: Bool { !embedding.trainableParameters().isEmpty }

  /// Adds to the gradients of the trainable parameters. Returns gradients of the inputs that are
  /// asked for. What was kept of a stage is released when its gradients are done.
  @discardableResult
  public mutating func backward(
    _ dNoise: Tensor, _ s: consuming Saved, wantsInputs: Bool = false, in work: borrowing Workspace
  ) -> InputGradients {
    let c = s.condition
    func zeros(like x: Tensor) -> Tensor { work.zeros(x.shape, x.type) }
    var d = UNetStage.ConditionGradients(
      active: trainsEmbedding ? zeros(like: c.active) : nil,
      text: wantsInputs ? zeros(like: c.text) : nil)
    var dh = convOut.backward(dNoise, s.convOut, after: &normOut, in: work)
    var dSkips: [Tensor] = []
    for i in up.indices.reversed() {
      let dBoth = up[i].backward(dh, s.up.removeLast(), c, addingTo: &d, in: work)
      let width = dBoth.shape[1] - s.skipped[i]
      dh = work.narrowed(dBoth, axis: 1, 0..<width)
      dSkips.append(work.narrowed(dBoth, axis: 1, width..<dBoth.shape[1]))
    }
    dh = middle.backward(dh, s.middle, c, addingTo: &d, in: work)
    s.middle = UNetStage.Saved()
    for i in down.indices.reversed() {
      work.add(dSkips.removeLast(), to: &dh)
      dh = down[i].backward(dh, s.down.removeLast(), c, addingTo: &d, in: work)
    }
    work.add(dSkips.removeLast(), to: &dh)
    let initialSaved = s.initial.all(in: work) { initial.forward($0, context: nil, in: work).saved }
    var none: Tensor?
    dh = initial.backward(dh, consume initialSaved, addingTo: &none, in: work)
    var dLatents: Tensor?
    if wantsInputs {
      dLatents = convIn.backward(dh, s.convIn, in: work)
    } else {
      convIn.backwardParameters(dh, s.convIn, in: work)
    }
    if let dActive = d.active {
      embedding.backward(
        work.activationBackward(.silu, dActive, x: s.vector), s.embedding, in: work)
    }
    return InputGradients(latents: dLatents, text: d.text)
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try embedding.forEachParameter(body)
    try convIn.forEachParameter(body)
    try down.forEachParameter(body)
    try initial.forEachParameter(body)
    try middle.forEachParameter(body)
    try up.forEachParameter(body)
    try normOut.forEachParameter(body)
    try convOut.forEachParameter(body)
  }
}

extension VideoUNet: AdaptableNetwork {
  /// T2V-Turbo's: every weight of two, four or five dimensions (videocrafter.md 10, D-56).
  public static let defaultTargets = ["all"]
  /// The layers that the recipe of other models adapts.
  public static let attentionTargets = ["to_q", "to_k", "to_v", "to_out.0"]
  /// The projection of the guidance embedding, which the teacher lacks (D-46).
  public static let trainedInFull = ["time_cond_proj.weight"]
  /// At most the rank that the weight can have.
  public static func adapterRank(_ rank: Int, of weight: Shape) -> Int {
    min(rank, weight[0], weight[1])
  }
  /// In the order of T2V-Turbo's files.
  public mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows
  {
    try embedding.forEachAdaptable(body)
    try convIn.asAdaptable(body)
    for i in down.indices { try down[i].forEachAdaptable(body) }
    try initial.forEachAdaptable(body)
    try middle.forEachAdaptable(body)
    for i in up.indices { try up[i].forEachAdaptable(body) }
    try convOut.asAdaptable(body)
  }
}
