/// The cases of `pisces bench all`, one in each line, the cheapest first.
public enum BenchmarkSuite {
  public static let all: [@Sendable () throws -> BenchmarkCase] = [
    { GemmBenchmark(m: 1024, n: 1024, k: 1024).prepare() },
    { GemmBenchmark().prepare() },
    { GemmBenchmark(storage: .bf16).prepare() },
    { GemmBenchmark(m: 352, n: 1536, k: 384).prepare() },
    { GemmBenchmark(m: 40, n: 2049, k: 88).prepare() },
    { GemmBenchmark(m: 64, n: 64, k: 64, batch: 512).prepare() },
    { AttentionBenchmark().prepare() },
    { AttentionBenchmark(pass: .both).prepare() },
    { ConvolutionBenchmark().prepare() },
    { ConvolutionBenchmark(pass: .both).prepare() },
    { try EncoderBenchmark(preset: .vitBlock).prepare() },
    { try EncoderBenchmark(preset: .bertFusion).prepare() },
    { try EncoderBenchmark(preset: .bertFusionAgain).prepare() },
    { try GeneratorBenchmark(preset: .mmdit384, pass: .forward).prepare() },
    { try GeneratorBenchmark(preset: .mmdit384, pass: .step).prepare() },
    { try GeneratorBenchmark(preset: .mmdit768, pass: .forward).prepare() },
    { try GeneratorBenchmark(preset: .mmdit768, pass: .step).prepare() },
    { try AutoencoderBenchmark(pass: .forward).prepare() },
    { try AutoencoderBenchmark(pass: .latents).prepare() },
    { try TransportBenchmark().prepare() },
    { try transport(.exactMass).prepare() },
    { try transport(.square).prepare() },
    { try transport(.gradient).prepare() },
    { MapBenchmark().prepare() },
  ]
  private static func transport(_ kind: TransportBenchmark.Kind) -> TransportBenchmark {
    var b = TransportBenchmark()
    (b.kind, b.iterations) = (kind, kind == .square ? 100 : 0)
    return b
  }
}
