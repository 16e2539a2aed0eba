import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

/// The decoder on strips of rows: what it computes whole, and the bits of one process for any
/// number of processes.
@Suite(.serialized) struct ClipStripsTests {
  /// Six rows make strips of unlike heights; three latent frames, so that attention is causal.
  private static let shape = Shape(2, 3, 3, 6, 5)
  private static let config: AutoencoderConfig = {
    var c = ModelGradientTests.smallAutoencoder
    c.latentChannels = 3
    return c
  }()
  private static func decoder(_ type: ElementType) throws -> AutoencoderDecoder {
    var decoder = try AutoencoderDecoder(config, from: noisySource(seed: 31))
    let work = Workspace()
    decoder.forEachParameter { $0.value = work.converted($0.value, to: type) }
    return decoder
  }
  private static func cotangent(_ y: Tensor) -> Tensor {
    randomTensor(y.shape, seed: 33, type: y.type)
  }
  /// The video, and the gradient of the latents.
  @Sendable private static func run(
    _ share: RowShare, _ decoder: AutoencoderDecoder, checkpointing: Bool, type: ElementType
  ) -> [Tensor] {
    let work = Workspace()
    let z = randomTensor(shape, seed: 32, type: type)
    if share.strips == 1 {
      var decoder = decoder
      let (y, saved) = decoder.forward(z, in: work)
      return [y, decoder.backward(cotangent(y), saved, in: work)]
    }
    let (y, saved) = decoder.forward(z, checkpointing: checkpointing, sharing: share, in: work)
    return [y, decoder.backward(cotangent(y), saved, in: work)]
  }
  private static func difference(_ a: Tensor, _ b: Tensor) -> Double {
    #expect(a.shape == b.shape)
    let scale = b.doubles.reduce(1e-3) { max($0, abs($1)) }
    return zip(a.doubles, b.doubles).reduce(0) { max($0, abs($1.0 - $1.1)) } / scale
  }

  /// In double, so that nothing but rounding can differ.
  @Test(arguments: [2, 4]) func equalsTheWhole(_ strips: Int) throws {
    let decoder = try Self.decoder(.f64)
    let whole = Self.run(.whole, decoder, checkpointing: false, type: .f64)
    let cut = Self.run(RowShare(strips: strips), decoder, checkpointing: false, type: .f64)
    for (x, y) in zip(cut, whole) { #expect(Self.difference(x, y) < 1e-12) }
  }
  @Test(arguments: [false, true]) func bitsDependOnStripsAlone(_ checkpointing: Bool) throws {
    let decoder = try Self.decoder(.f32)
    let whole = Self.run(.whole, decoder, checkpointing: checkpointing, type: .f32)
    for strips in [2, 4] {
      let one = Self.run(
        RowShare(strips: strips), decoder, checkpointing: checkpointing, type: .f32)
      for (x, y) in zip(one, whole) { #expect(Self.difference(x, y) < 2e-5) }
      for ranks in [2, 4] where ranks <= strips {
        let results = RankThreads.run(ranks, strips: strips) {
          Self.run($0, decoder, checkpointing: checkpointing, type: .f32)
        }
        for result in results {
          for (x, y) in zip(result, one) { #expect(x.floats == y.floats, "\(ranks) of \(strips)") }
        }
      }
    }
  }
  /// The first half of a group decodes by itself, while the other does something else.
  @Test func halfOfAGroup() throws {
    let decoder = try Self.decoder(.f32)
    let one = Self.run(RowShare(strips: 4), decoder, checkpointing: false, type: .f32)
    let results = RankThreads.run(4, strips: 4) { share in
      share.isInSecondHalf
        ? nil : Self.run(share.half, decoder, checkpointing: false, type: .f32)
    }
    #expect(results.map { $0 == nil } == [false, false, true, true])
    for result in results.compactMap({ $0 }) {
      for (x, y) in zip(result, one) { #expect(x.floats == y.floats) }
    }
  }
  @Test func needsARowForEachStrip() {
    #expect(AutoencoderDecoder.isShared(rows: 4, by: RowShare(strips: 4)))
    #expect(!AutoencoderDecoder.isShared(rows: 3, by: RowShare(strips: 4)))
    #expect(!AutoencoderDecoder.isShared(rows: 3, by: .whole))
  }
}
