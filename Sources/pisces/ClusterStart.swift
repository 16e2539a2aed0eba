import Cluster
import FoundationEssentials
import TensorRuntime

/// What the ranks of a run find out about each other before any work.
enum ClusterStart {
  /// Takes the least instruction set of all ranks, on which bits depend. Refuses other versions of
  /// the program. Warns of threads without processors of their own.
  static func agree(_ common: CommonOptions) throws {
    let cluster = Cluster.current
    if cluster.size == 1 { return }
    let sets = Machine.InstructionSet.allCases
    let rows = try cluster.gather([
      UInt64(sets.firstIndex(of: Machine.current)!), UInt64(Machine.threads),
      UInt64(Machine.affinity),
    ]).map { $0.map { Int($0) } }
    let least = sets[rows.map { $0[0] }.min()!]
    if least != Machine.current || rows.contains(where: { $0[0] != rows[0][0] }) {
      Machine.limit(to: least)
      common.note("\(least.rawValue) kernels on all ranks: not all of them have more")
    }
    try same("\(Version.text) \(Machine.commit ?? "")", what: "version of the program", "pisces")
    let nodes = cluster.nodes.count
    common.note(
      """
      \(cluster.size) ranks on \(nodes) host\(nodes == 1 ? "" : "s"), \(cluster.library)
      """)
    warnOfBinding(rows.map { (threads: $0[1], processors: $0[2]) }, cluster, common)
  }
  private static func warnOfBinding(
    _ ranks: [(threads: Int, processors: Int)], _ cluster: Cluster, _ common: CommonOptions
  ) {
    if let r = ranks.indices.first(where: { ranks[$0].threads > ranks[$0].processors }) {
      common.note(
        """
        warning: rank \(r) (\(cluster.hosts[r])) has \(ranks[r].threads) threads on \
        \(ranks[r].processors) processor\(ranks[r].processors == 1 ? "" : "s"): start with \
        \(cluster.unbinding)
        """)
    }
    for host in cluster.nodes {
      let local = ranks.indices.filter { cluster.hosts[$0] == host }
      let wanted = local.reduce(0) { $0 + ranks[$1].threads }
      let most = local.map { ranks[$0].processors }.max()!
      let total =
        local.allSatisfy { ranks[$0].processors == most }
        ? ProcessInfo.processInfo.processorCount : local.reduce(0) { $0 + ranks[$1].processors }
      if host == cluster.host && wanted > max(total, most) {
        common.note(
          """
          warning: the \(local.count) ranks on \(host) have \(wanted) threads for \
          \(max(total, most)) processors: give --threads \(max(max(total, most) / local.count, 1))
          """)
        return
      }
    }
  }
  /// Refuses a text that differs between ranks.
  static func same(_ text: String, what: String, _ place: String) throws {
    let cluster = Cluster.current
    if cluster.size == 1 { return }
    let all = try cluster.gather(bytes: Array(text.utf8))
    if let other = all.firstIndex(where: { $0 != all[0] }) {
      throw Disagreement(
        message: Failure.Message(
          64,
          """
          another \(what) on rank \(other) (\(cluster.hosts[other])) than on rank 0 \
          (\(cluster.hosts[0]))
          """, place, "start every rank alike"))
    }
  }
  /// A message that every rank has, and that the first one says.
  struct Disagreement: Error { let message: Failure.Message }

  /// The choice of all ranks: f32 where one of them is not faster with another type.
  static func common(
    _ mine: (taken: Machine.ComputeType, rate: Double?)
  ) -> (Machine.ComputeType, Double?) {
    let cluster = Cluster.current
    if cluster.size == 1 { return mine }
    let all = (try? cluster.gather([mine.taken == .bf16 ? 1 : 0 as UInt64])) ?? []
    let taken: Machine.ComputeType = all.allSatisfy { $0[0] == 1 } && !all.isEmpty ? .bf16 : .f32
    Machine.setProductType(taken)
    return (taken, mine.rate)
  }
}
