import FoundationEssentials

/// How much memory the process may still take: the smallest of what the system has and what the cgroup leaves.
enum MemoryBudget {
  /// Bytes; nil where the system does not say.
  static var availableBytes: Int? {
    func words(_ path: String) -> [String] { (try? String(contentsOfFile: path, encoding: .utf8))?.split(whereSeparator: \.isWhitespace).map(String.init) ?? [] }
    func value(after name: String, in words: [String]) -> Int? { words.firstIndex(of: name).flatMap { $0 + 1 < words.count ? Int(words[$0 + 1]) : nil } }
    let system = value(after: "MemAvailable:", in: words("/proc/meminfo")).map { $0 << 10 }
    // cgroup v2, then v1; pages of files that are not in use count as taken there, but give way
    let v1 = "/sys/fs/cgroup/memory/memory"
    var left: Int?
    if let most = words("/sys/fs/cgroup/memory.max").first.flatMap({ Int($0) }), let used = words("/sys/fs/cgroup/memory.current").first.flatMap({ Int($0) }) {
      left = most - used + (value(after: "inactive_file", in: words("/sys/fs/cgroup/memory.stat")) ?? 0)
    } else if let most = words("\(v1).limit_in_bytes").first.flatMap({ Int($0) }), let used = words("\(v1).usage_in_bytes").first.flatMap({ Int($0) }) {
      left = most - used + (value(after: "total_inactive_file", in: words("\(v1).stat")) ?? 0)
    }
    return [system, left].compactMap { $0 }.min()
  }
  static func text(_ bytes: Int) -> String { "\((Double(bytes) / 1e8).rounded() / 10) GB" }

  /// Says on standard error what a problem above 1 GB takes, and refuses (status 1) what the machine does not have.
  static func check(_ bytes: Int, _ common: CommonOptions, _ place: String, mend: String) throws {
    guard bytes > 1_000_000_000 else { return }
    let available = availableBytes
    if let available, bytes > available { throw Failure.Message(1, "the problem needs about \(text(bytes)) of memory, \(text(max(available, 0))) are free", place, mend) }
    common.note("the problem needs about \(text(bytes)) of memory\(available.map { " of the \(text($0)) that are free" } ?? "")")
  }
}
