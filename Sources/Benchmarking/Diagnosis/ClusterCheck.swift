import Cluster
public import TensorRuntime

/// Checks of ranks, their processors and their links.
public enum ClusterCheck {
  /// `isGood`: whether this rank has found everything else in order. Every rank calls this.
  public static func run(isGood: Bool, threads: Int, in work: borrowing Workspace) throws
    -> [Finding]
  {
    let cluster = Cluster.current
    if cluster.size == 1 { return [] }
    let rows = try cluster.gather([
      UInt64(isGood ? 1 : 0), UInt64(threads), UInt64(Machine.affinity),
    ]).map { $0.map { Int($0) } }
    var findings = [
      Finding("ranks", true, "\(cluster.size) on \(cluster.nodes.count) hosts, \(cluster.library)")
    ]
    for host in cluster.nodes {
      let local = (0..<cluster.size).filter { cluster.hosts[$0] == host }
      let list = local.map { "\($0): \(rows[$0][1]) on \(rows[$0][2])" }.joined(separator: ", ")
      let isCrowded = local.contains { rows[$0][1] > rows[$0][2] }
      findings.append(
        Finding(
          "host \(host)", !isCrowded,
          "threads on processors of rank \(list)"
            + (isCrowded ? ": start with \(cluster.unbinding)" : "")))
    }
    if let bad = rows.indices.first(where: { rows[$0][0] == 0 }), bad > 0 {
      findings.append(
        Finding(
          "rank \(bad)", false, "a check failed on \(cluster.hosts[bad]): run pisces doctor there"))
    }
    for link in try ClusterBenchmark.links(in: work) {
      let (a, b) = link.slowest.ranks
      let isSlow = link.slowest.bytesPerSecond < link.bytesPerSecond / 4
      func rate(_ x: Double) -> String { "\((x / 1e7).rounded() / 100) GB/s" }
      findings.append(
        Finding(
          "links, distance \(link.distance)", !isSlow,
          """
          \((link.latency * 1e7).rounded() / 10) us, \(rate(link.bytesPerSecond)) each way; slowest: \
          ranks \(a) (\(cluster.hosts[a])) and \(b) (\(cluster.hosts[b])), \
          \(rate(link.slowest.bytesPerSecond))
          """
            + (isSlow ? ": another interface? set OMPI_MCA_btl_tcp_if_include" : "")))
    }
    return findings
  }
}
