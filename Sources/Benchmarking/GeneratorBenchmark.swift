import Files
import Layers
import Models
import TensorRuntime

/// A small HunyuanVideo transformer: four double and eight single blocks, latents 16×5×16×16, patch
/// 1×2×2, 32 text tokens.
public struct GeneratorBenchmark: Sendable {
  public enum Preset: String, Sendable, CaseIterable {
    case mmdit384 = "mmdit-384"
    case mmdit768 = "mmdit-768"
    var heads: Int { self == .mmdit384 ? 6 : 12 }
    var batch: Int { self == .mmdit384 ? 4 : 1 }
  }
  public var preset = Preset.mmdit384, storage = StorageType.f32, pass = BenchmarkPass.forward
  public init(
    preset: Preset = .mmdit384, storage: StorageType = .f32, pass: BenchmarkPass = .forward
  ) {
    (self.preset, self.storage, self.pass) = (preset, storage, pass)
  }
  private var config: TransformerConfig {
    var c = TransformerConfig()
    (c.numAttentionHeads, c.attentionHeadDim, c.ropeAxesDim) = (preset.heads, 64, [8, 28, 28])
    (c.numLayers, c.numSingleLayers, c.numRefinerLayers, c.guidanceEmbeds) = (4, 8, 0, false)
    (c.textEmbedDim, c.pooledProjectionDim) = (512, 256)
    return c
  }

  private typealias Input = (latents: Tensor, times: [Float], prompt: PromptEmbedding)
  /// The model and the state that a step changes.
  private final class State {
    var model: VideoTransformer
    var optimizer: AdamW?
    init(_ model: VideoTransformer) { self.model = model }
  }

  public func prepare() throws -> BenchmarkCase {
    let c = config
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let state = State(try VideoTransformer(c, from: BenchmarkReference.parameters(storage)))
    let words = 32
    let small = Self.input(Shape(1, c.inChannels, 2, 4, 4), words: 6, c, work)
    let full = Self.input(Shape(preset.batch, c.inChannels, 5, 16, 16), words: words, c, work)
    if pass != .forward { state.model.makeTrainable(in: work) }
    if pass == .step {
      state.optimizer = AdamW(AdamW.Options(weightDecay: 0.01), for: state.model, in: work)
    }
    let dy = BenchmarkReference.normal(full.latents.shape, 9, work)
    let tokens = 5 * 8 * 8
    return BenchmarkCase(
      "generator",
      [
        ("preset", .string(preset.rawValue)), ("batch", .integer(preset.batch)),
        ("tokens", .integer(tokens + words)), ("parameters", .integer(state.model.parameterCount)),
        ("pass", .string(pass.rawValue)),
      ]
        + storage.fields, operations(tokens: tokens, words: words),
      verify: { try verify(state, small, in: Workspace(pool: pool)) },
      run: { run(state, full, dy, in: Workspace(pool: pool)) })
  }

  /// Operations of a run with `tokens` tokens of latents and `words` tokens of text a sample.
  private func operations(tokens: Int, words: Int) -> BenchmarkCase.Work {
    let c = config
    let (d, h, l, i) = (Double(c.width), Double(c.hidden), Double(tokens + words), Double(tokens))
    let blocks =
      Double(c.numLayers + c.numSingleLayers) * (l * (8 * d * d + 4 * d * h) + 4 * l * l * d)
    let modulation = d * d * Double(2 * (12 * c.numLayers + 3 * c.numSingleLayers + 2))
    let patch = Double(c.inChannels * c.patch.x * c.patch.y * c.patch.z)
    let forward =
      Double(preset.batch)
      * (blocks + modulation + 4 * i * d * patch + 2 * Double(words * c.textEmbedDim) * d)
    let exponentials =
      Double(preset.batch)
      * (Double(c.numLayers + c.numSingleLayers) * (Double(c.numAttentionHeads) * l * l + l * h))
    return .init(
      flops: forward * (pass == .forward ? 1 : 3),
      exponentials: exponentials * (pass == .forward ? 1 : 2))
  }

  /// The check runs the same weights in f64 on one sample of a few tokens. Backward is checked by
  /// the gradient of the latents.
  private func verify(_ state: State, _ small: Input, in work: borrowing Workspace) throws -> Bool {
    var wide = try VideoTransformer(
      config, from: BenchmarkReference.wideParameters(of: state.model))
    // before forward, which keeps what trainable parameters' gradients need
    if pass != .forward { wide.makeTrainable(in: work) }
    let prompt = PromptEmbedding(
      states: BenchmarkReference.wide(small.prompt.states, work), counts: small.prompt.counts,
      pooled: small.prompt.pooled.map { BenchmarkReference.wide($0, work) })
    let (y, s) = state.model.forward(
      small.latents, times: small.times, small.prompt, guidance: nil, in: work)
    let (y64, s64) = wide.forward(
      BenchmarkReference.wide(small.latents, work), times: small.times, prompt, guidance: nil,
      in: work)
    guard BenchmarkReference.agree(y, y64, tolerance: 1e-4) else { return false }
    if pass == .forward { return true }
    let d = state.model.backward(y, s, wantsLatents: true, in: work)
    let d64 = wide.backward(BenchmarkReference.wide(y, work), s64, wantsLatents: true, in: work)
    guard let x = d.latents, let r = d64.latents else { return false }
    return BenchmarkReference.agree(x, r, tolerance: 1e-3)
  }

  private func run(_ state: State, _ full: Input, _ dy: Tensor, in work: borrowing Workspace) {
    if pass == .forward {
      _ = state.model(full.latents, times: full.times, full.prompt, guidance: nil, in: work)
      return
    }
    let saved = state.model.forward(
      full.latents, times: full.times, full.prompt, guidance: nil, in: work
    ).saved
    state.model.zeroGradients(in: work)
    state.model.backward(dy, saved, in: work)
    state.optimizer?.step(&state.model, learningRate: 1e-4, in: work)
  }

  private static func input(
    _ shape: Shape, words: Int, _ c: TransformerConfig, _ work: borrowing Workspace
  ) -> Input {
    let b = shape[0]
    let prompt = PromptEmbedding(
      states: BenchmarkReference.normal(Shape(b, words, c.textEmbedDim), 5, work),
      counts: Array(repeating: Int32(words), count: b),
      pooled: BenchmarkReference.normal(Shape(b, c.pooledProjectionDim), 6, work))
    return (
      BenchmarkReference.normal(shape, 7, work), (0..<b).map { Float(250 + 150 * $0) }, prompt
    )
  }
}
