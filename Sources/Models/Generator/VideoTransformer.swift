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
    let input: Shape, patches: PatchEmbedding.Saved
    let refiner: TokenRefiner.Saved, conditioning: ConditioningVector.Saved
    let vector: Tensor, active: Tensor
    let rotary: RotaryTable, visible: Workspace.Visibility
    let double: [DoubleSaved], single: [SingleSaved]
    let textLength: Int
    let modulationOut: Modulation.Saved, norm: Modulation.NormSaved, out: Linear.Saved
  }
  enum DoubleSaved: Sendable {
    case all(DoubleStreamBlock.Saved)
    case input(Tensor, Tensor)
  }
  enum SingleSaved: Sendable {
    case all(SingleStreamBlock.Saved)
    case input(Tensor)
  }
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
  /// exactly when the model embeds it. With `checkpointing` only block inputs are kept for
  /// backward.
  public func forward(
    _ x: Tensor, times: [Float], _ prompt: PromptEmbedding, guidance: [Float]?,
    checkpointing: Bool = false, in work: borrowing Workspace
  ) -> (velocity: Tensor, saved: Saved) {
    let grid = SIMD3(x.shape[2], x.shape[3], x.shape[4]) / config.patch
    precondition(
      times.count == x.shape[0] && prompt.counts.count == x.shape[0],
      "\(times.count) times, \(prompt.counts.count) prompts for latents \(x.shape)")
    guard let pooled = prompt.pooled else { preconditionFailure("this model reads a pooled vector") }
    let (vec, cs) = conditioning.forward(
      times: times, pooled: pooled, guidance: guidance, in: work)
    let active = work.activation(.silu, vec)
    var (txt, rs) = refiner.forward(prompt.states, counts: prompt.counts, times: times, in: work)
    var (img, ps) = imageIn.forward(x, in: work)
    let n = img.shape[1]
    let rotary = RotaryTable(
      grid: grid, axes: config.ropeAxesDim, theta: config.ropeTheta, type: x.type)
    let visible = Workspace.Visibility(keyCounts: prompt.counts.map { Int32(n) + max($0, 1) })
    var doubleSaved: [DoubleSaved] = []
    var singleSaved: [SingleSaved] = []
    for block in double {
      let input = DoubleSaved.input(img, txt)
      let (i, t, s) = block.forward(img, txt, active, rotary: rotary, visible: visible, in: work)
      doubleSaved.append(checkpointing ? input : .all(s))
      (img, txt) = (i, t)
    }
    var h = work.concatenated([img, txt], axis: 1)
    for block in single {
      let input = SingleSaved.input(h)
      let (y, s) = block.forward(h, active, rotary: rotary, visible: visible, in: work)
      singleSaved.append(checkpointing ? input : .all(s))
      h = y
    }
    let m = modulationOut.forward(active, in: work)
    let (u, ns) = modulationOut.norm(
      work.narrowed(h, axis: 1, 0..<n), m, scale: 0, shift: 1, in: work)
    let (y, os) = out.forward(u, in: work)
    var shape = x.shape
    shape[1] = config.outChannels
    let velocity = PatchEmbedding.assemble(y, shape, config.patch, in: work)
    return (
      velocity,
      Saved(
        input: x.shape, patches: ps, refiner: rs, conditioning: cs, vector: vec, active: active,
        rotary: rotary, visible: visible, double: doubleSaved,
        single: singleSaved, textLength: txt.shape[1], modulationOut: m, norm: ns, out: os)
    )
  }
  /// Whether the whole network is trained. Otherwise only adapters are, and conditioning, text
  /// input and patch embedding get no gradient (algorithm.md 6.11).
  public var trainsConditioning: Bool { conditioning.time.up.weight.isTrainable }

  /// Adds to the gradients of the trainable parameters. Returns gradients of the inputs if the
  /// whole network is trained (`latents` only if asked for).
  @discardableResult
  public mutating func backward(
    _ dVelocity: Tensor, _ s: Saved, wantsLatents: Bool = false, in work: borrowing Workspace
  ) -> InputGradients {
    let full = trainsConditioning
    let (b, n) = (s.input[0], s.norm.x.shape[1])
    var dActive: Tensor? = full ? work.zeros(s.active.shape, s.active.type) : nil
    let du = out.backward(
      PatchEmbedding.patches(of: dVelocity, config.patch, in: work), s.out, in: work)
    var chunks = modulationOut.gradient(s.modulationOut, wanted: full, in: work)
    let dImage = modulationOut.normBackward(
      du, s.norm, s.modulationOut, scale: 0, shift: 1, addingTo: &chunks, in: work)
    modulationOut.backward(chunks, s.modulationOut, addingTo: &dActive, in: work)
    var dh = work.zeros(Shape(b, n + s.textLength, config.width), dVelocity.type)
    work.place(dImage, into: &dh, axis: 1, at: 0)
    for i in single.indices.reversed() {
      let saved =
        switch s.single[i] {
        case .all(let saved): saved
        case .input(let x):
          single[i].forward(x, s.active, rotary: s.rotary, visible: s.visible, in: work).saved
        }
      dh = single[i].backward(
        dh, saved, rotary: s.rotary, visible: s.visible, addingTo: &dActive, in: work)
    }
    var dImg = work.narrowed(dh, axis: 1, 0..<n)
    var dTxt = work.narrowed(dh, axis: 1, n..<n + s.textLength)
    for i in double.indices.reversed() {
      let saved =
        switch s.double[i] {
        case .all(let saved): saved
        case .input(let img, let txt):
          double[i].forward(img, txt, s.active, rotary: s.rotary, visible: s.visible, in: work)
            .saved
        }
      (dImg, dTxt) = double[i].backward(
        dImg, dTxt, saved, rotary: s.rotary, visible: s.visible, addingTo: &dActive, in: work)
    }
    var dLatents: Tensor?
    if wantsLatents {
      dLatents = imageIn.backward(dImg, s.patches, in: work)
    } else {
      imageIn.backwardParameters(dImg, s.patches, in: work)
    }
    guard full else { return InputGradients(latents: dLatents, states: nil, pooled: nil) }
    let dStates = refiner.backward(dTxt, s.refiner, in: work)
    let dPooled = conditioning.backward(
      work.activationBackward(.silu, dActive!, x: s.vector), s.conditioning, in: work)
    return InputGradients(latents: dLatents, states: dStates, pooled: dPooled)
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
