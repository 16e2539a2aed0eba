import Benchmarking
import Files
import TensorRuntime
import TestSupport
import Testing

/// Two files of results: ratios of medians with intervals, by case.
@Suite struct BenchmarkComparisonTests {
  private let folder: ScratchFolder
  init() throws { folder = try ScratchFolder() }

  private func line(
    _ m: Int, _ seconds: [Double], isa: String = "avx2", threads: Int = 1, noisy: Bool = false
  ) -> String {
    let o: JSONValue = [
      "bench": "gemm", "case": ["m": .integer(m)], "threads": .integer(threads),
      "isa": .string(isa), "seconds": .array(seconds.map { .number($0) }), "noisy": .bool(noisy),
    ]
    return o.line + "\n"
  }
  private func write(_ name: String, _ lines: [String]) throws -> String {
    try OutputFile.write(lines.joined(), to: folder(name))
    return folder(name)
  }

  /// Only equal cases are compared: benchmark, sizes, threads and instruction set.
  @Test func casesByName() throws {
    let a = try write(
      "a",
      [line(8, [2, 1, 3]), line(9, [1]), line(8, [5], threads: 2), line(8, [7], isa: "avx512")])
    let b = try write(
      "b", [line(8, [9], threads: 3), line(8, [6, 4, 8], noisy: true), line(8, [5], threads: 2)])
    let found = try BenchmarkComparison(before: a, after: b)
    #expect(found.rows.map(\.name) == ["gemm m=8 threads=1 avx2", "gemm m=8 threads=2 avx2"])
    #expect(found.onlyBefore == ["gemm m=9 threads=1 avx2", "gemm m=8 threads=1 avx512"])
    #expect(found.onlyAfter == ["gemm m=8 threads=3 avx2"])
    #expect(found.rows[0].before == 2 && found.rows[0].after == 6 && found.rows[0].ratio == 3)
    #expect(found.rows[0].isNoisy && !found.rows[1].isNoisy)
    #expect(found.rows[1].ratio == 1 && found.rows[1].low == 1 && found.rows[1].high == 1)
    #expect(found.rows[0].json["ratio"]?.number == 3)
  }

  /// The interval is the bootstrap's: 2.5 % and 97.5 % of the ratios of medians of resamples, here
  /// against one with other random numbers.
  @Test func intervals() throws {
    var stream = RandomStream(seed: 1, .test)
    let x = (0..<15).map { _ in 1 + 0.1 * stream.uniform() }
    let y = (0..<15).map { _ in 1.2 + 0.3 * stream.uniform() }
    let row = try BenchmarkComparison(
      before: write("a", [line(8, x)]), after: write("b", [line(8, y)])
    ).rows[0]
    func median(_ s: [Double]) -> Double { s.sorted()[7] }
    func drawn(_ s: [Double]) -> Double { median(s.map { _ in s[stream.below(15)] }) }
    let ratios = (0..<4000).map { _ in drawn(y) / drawn(x) }.sorted()
    #expect(row.ratio == median(y) / median(x))
    #expect(row.low < row.ratio && row.ratio < row.high)
    #expect(abs(row.low - ratios[100]) < 0.02 && abs(row.high - ratios[3899]) < 0.02)
    #expect(row.high - row.low > 0.05)
  }

  @Test(arguments: [
    "", "{}\n", "not JSON\n", #"{"bench":"gemm","case":{"m":1},"seconds":[]}"#,
    #"{"bench":"gemm","case":{"m":1},"seconds":[1,0]}"#,
  ])
  func whatIsNoResult(_ text: String) throws {
    let good = try write("a", [line(8, [1])])
    let bad = try write("b", [text])
    #expect(throws: FileError.self) { try BenchmarkComparison(before: good, after: bad) }
    #expect(throws: FileError.self) { try BenchmarkComparison(before: bad, after: good) }
  }
}
