import ArgumentParser
import Benchmarking

struct BenchRates: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rates",
    abstract: "Products, attention and convolutions as in a step of full width, for `plan`.",
    discussion: "Give --compute-dtype bf16 if the run has it.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: BenchOptions
  func run() async throws {
    try await options.execute(
      [
        { GemmBenchmark(m: 2048, n: 3072, k: 3072).prepare() },
        { AttentionBenchmark(heads: 4, tokens: 2048, dimension: 128, pass: .both).prepare() },
        { ConvolutionBenchmark(channels: 128, frames: 9, size: 64, pass: .both).prepare() },
      ], common)
  }
}
