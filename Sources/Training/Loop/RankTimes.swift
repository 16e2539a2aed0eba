import Cluster
import Files
import TensorRuntime

/// What all ranks know of a step: whether one of them shall stop, and how long each has computed
/// and waited. Waiting for the slowest makes all ranks equally slow, so what counts is the time
/// without it.
struct RankTimes {
  let stops: Bool
  /// Behind the fields of one process, in `metrics.jsonl`; none with one rank.
  private(set) var fields: [(name: String, value: JSONValue)] = []

  /// `seconds` of this rank's step, of which it has `waited` for others. Every rank calls this.
  init(seconds: Double, waited: Double, stops: Bool, _ cluster: Cluster) throws {
    let rows = try cluster.gather([
      stops ? 1 : 0, seconds - waited, waited, Double(ProcessMemory.peak),
      Double(cluster.bytesSent),
    ])
    self.stops = rows.contains { $0[0] > 0 }
    if cluster.size == 1 { return }
    let computed = rows.map { $0[1] }
    let slowest = computed.indices.max { computed[$0] < computed[$1] }!
    func median(_ x: [Double]) -> Double { x.sorted()[x.count / 2] }
    fields = [
      ("ranks", .integer(cluster.size)),
      ("seconds_compute_median", .number(median(computed))),
      ("seconds_compute_max", .number(computed[slowest])),
      ("slowest_rank", .integer(slowest)), ("slowest_node", .string(cluster.hosts[slowest])),
      ("seconds_waited", .number(median(rows.map { $0[2] }))),
      ("bytes_sent", .integer(Int(rows.reduce(0) { $0 + $1[4] }))),
      ("peak_bytes_max", .integer(Int(rows.map { $0[3] }.max()!))),
    ]
  }
}
