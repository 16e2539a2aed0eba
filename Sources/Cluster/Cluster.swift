internal import CMpi
internal import FoundationEssentials
internal import Glibc
internal import Synchronization
internal import TensorRuntime

/// The processes of one run: this one's rank, and all of their hosts. Every rank makes the same
/// calls in the same order.
public final class Cluster: Sendable {
  public let rank, size: Int
  /// The name of each rank's host.
  public let hosts: [String]
  /// "Open MPI v4.1.4 (libmpi.so.40)", or "one process".
  public let library: String
  /// How a user of this launcher leaves every rank all processors of its host.
  public let unbinding: String

  init(rank: Int, size: Int, hosts: [String], library: String, unbinding: String) {
    (self.rank, self.size, self.hosts) = (rank, size, hosts)
    (self.library, self.unbinding) = (library, unbinding)
  }

  private static let one = Cluster(
    rank: 0, size: 1, hosts: ["localhost"], library: "one process", unbinding: "")
  private static let started = Mutex<Cluster?>(nil)
  /// The cluster of this process: it alone, until `start` finds others.
  public static var current: Cluster { started.withLock { $0 } ?? one }

  public var host: String { hosts[rank] }
  /// Hosts in the order of their first ranks.
  public var nodes: [String] {
    hosts.enumerated().filter { hosts.firstIndex(of: $1) == $0 }.map(\.element)
  }
  /// Ranks on this rank's host, and this rank's place among them.
  public var localSize: Int { hosts.count { $0 == host } }
  public var localRank: Int { hosts[..<rank].count { $0 == host } }
  public var isFirst: Bool { rank == 0 }
  /// All ranks but this one.
  public var others: [Int] { (0..<size).filter { $0 != rank } }

  /// Opens MPI if a launcher has started several processes; otherwise, or with `PISCES_MPI=off`
  /// (for a program that is itself a rank and starts others), does nothing. Throws
  /// `ClusterError` with status 69 if there is no library of MPI, or if it is another launcher's.
  public static func start() throws(ClusterError) {
    let environment = ProcessInfo.processInfo.environment
    guard environment["PISCES_MPI"] != "off", let launcher = Launcher(environment) else { return }
    let path = environment["PISCES_MPI"].flatMap { $0.isEmpty ? nil : $0 }
    var why = [CChar](repeating: 0, count: 512)
    let status = unsafe why.withUnsafeMutableBufferPointer { room in
      unsafe pm_start(path, launcher.isOfOpenMPI ? 0 : 1, room.baseAddress!, room.count)
    }
    if status != 0 {
      let reason = String(
        decoding: why.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      throw ClusterError(
        status: 69, what: "no MPI library: \(reason)", place: launcher.name,
        mend: "install Open MPI or MPICH, or set PISCES_MPI=/path/to/libmpi.so")
    }
    let library = unsafe String(cString: pm_library())
    let (rank, size) = (Int(pm_rank()), Int(pm_size()))
    if size != launcher.size {
      throw ClusterError(
        status: 69,
        what:
          """
          this is one of \(launcher.size) processes, but \(library) knows \
          \(size == 1 ? "only itself" : "\(size)")
          """, place: launcher.name,
        mend:
          """
          start with that library's own mpirun, with srun --mpi=pmix (Open MPI) or --mpi=pmi2 \
          (MPICH), or set PISCES_MPI
          """)
    }
    let alone = Cluster(
      rank: rank, size: size, hosts: Array(repeating: "", count: size), library: library,
      unbinding: launcher.unbinding)
    let hosts = try alone.gather(bytes: Array(hostName().utf8))
      .map { String(decoding: $0, as: UTF8.self) }
    let cluster = Cluster(
      rank: rank, size: size, hosts: hosts, library: library, unbinding: launcher.unbinding)
    started.withLock { $0 = cluster }
  }
  /// Runs `body` as one of `size` ranks that do not exist, to plan their steps (`MemoryPlan`).
  /// Nothing can be sent to them.
  public static func imagining<Result>(
    rank: Int, size: Int, _ body: () throws -> Result
  ) rethrows -> Result {
    let kept = started.withLock { $0 }
    defer { started.withLock { $0 = kept } }
    let cluster = Cluster(
      rank: rank, size: size, hosts: Array(repeating: "imagined", count: size), library: "none",
      unbinding: "")
    started.withLock { $0 = cluster }
    return try body()
  }
  /// How many copies of a program that works in one process a launcher has started; nil if it is
  /// one, if they have joined (`start`), or if this is not the first of them.
  public static var idleCopies: Int? {
    let environment = ProcessInfo.processInfo.environment
    guard current.size == 1, environment["PISCES_MPI"] != "off",
      let launcher = Launcher(environment), launcher.rank == 0
    else { return nil }
    return launcher.size
  }
  private static func hostName() -> String {
    var name = [CChar](repeating: 0, count: 256)
    _ = unsafe name.withUnsafeMutableBufferPointer { unsafe gethostname($0.baseAddress!, 255) }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Bytes that this rank has sent so far.
  public var bytesSent: Int { size > 1 ? Int(pm_bytes_sent()) : 0 }

  /// The end of an orderly run, on every rank: waits for the last of them, which may write for
  /// long.
  public func end() {
    if size == 1 { return }
    activity = "ending"
    guard (try? barrier()) != nil else { return }
    _ = pm_end(30)
  }
  /// Ends every rank of a run that cannot go on, with this status.
  public func abort(_ status: Int32) -> Never {
    if size > 1 { pm_abort(status) }
    exit(status)
  }

  /// After how many seconds without a sign of life of another rank the run is taken for lost. Ranks
  /// give such signs while they compute, too.
  public var patience: Double {
    get { Self.patienceSeconds.withLock { $0 } }
    set {
      Self.patienceSeconds.withLock { $0 = newValue }
      if size > 1 { pm_patience(newValue) }
    }
  }
  private static let patienceSeconds = Mutex(300.0)
  /// What this rank is doing, for the message of a lost run.
  public var activity: String {
    get { Self.activityText.withLock { $0 } }
    set { Self.activityText.withLock { $0 = newValue } }
  }
  private static let activityText = Mutex("starting")
}

/// A fault of the cluster, or of another rank.
public struct ClusterError: Error, CustomStringConvertible, Sendable {
  /// Status 71: a process or link of the job is lost.
  public static let lost: Int32 = 71
  public let status: Int32
  let what, place, mend: String
  public var description: String { "\(what): \(place): \(mend)" }
}
