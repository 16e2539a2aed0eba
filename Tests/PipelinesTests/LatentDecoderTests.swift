import Layers
import Models
import Pipelines
import TensorRuntime
import TestSupport
import Testing

/// From scaled latents to the frames that the rewards see, in double (algorithm.md 5.4, 6.17).
@Suite struct LatentDecoderTests {
  private let shape = Shape(2, 3, 3, 1, 2)
  private var z: Tensor { randomTensor(shape, seed: 1) }
  private func decoder(chunk: Int = 0, checkpointing: Bool = false) throws -> LatentDecoder {
    LatentDecoder(
      .clips(try network()),
      scalingFactor: 0.7, chunk: chunk, checkpointing: checkpointing)
  }
  private func network() throws -> AutoencoderDecoder {
    try AutoencoderDecoder(SmallModels.autoencoder, from: noisySource(seed: 2))
  }
  /// clamp(y / 2 + ½, 0, 1) of what is decoded from z / s, frames before channels. Chunks are
  /// decoded each as a clip of its own.
  private func definition(_ z: Tensor, chunks: [Range<Int>], in work: borrowing Workspace) throws
    -> (Shape, [Double])
  {
    let network = try network()
    let parts = chunks.map { range in
      network.forward(
        work.scaled(work.narrowed(z, axis: 2, range), by: 1 / 0.7), in: work
      ).y
    }
    let frames = parts.map { $0.shape[2] }.reduce(0, +)
    let (h, w) = (parts[0].shape[3], parts[0].shape[4])
    var out: [Double] = []
    for b in 0..<2 {
      for part in parts {
        let y = part.doubles
        let t = part.shape[2]
        for f in 0..<t {
          for c in 0..<3 {
            for i in 0..<h * w {
              let value = y[((b * 3 + c) * t + f) * h * w + i]
              out.append(min(max(value / 2 + 0.5, 0), 1))
            }
          }
        }
      }
    }
    return (Shape(2, frames, 3, h, w), out)
  }

  @Test(arguments: [(0, [0..<3]), (3, [0..<3]), (2, [0..<2, 2..<3]), (1, [0..<1, 1..<2, 2..<3])])
  func frames(_ chunk: Int, _ ranges: [Range<Int>]) throws {
    let work = Workspace()
    let found = try decoder(chunk: chunk)(z, in: work)
    let (shape, values) = try definition(z, chunks: ranges, in: work)
    #expect(found.shape == shape)
    #expect(zip(found.doubles, values).allSatisfy { abs($0 - $1) < 1e-12 })
    #expect(values.contains(0) || values.contains(1))
    #expect(values.contains { $0 > 0.05 && $0 < 0.95 })
  }
  @Test(arguments: [0, 2], [false, true]) func gradient(_ chunk: Int, _ checkpointing: Bool) throws
  {
    let work = Workspace()
    var decoder = try decoder(chunk: chunk, checkpointing: checkpointing)
    // One sample: four decodings follow.
    let z = z.slice(0..<1)
    let (frames, saved) = decoder.forward(z, in: work)
    let w = randomTensor(frames.shape, seed: 3)
    let gradient = decoder.backward(w, saved, in: work)
    let u = randomTensor(z.shape, seed: 4)
    let fixed = decoder
    // A short step: hardly a pixel crosses the clamp's kink.
    let numeric = directionalDerivative(z.doubles, along: u.doubles, step: 1e-6) {
      work.dot(fixed(Tensor($0, z.shape), in: work), w)
    }
    let analytic = work.dot(gradient, u)
    #expect(abs(analytic - numeric) < 1e-5 * abs(numeric), "\(analytic), \(numeric)")
  }
  /// The sample with a value that is not finite is named, counted from `first`.
  @Test func nonFiniteSamples() throws {
    let work = Workspace()
    var values = z.doubles
    values[values.count - 1] = .nan
    func refuse(_ decoder: LatentDecoder, _ z: Tensor, _ words: String) {
      do {
        _ = try decoder.samples(z, first: 7, in: work)
        Issue.record("no error")
      } catch { #expect("\(error)".hasPrefix(words), "\(error)") }
    }
    refuse(try decoder(), Tensor(values, shape), "the latent of sample 8 is not finite")
    var network = try network()
    network.forEachParameter { p in
      if p.name.hasSuffix("conv_out.conv.bias") {
        p.value = .full(p.value.shape, .infinity, type: .f64)
      }
    }
    let broken = LatentDecoder(.clips(network), scalingFactor: 0.7)
    refuse(broken, z, "the decoded clip of sample 7 is not finite")
    let sound = try decoder()
    #expect(try sound.samples(z, in: work).doubles == sound(z, in: work).doubles)
  }

  /// [0, 1] to [-1, 1] and frames behind channels; back, clamped.
  @Test func pixelRange() {
    let work = Workspace()
    let clips = work.affineClamp(
      randomTensor(Shape(2, 3, 3, 2, 2), seed: 5), alpha: 0.2, beta: 0.5, to: 0...1)
    let centered = PixelRange.centered(clips, in: work)
    let x = clips.doubles
    var expected = x
    for (b, c, t, i) in (0..<72).map({ ($0 / 36, $0 / 12 % 3, $0 / 4 % 3, $0 % 4) }) {
      expected[((b * 3 + c) * 3 + t) * 4 + i] = 2 * x[((b * 3 + t) * 3 + c) * 4 + i] - 1
    }
    #expect(zip(centered.doubles, expected).allSatisfy { abs($0 - $1) < 1e-15 })
    let back = PixelRange.unit(centered, in: work).doubles
    #expect(zip(back, x).allSatisfy { abs($0 - $1) < 1e-15 })
    let wide = Tensor([-3, 0.5, 7] as [Double], Shape(1, 3, 1, 1, 1))
    #expect(PixelRange.unit(wide, in: work).doubles == [0, 0.75, 1])
  }
}
