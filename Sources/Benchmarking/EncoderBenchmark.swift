import Files
import Layers
import Models
import TensorRuntime

/// One block of the full-size encoders, forward.
public struct EncoderBenchmark: Sendable {
  public enum Preset: String, Sendable, CaseIterable {
    /// InternVideo2 1B: width 1408, 16 heads, hidden 6144, 2049 tokens.
    case vitBlock = "vit-block"
    /// BERT-large fusion layer: width 1024, 16 heads, hidden 4096, 40 words attending to 2049
    /// tokens of width 1408.
    case bertFusion = "bert-fusion"
    /// The same for a second caption of a video: keys and values of its tokens exist already.
    case bertFusionAgain = "bert-fusion-again"
  }
  public var preset = Preset.vitBlock, storage = StorageType.f32
  public init(preset: Preset = .vitBlock, storage: StorageType = .f32) {
    (self.preset, self.storage) = (preset, storage)
  }

  /// The check runs the same weights in f64 on fewer tokens.
  public func prepare() throws -> BenchmarkCase {
    try preset == .vitBlock ? vitBlock() : bertFusion()
  }

  private func vitBlock() throws -> BenchmarkCase {
    var config = VideoEncoderConfig()
    (config.depth, config.initValues) = (1, 1)
    let block = try VideoEncoder(
      config, embedDim: 512, from: BenchmarkReference.parameters(storage)
    ).blocks[
      0]
    let pool = BufferPool()
    let tokens = config.tokens(frames: 8)
    let d = config.dModel
    let h = config.hidden
    let x = BenchmarkReference.normal(Shape(1, tokens, d), 1, Workspace(pool: pool))
    let n = Double(tokens)
    let c = config
    let flops = 2 * n * Double(4 * d * d + 2 * d * h) + 4 * n * n * Double(d)
    return BenchmarkCase(
      "encoder",
      [("preset", .string(preset.rawValue)), ("tokens", .integer(tokens)), ("width", .integer(d))]
        + storage.fields,
      .init(flops: flops, exponentials: Double(config.numHeads) * n * n + n * Double(h)),
      verify: {
        let work = Workspace(pool: pool)
        let few = work.narrowed(x, axis: 1, 0..<65)
        // The whole encoder is rebuilt with the block's parameters, but only the block is used.
        var one = c
        (one.imgSize, one.numFrames, one.clipEmbedDim) = (one.patchSize, 1, 1)
        let fallback = ParameterSource.random(seed: 1, type: .f64)
        let exact = BenchmarkReference.wideParameters(of: block)
        let wide = try VideoEncoder(
          one, embedDim: 1,
          from: ParameterSource { name, shape, initial, _ in
            try name.contains(".blocks.")
              ? exact(name, shape, initial).value : fallback(name, shape, .zeros).value
          }
        ).blocks[0]
        return BenchmarkReference.agree(
          block(few, in: work), wide(BenchmarkReference.wide(few, work), in: work),
          tolerance: 1e-4
        )
      },
      run: { _ = block(x, in: Workspace(pool: pool)) })
  }

  private func bertFusion() throws -> BenchmarkCase {
    var config = TextEncoderConfig()
    (config.vocabSize, config.maxPositionEmbeddings, config.numHiddenLayers, config.fusionLayer) = (
      8, 8, 1, 0
    )
    let layer = try TextEncoder(config, from: BenchmarkReference.parameters(storage)).layers[0]
    let words = 40
    let tokens = 2049
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let c = config
    let h = BenchmarkReference.normal(Shape(1, words, config.hiddenSize), 1, work)
    let vision = BenchmarkReference.normal(Shape(1, tokens, config.encoderWidth), 2, work)
    let batch = TokenBatch([Array(repeating: Int32(1), count: words)])
    let (l, m, d, e, f) = (
      Double(words), Double(tokens), Double(c.hiddenSize), Double(c.encoderWidth),
      Double(c.intermediateSize)
    )
    let kept = preset == .bertFusionAgain ? layer.cross!.vision(vision, in: work) : nil
    let flops =
      2 * l * (6 * d * d + 2 * d * f) + (kept == nil ? 2 * m * 2 * e * d : 0) + 4 * l * (l + m) * d
    return BenchmarkCase(
      "encoder",
      [
        ("preset", .string(preset.rawValue)), ("words", .integer(words)),
        ("tokens", .integer(tokens)), ("width", .integer(c.hiddenSize)),
      ] + storage.fields,
      .init(flops: flops, exponentials: Double(c.numAttentionHeads) * l * (l + m) + l * f),
      verify: {
        let work = Workspace(pool: pool)
        let few = work.narrowed(vision, axis: 1, 0..<129)
        let exact = BenchmarkReference.wideParameters(of: layer)
        let fallback = ParameterSource.random(seed: 1, type: .f64)
        let wide = try TextEncoder(
          c,
          from: ParameterSource { name, shape, initial, _ in
            try name.contains(".layer.")
              ? exact(name, shape, initial).value : fallback(name, shape, .zeros).value
          }
        ).layers[0]
        let y = layer.forward(h, batch, vision: layer.cross!.vision(few, in: work), in: work).y
        return BenchmarkReference.agree(
          y,
          wide.forward(
            BenchmarkReference.wide(h, work), batch,
            vision: wide.cross!.vision(BenchmarkReference.wide(few, work), in: work), in: work
          ).y, tolerance: 1e-4)
      },
      run: {
        let work = Workspace(pool: pool)
        _ = layer.forward(h, batch, vision: kept ?? layer.cross!.vision(vision, in: work), in: work)
      })
  }
}
