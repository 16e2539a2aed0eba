import ArgumentParser
import Benchmarking
import Cluster
import Files
import TensorRuntime

struct BenchCluster: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cluster",
    abstract: "Links between ranks, and the sums and updates of a step; under mpirun or srun.",
    discussion: "The updated parameters are compared with those of one process, to the bit.")
  @OptionGroup var common: CommonOptions
  @Flag(help: "JSON Lines on standard output.") var json = false

  func run() async throws {
    try common.startRanks()
    let cluster = Cluster.current
    if cluster.size == 1 {
      throw ValidationError("one process has no links: start several with mpirun or srun")
    }
    let work = Workspace()
    for link in try ClusterBenchmark.links(in: work) {
      show([
        "bench": "link", "ranks": .integer(cluster.size), "hosts": .integer(cluster.nodes.count),
        "distance": .integer(link.distance), "latency_seconds": .number(link.latency),
        "bytes_per_second": .number(link.bytesPerSecond),
        "slowest": .array([.integer(link.slowest.ranks.0), .integer(link.slowest.ranks.1)]),
        "slowest_bytes_per_second": .number(link.slowest.bytesPerSecond),
      ])
    }
    var isVerified = true
    for shift in [18, 22, 24] {
      let step = try ClusterBenchmark.step(of: 1 << shift, in: work)
      isVerified = isVerified && step.isVerified
      show([
        "bench": "step", "ranks": .integer(cluster.size), "hosts": .integer(cluster.nodes.count),
        "parameters": .integer(1 << shift), "sum_seconds": .number(step.sum),
        "update_seconds": .number(step.update), "verified": .bool(step.isVerified),
      ])
    }
    if !isVerified { throw Failure.Status(code: 1) }
  }
  private func show(_ record: JSONObject) {
    if !Cluster.current.isFirst { return }
    if json {
      let all = record.members + Environment.origin
      var object = JSONObject()
      for (key, value) in all { object[key] = value }
      return StandardStreams.result(JSONValue.object(object).line)
    }
    StandardStreams.result(
      record.members.map { "\($0.key) \($0.value.string ?? $0.value.line)" }.joined(separator: "  ")
    )
  }
}
