import Files
import TensorRuntime
import TestSupport
import Testing

@testable import Benchmarking

/// How times become numbers: medians, rates, limits, and the case's own check.
@Suite(.serialized) struct BenchmarkRunnerTests {
  /// Measures the machine once for all tests.
  private static let runner = BenchmarkRunner(repeats: 5, isDebugBuild: true)

  private final class Calls {
    var verified = 0, runs = 0
  }
  private func benchmark(
    _ calls: Calls, _ work: BenchmarkCase.Work, sound: Bool = true, counts: Bool = false
  ) -> BenchmarkCase {
    let x = randomTensor(Shape(6, 6), seed: 1)
    return BenchmarkCase(
      "sample", [("n", .integer(6))], work,
      verify: {
        calls.verified += 1
        return sound
      },
      run: {
        calls.runs += 1
        let work = Workspace()
        for _ in 0..<50 { _ = work.matmul(x, x) }
      },
      phases: { [("part", 0.5, 77)] }, predict: { 123 }, countsOperations: counts)
  }

  @Test func repeatsAndChecks() async throws {
    let calls = Calls()
    let good = try await Self.runner.run(benchmark(calls, .init()))
    // A warm-up, then the repeats, sorted.
    #expect(calls.verified == 1 && calls.runs == 6 && good.seconds.count == 5)
    #expect(good.seconds == good.seconds.sorted() && good.seconds[0] > 0)
    #expect(good.isVerified == true && good.isDebugBuild && good.predictedResidentBytes == 123)
    #expect(good.gflops == nil && good.limit == nil && good.shareOfLimit == nil)
    #expect(try await Self.runner.run(benchmark(calls, .init(), sound: false)).isVerified == false)
    var quick = Self.runner
    (quick.skipsCheck, quick.repeats) = (true, 1)
    let unchecked = try await quick.run(benchmark(calls, .init()))
    #expect(unchecked.isVerified == nil && calls.verified == 2 && unchecked.seconds.count == 1)
  }
  /// The limit is the slowest of arithmetic, memory and exponentials at the machine's rates.
  @Test(arguments: [("flops", 3.0, 2.0, 1.0), ("bandwidth", 1, 3, 2), ("exp", 2, 1, 3)])
  func limits(_ name: String, _ flops: Double, _ bytes: Double, _ exponentials: Double)
    async throws
  {
    let rates = Self.runner.rates
    #expect(rates.flops > 0 && rates.bytes > 0 && rates.exponentials > 0)
    let r = try await Self.runner.run(
      benchmark(
        Calls(),
        .init(
          flops: flops * rates.flops, bytes: bytes * rates.bytes,
          exponentials: exponentials * rates.exponentials)))
    #expect(r.limit == name)
    #expect(abs(try #require(r.shareOfLimit) * r.median - 3) < 1e-9)
    #expect(abs(try #require(r.gflops) * r.median - flops * rates.flops / 1e9) < 1e-6)
    #expect(abs(try #require(r.gbytesPerSecond) * r.median - bytes * rates.bytes / 1e9) < 1e-6)
    #expect(
      abs(try #require(r.gexpPerSecond) * r.median - exponentials * rates.exponentials / 1e9) < 1e-6
    )
  }
  /// 50 products of 6 x 6 matrices in a run are 50 · 2 · 6³ operations.
  @Test func countedOperations() async throws {
    let r = try await Self.runner.run(benchmark(Calls(), .init(), counts: true))
    #expect(abs(try #require(r.gflops) * r.median * 1e9 - 21600) < 1e-3)
  }
  /// In turns with another program: each turn lasts at least a tenth of a second and counts once.
  @Test func turns() async throws {
    final class Turns: @unchecked Sendable {
      var left = 2, readied = 0
      var reported: [Double] = []
    }
    let turns = Turns()
    var runner = Self.runner
    runner.turns = (
      ready: { turns.readied += 1 },
      begin: {
        turns.left -= 1
        return turns.left >= 0
      },
      end: { turns.reported.append($0) }
    )
    let calls = Calls()
    let r = try await runner.run(benchmark(calls, .init()))
    #expect(turns.readied == 1 && turns.reported.count == 2)
    #expect(r.seconds == turns.reported.sorted() && calls.runs > 3)
  }

  /// The median of an odd number of repeats, and the median distance from it.
  @Test func medianAndSpread() {
    func result(_ seconds: [Double], verified: Bool?) -> BenchmarkResult {
      BenchmarkResult(
        bench: "sample", sizes: ["n": 6], threads: 2, isa: "avx2", seconds: seconds, gflops: 7,
        gbytesPerSecond: nil, gexpPerSecond: nil, limit: "flops", shareOfLimit: 0.5,
        isVerified: verified, isDebugBuild: false, isNoisy: true, peakResidentBytes: 99,
        predictedResidentBytes: 88, phases: [("part", 0.25, 77)])
    }
    let r = result([1, 2, 3, 4, 10], verified: true)
    #expect(r.median == 3 && r.spread == 1)
    let o = r.json
    for (key, value) in [
      ("median_seconds", 3.0), ("min_seconds", 1), ("max_seconds", 10), ("spread_seconds", 1),
      ("repeats", 5), ("gflops", 7), ("share_of_limit", 0.5), ("threads", 2),
    ] { #expect(o[key]?.number == value, "\(key)") }
    #expect(o["seconds"]?.array?.compactMap(\.number) == r.seconds && o["verified"] == true)
    #expect(o["noisy"] == true && o["debug_build"] == false && o["gexp_per_second"] == .null)
    #expect(o["phases"]?.array?[0]["peak_tensor_bytes"]?.integer == 77)
    // Memory is told where the check, which takes more, was left out.
    #expect(o["peak_resident_bytes"] == nil)
    let unchecked = result([1], verified: nil).json
    #expect(unchecked["verified"] == .null && unchecked["peak_resident_bytes"]?.integer == 99)
    #expect(unchecked["predicted_resident_bytes"]?.integer == 88)
  }

  /// Agreement is relative to the largest magnitude of the reference.
  @Test func agreement() {
    let r = Tensor([1, -4, 0] as [Double], Shape(3))
    func agrees(_ x: [Double], _ tolerance: Double) -> Bool {
      BenchmarkReference.agree(Tensor(x, Shape(3)), r, tolerance: tolerance)
    }
    #expect(agrees([1.03, -4, 0], 0.01) && !agrees([1.05, -4, 0], 0.01))
    #expect(agrees([1, -4, -0.03], 0.01) && !agrees([1, 4, 0], 0.5) && !agrees([1, -4, .nan], 1))
    let work = Workspace()
    let a = BenchmarkReference.normal(Shape(50), 1, work)
    #expect(a.floats == BenchmarkReference.normal(Shape(50), 1, work).floats)
    #expect(a.floats != BenchmarkReference.normal(Shape(50), 2, work).floats)
    let signs = BenchmarkReference.signs(200, 3).doubles
    #expect(signs.allSatisfy { abs($0) == 1 } && abs(signs.reduce(0, +)) < 60)
  }
}
