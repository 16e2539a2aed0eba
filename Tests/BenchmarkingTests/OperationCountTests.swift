import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

@testable import Benchmarking

/// The operations that a benchmark claims are those that the kernels were asked for: 2 m n k of
/// every product, counted while it runs. The counter is the process's, so tests take turns.
@Suite(.serialized) struct OperationCountTests {
  /// Operations of one run, and the claim.
  private func counted(_ benchmark: BenchmarkCase) async throws -> (found: Double, claimed: Double)
  {
    let before = OperationCount.total
    try await benchmark.run()
    return (Double(OperationCount.total - before), try #require(benchmark.work.flops))
  }

  @Test(arguments: [1, 3], [StorageType.f32, .bf16])
  func products(_ batch: Int, _ storage: StorageType) async throws {
    let benchmark = GemmBenchmark(m: 5, n: 6, k: 7, batch: batch, storage: storage).prepare()
    let (found, claimed) = try await counted(benchmark)
    #expect(found == Double(batch * 2 * 5 * 6 * 7) && claimed == found)
    // A and C in f32, B as it is stored.
    let bytes = batch * (4 * (5 * 7 + 5 * 6) + (storage == .f32 ? 4 : 2) * 7 * 6)
    #expect(benchmark.work.bytes == Double(bytes))
    #expect(try await benchmark.verify())
  }
  @Test(arguments: [(BenchmarkPass.forward, 2), (.both, 7)])
  func attention(_ pass: BenchmarkPass, _ count: Int) async throws {
    let benchmark = AttentionBenchmark(heads: 2, tokens: 9, dimension: 4, pass: pass).prepare()
    let (found, claimed) = try await counted(benchmark)
    // Every product of a pass takes 2 · 9 · 9 · 4 operations a head.
    #expect(found == Double(count * 2 * 648) && claimed == found)
    #expect(benchmark.work.exponentials == (pass == .both ? 324 : 162))
    #expect(try await benchmark.verify())
  }
  @Test(arguments: [(BenchmarkPass.forward, 1), (.both, 3)])
  func convolution(_ pass: BenchmarkPass, _ count: Int) async throws {
    let benchmark = ConvolutionBenchmark(channels: 4, frames: 3, size: 5, pass: pass).prepare()
    let (found, claimed) = try await counted(benchmark)
    #expect(found == Double(count * 2 * 27 * 4 * 4 * 3 * 5 * 5) && claimed == found)
    #expect(try await benchmark.verify())
  }
  /// One outer step of the OT map: as many products as algorithm.md 3.3 has.
  @Test func mapTraining() async throws {
    let (found, claimed) = try await counted(MapBenchmark(batch: 4, inner: 2).prepare())
    #expect(abs(found - claimed) < 1e-9 * found, "\(found), \(claimed)")
  }
  /// The convolutions of a decoder by its configuration.
  @Test func decoder() throws {
    var config = SmallModels.autoencoder
    config.blockOutChannels = [2, 6, 4]
    let decoder = try AutoencoderDecoder(config, from: .random(seed: 1))
    let work = Workspace()
    let before = OperationCount.total
    _ = decoder.forward(randomTensor(Shape(1, 3, 3, 2, 2), seed: 2, type: .f32), in: work)
    let found = Double(OperationCount.total - before)
    // Attention is counted in full, though the later half of the frames is hidden from the earlier:
    // 12 tokens of width 4, of which a frame's see 4, 8 and 12.
    let hidden = 4.0 * 4 * Double(12 * 12 - (4 * 4 + 4 * 8 + 4 * 12))
    #expect(
      found == AutoencoderBenchmark.flops(config, frames: 3, side: 2) + hidden,
      "\(found), \(AutoencoderBenchmark.flops(config, frames: 3, side: 2))")
  }
}
