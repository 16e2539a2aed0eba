public import Files
import TensorRuntime

/// Compares two files of `bench --json` case by case: the ratio of the medians, with a bootstrap
/// interval over the repeats of both.
public struct BenchmarkComparison: Sendable {
  public struct Row: Sendable {
    /// Benchmark, sizes, threads and instruction set, which must agree for two times to be
    /// comparable.
    public let name: String
    public let before, after: Double
    /// after / before. Above 1 is slower.
    public let ratio, low, high: Double
    /// Whether one of the two was measured beside other work, or with a debug build.
    public let isNoisy, isDebugBuild: Bool
    public var json: JSONValue {
      [
        "case": .string(name), "before_seconds": .number(before), "after_seconds": .number(after),
        "ratio": .number(ratio), "low": .number(low), "high": .number(high),
        "noisy": .bool(isNoisy), "debug_build": .bool(isDebugBuild),
      ]
    }
  }
  /// Ratios, in the order of the first file.
  public let rows: [Row]
  /// Cases that only one of the files has.
  public let onlyBefore, onlyAfter: [String]

  /// Repeats of one run meet the same state of the machine. So an interval shows their spread, and
  /// not that between runs: measure in alternation.
  public init(before: String, after: String, resamples: Int = 2000) throws(FileError) {
    let a = try Self.read(before)
    let b = try Self.read(after)
    var rows: [Row] = []
    for x in a {
      guard let y = b.first(where: { $0.name == x.name }) else { continue }
      var stream = RandomStream(seed: 1, .bootstrap, sample: rows.count)
      func drawn(_ s: [Double]) -> Double {
        Self.median((0..<s.count).map { _ in s[stream.below(s.count)] })
      }
      let ratios = (0..<resamples).map { _ in drawn(y.seconds) / drawn(x.seconds) }.sorted()
      let m = (Self.median(x.seconds), Self.median(y.seconds))
      rows.append(
        Row(
          name: x.name, before: m.0, after: m.1, ratio: m.1 / m.0, low: ratios[resamples / 40],
          high: ratios[resamples - 1 - resamples / 40],
          isNoisy: x.isNoisy || y.isNoisy, isDebugBuild: x.isDebugBuild || y.isDebugBuild))
    }
    self.rows = rows
    onlyBefore = a.map(\.name).filter { name in !b.contains { $0.name == name } }
    onlyAfter = b.map(\.name).filter { name in !a.contains { $0.name == name } }
  }

  private struct Record { let name: String, seconds: [Double], isNoisy, isDebugBuild: Bool }
  private static func read(_ path: String) throws(FileError) -> [Record] {
    let lines = try TextFile.lines(path).filter { !$0.isEmpty }
    var records: [Record] = []
    for (i, line) in lines.enumerated() {
      let o = try JSONValue(parsing: line, name: "\(path), line \(i + 1)")
      guard let bench = o["bench"]?.string, let sizes = o["case"]?.object,
        let seconds = o["seconds"]?.array?.compactMap(\.number), !seconds.isEmpty,
        seconds.allSatisfy({ $0 > 0 })
      else {
        throw FileError(
          .badData, "not a result of pisces bench --json", in: "\(path), line \(i + 1)",
          mend: "make it with this version: pisces bench NAME --json > FILE")
      }
      let parts =
        [bench] + sizes.members.map { "\($0.key)=\($0.value.string ?? $0.value.line)" }
        + [o["threads"].map { "threads=\($0.line)" }, o["isa"]?.string].compactMap { $0 }
      records.append(
        Record(
          name: parts.joined(separator: " "), seconds: seconds, isNoisy: o["noisy"] == true,
          isDebugBuild: o["debug_build"] == true))
    }
    if records.isEmpty {
      throw FileError(
        .badData, "no results", in: path, mend: "make it with pisces bench NAME --json > FILE")
    }
    return records
  }
  private static func median(_ x: [Double]) -> Double { x.sorted()[x.count / 2] }
}
