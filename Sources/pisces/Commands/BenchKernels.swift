import ArgumentParser
import Benchmarking
import Files
import TensorRuntime

struct BenchGemm: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "gemm", abstract: "C = A B.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .size) var m = 2049
  @Option(in: .size) var n = 6144
  @Option(in: .size) var k = 1408
  @Option(in: .size, help: "Independent products of this size.") var batch = 1
  @Option(in: .choice(StorageType.self), help: "bf16: B is stored so.") var dtype = StorageType.f32
  @Flag(help: "B is packed once beforehand, as frozen weights are.") var packed = false
  func validate() throws {
    if packed && batch > 1 { throw ValidationError("--packed takes one product, not a batch") }
  }
  func run() async throws {
    try await options.execute(
      [
        {
          GemmBenchmark(m: m, n: n, k: k, batch: batch, storage: dtype, isPacked: packed).prepare()
        }
      ], common)
  }
}

struct BenchAttention: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "attention", abstract: "Softmax attention.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .size) var heads = 16
  @Option(in: .size) var tokens = 2049
  @Option(in: .size, help: "Width of a head.") var dimension = 88
  @Option(in: .choice(StorageType.self), help: "bf16: keys and values are stored so.") var dtype =
    StorageType.f32
  @Option(in: .choice(["forward", "both"])) var pass = BenchmarkPass.forward
  func run() async throws {
    try await options.execute(
      [
        {
          AttentionBenchmark(
            heads: heads, tokens: tokens, dimension: dimension, storage: dtype, pass: pass
          ).prepare()
        }
      ], common)
  }
}

struct BenchConv: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "conv", abstract: "Causal 3x3x3 convolution.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  @Option(in: .size) var channels = 64
  @Option(in: .size) var frames = 17
  @Option(in: .size, help: "Height and width.") var size = 64
  @Option(in: .choice(StorageType.self), help: "bf16: weights are stored so.") var dtype =
    StorageType.f32
  @Option(in: .choice(["forward", "both"])) var pass = BenchmarkPass.forward
  func run() async throws {
    try await options.execute(
      [
        {
          ConvolutionBenchmark(
            channels: channels, frames: frames, size: size, storage: dtype, pass: pass
          ).prepare()
        }
      ], common)
  }
}
