internal import FoundationEssentials
internal import TensorRuntime

/// The number of threads that the process may use, the smallest of all limits (interfaces.md 1),
/// and the source of that number.
public struct ThreadBudget {
  public let count: Int, origin: String

  /// `requested` goes before every limit.
  public init(requested: Int?) {
    if let requested {
      (count, origin) = (requested, "--threads")
      return
    }
    var candidates: [(Int, String)] = [(Machine.affinity, "the affinity mask")]
    if let quota = Self.quota { candidates.append((quota, "the cgroup CPU quota")) }
    // OMP_ variables were evaluated at start-up (omp_environment.c).
    for name in ["SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS", "OMP_THREAD_LIMIT"] {
      let text = ProcessInfo.processInfo.environment[name]?.split(separator: ",").first
      if let n = text.flatMap({ Int($0.filter { !$0.isWhitespace }) }), n > 0 {
        candidates.append((n, name))
      }
    }
    (count, origin) = candidates.min { $0.0 < $1.0 }!
  }
  public static var quota: Int? { ControlGroup().processors }
}
