public import Layers
public import TensorRuntime

/// HunyuanVideo's velocity network (arXiv:2412.03603; algorithm.md 6): double-stream blocks, then
/// single-stream blocks.
public struct VideoTransformer: Layer {
  public let config: TransformerConfig
  public var imageIn: PatchEmbedding
  public var refiner: TokenRefiner
  public var conditioning: ConditioningVector
  var double: [DoubleStreamBlock]
  var single: [SingleStreamBlock]
  var modulationOut: Modulation
  public var out: Linear

  public struct Saved: Sendable {
    let input: Shape, patches: [PatchEmbedding.Saved]
    let refiner: TokenRefiner.Saved?, conditioning: ConditioningVector.Saved
    let vector: Tensor, active: Tensor
    let rows: SequenceRows
    var double: [DoubleSaved], single: [SingleSaved]
    let modulationOut: Modulation.Saved, norm: [Modulation.NormSaved], out: [Linear.Saved]
  }
  typealias DoubleSaved = Kept<DoubleStreamBlock.Saved, Streams>
  typealias SingleSaved = Kept<SingleStreamBlock.Saved, [Tensor]>
  /// Rows of each strip of the image, and of the text where it is.
  struct Streams: SavedTensors {
    var image: [Tensor], text: Tensor?
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      image.forEachTensor(body)
      text.forEachTensor(body)
    }
  }
  /// Of this process' rows: `states` only where the text is, `pooled` a part of the sum.
  public struct InputGradients: Sendable {
    public let latents: Tensor?, states: Tensor?, pooled: Tensor?
  }

  public init(_ c: TransformerConfig, from source: ParameterSource) throws {
    config = c
    let fan = c.inChannels * c.patch.x * c.patch.y * c.patch.z
    imageIn = try PatchEmbedding(
      "x_embedder.proj", channels: c.inChannels, width: c.width, patch: c.patch,
      initial: .xavier(fan, c.width), from: source)
    refiner = try TokenRefiner("context_embedder", c, from: source)
    conditioning = try ConditioningVector("time_text_embed", c, from: source)
    double = try (0..<c.numLayers).map {
      try DoubleStreamBlock("transformer_blocks.\($0)", c, from: source)
    }
    single = try (0..<c.numSingleLayers).map {
      try SingleStreamBlock("single_transformer_blocks.\($0)", c, from: source)
    }
    modulationOut = try Modulation("norm_out", width: c.width, chunks: 2, from: source)
    out = try Linear(
      "proj_out", c.width, c.outChannels * c.patch.x * c.patch.y * c.patch.z, initial: .zeros,
      from: source)
  }

  /// Velocity `[B, 16, n, h, w]` of scaled latents x at times t = 1000 σ. `guidance` is required
  /// exactly when the model embeds it. Its blocks are the parts of `keeping`. Processes that share
  /// the rows all give the whole x, and all get the whole velocity.
  public func forward(
    _ x: Tensor, times: [Float], _ prompt: PromptEmbedding, guidance: [Float]?,
    keeping: Keeping = .all, sharing share: RowShare = .whole, in work: borrowing Workspace
  ) -> (velocity: Tensor, saved: Saved) {
    precondition(
      times.count == x.shape[0] && prompt.counts.count == x.shape[0],
      "\(times.count) times, \(prompt.counts.count) prompts for latents \(x.shape)")
    guard let pooled = prompt.pooled else {
      preconditionFailure("this model reads a pooled vector")
    }
    let (vec, cs) = conditioning.forward(
      times: times, pooled: pooled, guidance: guidance, in: work)
    let active = work.activation(.silu, vec)
    let rows = sequence(x, prompt, share)
    let refined =
      rows.hasText
      ? refiner.forward(prompt.states, counts: prompt.counts, times: times, in: work) : nil
    let patches = PatchEmbedding.patches(of: x, config.patch, in: work)
    let embedded = rows.image.map {
      imageIn.forward(patches: work.rows(patches, $0), of: x.shape, in: work)
    }
    let (h, doubleSaved, singleSaved) = blocks(
      embedded.map(\.y), refined?.y, active, rows, keeping: keeping, in: work)
    let m = modulationOut.forward(active, in: work)
    var norms: [Modulation.NormSaved] = []
    let outputs = h.map { h in
      let count = rows.image[norms.count].count
      let (u, ns) = modulationOut.norm(
        work.narrowed(h, axis: 1, 0..<count), m, scale: 0, shift: 1, in: work)
      norms.append(ns)
      return out.forward(u, in: work)
    }
    let y = share.collected(work.joined(outputs.map(\.y)), rows: rows.imageCounts, in: work)
    var shape = x.shape
    shape[1] = config.outChannels
    let velocity = PatchEmbedding.assemble(y, shape, config.patch, in: work)
    return (
      velocity,
      Saved(
        input: x.shape, patches: embedded.map(\.saved), refiner: refined?.saved,
        conditioning: cs, vector: vec, active: active, rows: rows, double: doubleSaved,
        single: singleSaved, modulationOut: m, norm: norms, out: outputs.map(\.saved))
    )
  }
  private func sequence(_ x: Tensor, _ prompt: PromptEmbedding, _ share: RowShare) -> SequenceRows {
    let grid = SIMD3(x.shape[2], x.shape[3], x.shape[4]) / config.patch
    return SequenceRows(
      image: grid.x * grid.y * grid.z, text: prompt.states.shape[1], words: prompt.counts,
      rotary: RotaryTable(
        grid: grid, axes: config.ropeAxesDim, theta: config.ropeTheta, type: x.type), share)
  }
  /// All blocks. Returns the rows of each strip behind them, with the text in the last.
  private func blocks(
    _ image: [Tensor], _ text: Tensor?, _ active: Tensor, _ rows: SequenceRows,
    keeping: Keeping, in work: borrowing Workspace
  ) -> ([Tensor], [DoubleSaved], [SingleSaved]) {
    var streams = Streams(image: image, text: text)
    var doubleSaved: [DoubleSaved] = []
    var singleSaved: [SingleSaved] = []
    for block in double {
      let (y, kept) = keeping.run(streams, in: work) {
        let (image, text, s) = block.forward($0.image, $0.text, active, rows, in: work)
        return (Streams(image: image, text: text), s)
      }
      doubleSaved.append(kept)
      streams = y
    }
    var h = streams.image
    if let text = streams.text {
      h[h.count - 1] = work.concatenated([h[h.count - 1], text], axis: 1)
    }
    streams = Streams(image: [], text: nil)
    for block in single {
      let (y, kept) = keeping.run(h, in: work) { block.forward($0, active, rows, in: work) }
      singleSaved.append(kept)
      h = y
    }
    return (h, doubleSaved, singleSaved)
  }

  /// Whether the whole network is trained. Otherwise only adapters are, and conditioning, text
  /// input and patch embedding get no gradient (algorithm.md 6.11).
  public var trainsConditioning: Bool { conditioning.time.up.weight.isTrainable }

  /// Adds to the gradients of the trainable parameters: the part of this process' rows. Returns
  /// gradients of the inputs if the whole network is trained (`latents` only if asked for, in one
  /// process).
  @discardableResult
  public mutating func backward(
    _ dVelocity: Tensor, _ s: consuming Saved, wantsLatents: Bool = false,
    in work: borrowing Workspace
  ) -> InputGradients {
    let full = trainsConditioning
    let strips = s.rows.strips
    precondition(!wantsLatents || s.rows.share.count == 1, "gradients of all latents' rows")
    var dActive: [Tensor?] = s.rows.image.map { _ in
      full ? work.zeros(s.active.shape, s.active.type) : nil
    }
    let dh = outputBackward(dVelocity, s, addingTo: &dActive, in: work)
    let (dImg, dTxt) = blocksBackward(dh, &s, addingTo: &dActive, in: work)
    var dLatents: Tensor?
    if wantsLatents {
      let dPatches = imageIn.forEachStrip(strips, in: work) {
        $0.backwardPatches(dImg[$1], s.patches[$1], in: work)
      }
      dLatents = PatchEmbedding.assemble(work.joined(dPatches), s.input, config.patch, in: work)
    } else {
      _ = imageIn.forEachStrip(strips, in: work) {
        $0.backwardParameters(dImg[$1], s.patches[$1], in: work)
      }
    }
    guard full else { return InputGradients(latents: dLatents, states: nil, pooled: nil) }
    let dStates = s.refiner.map { refiner.backward(dTxt!, $0, in: work) }
    let dPooled = conditioning.forEachStrip(strips, in: work) {
      $0.backward(
        work.activationBackward(.silu, dActive[$1]!, x: s.vector), s.conditioning, in: work)
    }
    var sum = dPooled[0]
    for part in dPooled.dropFirst() { work.add(part, to: &sum) }
    return InputGradients(latents: dLatents, states: dStates, pooled: sum)
  }
  /// The gradient of each strip's rows behind the blocks.
  private mutating func outputBackward(
    _ dVelocity: Tensor, _ s: Saved, addingTo dActive: inout [Tensor?], in work: borrowing Workspace
  ) -> [Tensor] {
    let (rows, width) = (s.rows, config.width)
    let dPatches = PatchEmbedding.patches(of: dVelocity, config.patch, in: work)
    let du = out.forEachStrip(rows.strips, in: work) {
      $0.backward(work.rows(dPatches, rows.image[$1]), s.out[$1], in: work)
    }
    return modulationOut.forEachStrip(rows.strips, in: work) { modulationOut, i in
      var chunks = modulationOut.gradient(s.modulationOut, wanted: dActive[i] != nil, in: work)
      let dImage = modulationOut.normBackward(
        du[i], s.norm[i], s.modulationOut, scale: 0, shift: 1, addingTo: &chunks, in: work)
      modulationOut.backward(chunks, s.modulationOut, addingTo: &dActive[i], in: work)
      var dh = work.zeros(
        Shape(s.input[0], rows.range(i, withText: true).count, width), dVelocity.type)
      work.place(dImage, into: &dh, axis: 1, at: 0)
      return dh
    }
  }
  /// The gradients of each strip of the image, and of the text where it is. Takes what was kept of
  /// the blocks out of `s`.
  private mutating func blocksBackward(
    _ output: [Tensor], _ s: inout Saved, addingTo dActive: inout [Tensor?],
    in work: borrowing Workspace
  ) -> ([Tensor], Tensor?) {
    let (rows, active) = (s.rows, s.active)
    var dh = output
    for i in single.indices.reversed() {
      let saved = s.single.removeLast().all(in: work) {
        single[i].forward($0, active, rows, in: work).saved
      }
      dh = single[i].backward(dh, saved, rows, addingTo: &dActive, in: work)
    }
    var dImg = dh.indices.map { work.narrowed(dh[$0], axis: 1, 0..<rows.image[$0].count) }
    let last = rows.image[rows.strips - 1].count
    var dTxt =
      rows.hasText
      ? work.narrowed(dh[rows.strips - 1], axis: 1, last..<last + rows.textCount) : nil
    for i in double.indices.reversed() {
      let saved = s.double.removeLast().all(in: work) {
        double[i].forward($0.image, $0.text, active, rows, in: work).saved
      }
      (dImg, dTxt) = double[i].backward(dImg, dTxt, saved, rows, addingTo: &dActive, in: work)
    }
    return (dImg, dTxt)
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try imageIn.forEachParameter(body)
    try refiner.forEachParameter(body)
    try conditioning.forEachParameter(body)
    try double.forEachParameter(body)
    try single.forEachParameter(body)
    try modulationOut.forEachParameter(body)
    try out.forEachParameter(body)
  }
}
