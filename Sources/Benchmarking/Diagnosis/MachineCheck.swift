import Cluster
import Files
import TensorRuntime

/// The libraries and processors that this process uses.
public enum LoadedLibraries {
  /// Files mapped into this process, each once, sorted by name.
  public static func all() -> [String] {
    let paths = (TextFile.system("/proc/self/maps") ?? "").split(separator: "\n").compactMap {
      $0.split(separator: " ").last
    }.filter { $0.hasPrefix("/") }
    return Set(paths.map(String.init)).sorted()
  }
  private static func named(_ prefixes: [String]) -> [String] {
    all().filter { path in
      prefixes.contains { path.split(separator: "/").last?.hasPrefix($0) == true }
    }
  }
  /// OpenMP runtimes. Exactly one, LLVM's, is expected.
  public static var openMP: [String] { named(["libomp", "libgomp", "libiomp"]) }
  public static var blis: [String] { named(["libblis"]) }
}

/// Checks of threads, libraries and programs.
public enum MachineCheck {
  /// What the caller knows about threads: their number, its source, and the quota of the control
  /// group.
  public struct Threads: Sendable {
    let count: Int, origin: String, quota: Int?, environment: [String: String]
    public init(count: Int, origin: String, quota: Int?, environment: [String: String]) {
      (self.count, self.origin, self.quota, self.environment) = (count, origin, quota, environment)
    }
  }

  public static func run(_ threads: Threads) async -> [Finding] {
    [team(threads), quota(threads), affinityVariables(threads), openMP, blis] + [
      await ffmpeg(), Finding("mpi", true, Cluster.current.library),
    ]
  }

  static func team(_ t: Threads) -> Finding {
    let team = Machine.team
    if team.threads != t.count {
      return Finding(
        "threads", false,
        """
        \(t.count) asked for (\(t.origin)) but the team has \(team.threads): unset \
        OMP_THREAD_LIMIT and OMP_DYNAMIC
        """
      )
    }
    if team.processors < t.count {
      return Finding(
        "threads", false,
        """
        \(t.count) threads (\(t.origin)) share \(team.processors) \
        processor\(team.processors == 1 ? "" : "s"): give --threads \(team.processors), or a wider \
        affinity mask
        """
      )
    }
    return Finding(
      "threads", true,
      "\(t.count) (\(t.origin)) on \(team.processors) processors of \(Machine.affinity) allowed")
  }
  static func quota(_ t: Threads) -> Finding {
    guard let quota = t.quota else { return Finding("cgroup quota", true, "none") }
    if quota < t.count {
      return Finding(
        "cgroup quota", false,
        """
        \(quota) processors for \(t.count) threads: they will be stopped part of the time; give \
        --threads \(quota)
        """
      )
    }
    return Finding("cgroup quota", true, "\(quota) processors for \(t.count) threads")
  }
  /// Variables that bind threads. Those of other runtimes have no effect; those of our runtime can
  /// put all threads on one core.
  static func affinityVariables(_ t: Threads) -> Finding {
    let set = [
      "OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY", "OMP_THREAD_LIMIT", "OMP_DYNAMIC",
      "OMP_WAIT_POLICY",
    ].filter { t.environment[$0] != nil }
    let foreign = [
      "GOMP_CPU_AFFINITY", "GOMP_SPINCOUNT", "BLIS_NUM_THREADS", "OPENBLAS_NUM_THREADS",
    ].filter { t.environment[$0] != nil }
    let list = set.map { "\($0)=\(t.environment[$0]!)" }.joined(separator: " ")
    let ignored = foreign.isEmpty ? "" : "; without effect here: \(foreign.joined(separator: " "))"
    return Finding("thread variables", true, (list.isEmpty ? "none set" : list) + ignored)
  }
  static var openMP: Finding {
    let found = LoadedLibraries.openMP
    if found.count == 1, found[0].contains("libomp") { return Finding("openmp", true, found[0]) }
    if found.isEmpty {
      return Finding("openmp", false, "no OpenMP runtime is loaded: build with tools/build")
    }
    return Finding(
      "openmp", false,
      """
      \(found.joined(separator: " and ")): exactly one, LLVM's, is expected; look for LD_PRELOAD
      """
    )
  }
  static var blis: Finding {
    let found = LoadedLibraries.blis.joined(separator: " ")
    return Finding(
      "blis", true,
      found.isEmpty ? "not used: all products are this program's own" : "\(found) is not used")
  }
  static func ffmpeg() async -> Finding {
    do { return Finding("ffmpeg", true, try await VideoProgram.version()) } catch {
      return Finding("ffmpeg", false, error.description)
    }
  }
}
