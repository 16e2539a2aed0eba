import Files
import Layers
import Models
import TensorRuntime

/// Decodes latents 16×5×16×16 to 17 frames of 128×128 with a small decoder.
public struct AutoencoderBenchmark: Sendable {
  public enum Preset: String, Sendable, CaseIterable {
    /// Channels 32, 64, 64, 64.
    case decoderSmall = "decoder-small"
  }
  public var preset = Preset.decoderSmall, storage = StorageType.f32, pass = BenchmarkPass.forward
  public init(
    preset: Preset = .decoderSmall, storage: StorageType = .f32, pass: BenchmarkPass = .forward
  ) {
    (self.preset, self.storage, self.pass) = (preset, storage, pass)
  }
  private final class State {
    var decoder: AutoencoderDecoder
    init(_ decoder: AutoencoderDecoder) { self.decoder = decoder }
  }

  /// The check runs the same weights in f64 on a small latent. Backward is checked by the gradient
  /// of the latents.
  public func prepare() throws -> BenchmarkCase {
    var c = AutoencoderConfig()
    (c.blockOutChannels, c.normNumGroups) = ([32, 64, 64, 64], 8)
    let config = c
    let pass = pass
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let state = State(try AutoencoderDecoder(config, from: BenchmarkReference.parameters(storage)))
    let latents = BenchmarkReference.normal(Shape(1, 16, 5, 16, 16), 1, work)
    let small = BenchmarkReference.normal(Shape(1, 16, 2, 2, 2), 2, work)
    if pass == .both { state.decoder.makeTrainable(in: work) }
    let dy = BenchmarkReference.normal(Shape(1, 3, 17, 128, 128), 3, work)
    let flops =
      Self.flops(config, frames: 5, side: 16) * (pass == .both ? 3 : pass == .latents ? 2 : 1)
    return BenchmarkCase(
      "vae",
      [
        ("preset", .string(preset.rawValue)),
        ("parameters", .integer(state.decoder.parameterCount)), ("pass", .string(pass.rawValue)),
      ] + storage.fields, .init(flops: flops),
      verify: {
        let work = Workspace(pool: pool)
        var wide = try AutoencoderDecoder(
          config, from: BenchmarkReference.wideParameters(of: state.decoder))
        let (y, s) = state.decoder.forward(small, in: work)
        let (y64, s64) = wide.forward(BenchmarkReference.wide(small, work), in: work)
        guard BenchmarkReference.agree(y, y64, tolerance: 1e-4) else { return false }
        if pass == .forward { return true }
        return BenchmarkReference.agree(
          state.decoder.backward(y, s, in: work),
          wide.backward(BenchmarkReference.wide(y, work), s64, in: work), tolerance: 1e-3)
      },
      run: {
        let work = Workspace(pool: pool)
        let (_, saved) = state.decoder.forward(latents, checkpointing: pass == .forward, in: work)
        if pass == .forward { return }
        state.decoder.zeroGradients(in: work)
        _ = state.decoder.backward(dy, saved, in: work)
      })
  }

  /// Operations of the convolutions, and of the mid block's attention, in one decoding pass.
  static func flops(_ c: AutoencoderConfig, frames: Int, side: Int) -> Double {
    var t = frames
    var s = side
    var total = 0.0
    func conv(_ input: Int, _ output: Int, _ taps: Int = 27) {
      total += 2 * Double(taps * input * output) * Double(t * s * s)
    }
    func residual(_ input: Int, _ output: Int) {
      conv(input, output)
      conv(output, output)
      if input != output { conv(input, output, 1) }
    }
    var width = c.blockOutChannels.last!
    conv(c.latentChannels, c.latentChannels, 1)
    conv(c.latentChannels, width)
    residual(width, width)
    residual(width, width)
    // A query sees the frames up to its own: (frames + 1) / 2 of them on average.
    conv(width, 4 * width, 1)
    total += 4 * Double(t * s * s) * Double((t + 1) * s * s) / 2 * Double(width)
    for (level, channels) in c.blockOutChannels.reversed().enumerated() {
      for i in 0...c.layersPerBlock { residual(i == 0 ? width : channels, channels) }
      width = channels
      if let f = c.factor(level) {
        (t, s) = (1 + (t - 1) * f.x, s * f.y)
        conv(width, width)
      }
    }
    conv(width, c.outChannels)
    return total
  }
}
