import Files
import Layers
import Models
import TensorRuntime

/// A generator's network at a reduced size: forward, with backward, or a whole training step.
///
/// `mmdit-384`, `mmdit-768`: HunyuanVideo's transformer with four double and eight single blocks,
/// latents 16×5×16×16, patch 1×2×2, 32 text tokens. `unet-small`: VideoCrafter2's UNet with 128,
/// 256 and 256 channels, two residual blocks a level and heads of 64, latents 4×16×16×24, 77 text
/// tokens. `unet-full`: its published sizes and latents, 4×16×40×64.
public struct GeneratorBenchmark: Sendable {
  public enum Preset: String, Sendable, CaseIterable {
    case mmdit384 = "mmdit-384"
    case mmdit768 = "mmdit-768"
    case unetSmall = "unet-small"
    case unetFull = "unet-full"
  }
  public var preset = Preset.mmdit384, storage = StorageType.f32, pass = BenchmarkPass.forward
  public init(
    preset: Preset = .mmdit384, storage: StorageType = .f32, pass: BenchmarkPass = .forward
  ) {
    (self.preset, self.storage, self.pass) = (preset, storage, pass)
  }

  public func prepare() throws -> BenchmarkCase {
    switch preset {
    case .mmdit384, .mmdit768:
      try prepare(
        transformer, VideoTransformer.self, small: (Shape(1, 16, 2, 4, 4), 6),
        full: (Shape(preset == .mmdit384 ? 4 : 1, 16, 5, 16, 16), 32))
    case .unetSmall:
      try prepare(
        unet, VideoUNet.self, small: (Shape(1, 4, 2, 4, 4), 6),
        full: (Shape(1, 4, 16, 16, 24), 77))
    case .unetFull:
      try prepare(
        VideoUNetConfig(), VideoUNet.self, small: (Shape(1, 4, 1, 8, 8), 6),
        full: (Shape(1, 4, 16, 40, 64), 77))
    }
  }
  private var transformer: TransformerConfig {
    var c = TransformerConfig()
    c.numAttentionHeads = preset == .mmdit384 ? 6 : 12
    (c.attentionHeadDim, c.ropeAxesDim) = (64, [8, 28, 28])
    (c.numLayers, c.numSingleLayers, c.numRefinerLayers, c.guidanceEmbeds) = (4, 8, 0, false)
    (c.textEmbedDim, c.pooledProjectionDim) = (512, 256)
    return c
  }
  private var unet: VideoUNetConfig {
    var c = VideoUNetConfig()
    (c.modelChannels, c.channelMult, c.attentionResolutions) = (128, [1, 2, 2], [2, 1])
    (c.contextDim, c.initAttnHeads) = (512, 4)
    return c
  }

  private typealias Input = (latents: Tensor, times: [Float], prompt: PromptEmbedding)
  /// Shape of the latents, and text tokens.
  private typealias Size = (latents: Shape, words: Int)
  /// The model and the state that a step changes.
  private final class State<Model: VideoDenoiser> {
    var model: Model
    var optimizer: AdamW?
    init(_ model: Model) { self.model = model }
  }

  private func prepare<Model: VideoDenoiser>(
    _ config: Model.Config, _: Model.Type, small: Size, full: Size
  ) throws -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let state = State(try Model(config, from: BenchmarkReference.parameters(storage)))
    let (few, all) = (Self.input(small, state.model, work), Self.input(full, state.model, work))
    if pass != .forward { state.model.makeTrainable(in: work) }
    if pass == .step {
      state.optimizer = AdamW(AdamW.Options(weightDecay: 0.01), for: state.model, in: work)
    }
    let dy = BenchmarkReference.normal(all.latents.shape, 9, work)
    return BenchmarkCase(
      "generator",
      [
        ("preset", .string(preset.rawValue)), ("batch", .integer(full.latents[0])),
        ("latents", .array(full.latents.dims.dropFirst().map { .integer($0) })),
        ("words", .integer(full.words)), ("parameters", .integer(state.model.parameterCount)),
        ("pass", .string(pass.rawValue)),
      ]
        + storage.fields
        + (Machine.savedType == Machine.computeType
          ? [] : [("saved_dtype", .string(Machine.savedType.rawValue))]),
      .init(),
      verify: { try verify(state, config, few, in: Workspace(pool: pool)) },
      run: { run(state, all, dy, in: Workspace(pool: pool)) }, countsOperations: true)
  }

  /// The check runs the same weights in f64 on one sample of a few tokens. Backward is checked by
  /// the gradients of the parameters.
  private func verify<Model: VideoDenoiser>(
    _ state: State<Model>, _ config: Model.Config, _ small: Input, in work: borrowing Workspace
  ) throws -> Bool {
    var wide = try Model(config, from: BenchmarkReference.wideParameters(of: state.model))
    // before forward, which keeps what trainable parameters' gradients need
    if pass != .forward { wide.makeTrainable(in: work) }
    var prompt = small.prompt
    prompt.states = BenchmarkReference.wide(prompt.states, work)
    prompt.pooled = prompt.pooled.map { BenchmarkReference.wide($0, work) }
    let (y, s) = state.model.predict(
      small.latents, times: small.times, small.prompt, guidance: nil, keeping: .all,
      in: work)
    let (y64, s64) = wide.predict(
      BenchmarkReference.wide(small.latents, work), times: small.times, prompt, guidance: nil,
      keeping: .all, in: work)
    guard BenchmarkReference.agree(y, y64, tolerance: 1e-4) else { return false }
    if pass == .forward { return true }
    state.model.zeroGradients(in: work)
    state.model.predictBackward(y, s, in: work)
    wide.predictBackward(BenchmarkReference.wide(y, work), s64, in: work)
    let (found, expected) = (state.model.trainableParameters(), wide.trainableParameters())
    let scale = expected.map { work.sumOfSquares($0.gradient!) }.max() ?? 0
    let share = Machine.savedType == .bf16 ? 1e-2 : 1e-6
    return zip(found, expected).allSatisfy { p, q in
      let d = work.difference(work.converted(p.gradient!, to: .f64), q.gradient!)
      return work.sumOfSquares(d) <= share * (scale + work.sumOfSquares(q.gradient!))
    }
  }

  private static func output(
    _ model: some VideoDenoiser, _ input: Input, _ work: borrowing Workspace
  ) -> Tensor {
    model(input.latents, times: input.times, input.prompt, in: work)
  }
  private func run<Model: VideoDenoiser>(
    _ state: State<Model>, _ full: Input, _ dy: Tensor, in work: borrowing Workspace
  ) {
    if pass == .forward {
      _ = Self.output(state.model, full, work)
      return
    }
    state.model.zeroGradients(in: work)
    let saved = state.model.predict(
      full.latents, times: full.times, full.prompt, guidance: nil, keeping: .all, in: work
    ).saved
    state.model.predictBackward(dy, consume saved, in: work)
    state.optimizer?.step(&state.model, learningRate: 1e-4, in: work)
  }

  private static func input(
    _ size: Size, _ model: some VideoDenoiser, _ work: borrowing Workspace
  ) -> Input {
    let b = size.latents[0]
    let prompt = PromptEmbedding(
      states: BenchmarkReference.normal(Shape(b, size.words, model.textWidth), 5, work),
      counts: Array(repeating: Int32(size.words), count: b),
      pooled: model.pooledWidth.map { BenchmarkReference.normal(Shape(b, $0), 6, work) })
    return (
      BenchmarkReference.normal(size.latents, 7, work), (0..<b).map { Float(250 + 150 * $0) },
      prompt
    )
  }
}
