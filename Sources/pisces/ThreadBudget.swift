import FoundationEssentials
import TensorRuntime

/// How many threads the process may use: the smallest of what is set (interfaces.md 1), and where that number came from.
struct ThreadBudget {
  let count: Int, origin: String

  init(requested: Int?) {
    if let requested {
      (count, origin) = (requested, "--threads")
      return
    }
    var candidates: [(Int, String)] = [(Machine.affinity, "the affinity mask")]
    if let quota = Self.quota { candidates.append((quota, "the cgroup CPU quota")) }
    for name in ["SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"] {
      let text = ProcessInfo.processInfo.environment[name]?.split(separator: ",").first
      if let n = text.flatMap({ Int($0) }), n > 0 { candidates.append((n, name)) }
    }
    (count, origin) = candidates.min { $0.0 < $1.0 }!
  }

  /// cgroup v2 `cpu.max` (or v1's quota and period), rounded down, at least 1.
  static var quota: Int? {
    func words(_ path: String) -> [String] { (try? String(contentsOfFile: path, encoding: .utf8))?.split(whereSeparator: \.isWhitespace).map(String.init) ?? [] }
    let v2 = words("/sys/fs/cgroup/cpu.max")
    if v2.count == 2, let q = Double(v2[0]), let p = Double(v2[1]), p > 0 { return max(1, Int(q / p)) }
    if let q = Double(words("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").first ?? ""), q > 0, let p = Double(words("/sys/fs/cgroup/cpu/cpu.cfs_period_us").first ?? ""), p > 0 {
      return max(1, Int(q / p))
    }
    return nil
  }
}
