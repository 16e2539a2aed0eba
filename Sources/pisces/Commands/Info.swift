import ArgumentParser
import Benchmarking
import Files
import FoundationEssentials
import Pipelines
import TensorRuntime

struct Info: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "CPU features, kernels chosen, libraries; with a path: a summary of that checkpoint.",
    discussion:
      """
      With a path (file, model folder, or generator directory) the fingerprint is computed, which \
      reads every byte once. `scoring_bytes` (reward models) is what scoring one pair takes beyond \
      the mapped weights, with nothing kept.
      """
  )
  @OptionGroup var common: CommonOptions
  @Argument(in: .path, help: "A checkpoint file, a model folder or a generator directory.")
  var path: String?
  @Flag(help: "JSON Lines on standard output.") var json = false

  func run() async throws {
    try common.start()
    if let path { try summarise(path) } else { describeMachine() }
  }

  private func describeMachine() {
    let budget = ThreadBudget(requested: common.threads)
    var o = Environment.json.object!
    o["command"] = nil
    o["thread_origin"] = .string(budget.origin)
    o["openmp"] = .array(LoadedLibraries.openMP.map { .string($0) })
    o["cpu_features"] = .array(Environment.cpuFeatures.map { .string($0) })
    o["affinity"] = .integer(Machine.affinity)
    o["cgroup_quota"] = ThreadBudget.quota.map { .integer($0) } ?? .null
    let rate = Machine.bf16Rate()
    o["bf16_rate"] = rate.map { .number($0) } ?? .null
    o["debug_build"] = .bool(Environment.isDebugBuild)
    if json { return StandardStreams.result(JSONValue.object(o).line) }
    let rows: [(String, String)] = [
      (
        "version",
        Version.text + (Machine.commit.map { " (\($0))" } ?? "")
          + (Environment.isDebugBuild ? " (debug build)" : "")
      ),
      ("processor", Environment.cpuModel),
      ("features", Environment.cpuFeatures.joined(separator: " ")),
      (
        "kernels",
        "\(Machine.current.rawValue)"
          + (Machine.current == Machine.detected
            ? "" : " (\(Machine.detected.rawValue) is there, lowered by PISCES_ISA)")
      ),
      (
        "bf16",
        rate.map {
          """
          \(Machine.hasAMX ? "products on AMX tiles" : "pairs"), \(Double(Int(100 * $0)) / 100) \
          times the rate of f32
          """
        } ?? "not multiplied here"
      ),
      ("openmp", LoadedLibraries.openMP.joined(separator: " ")),
      ("threads", "\(budget.count) (from \(budget.origin))"),
    ]
    for (name, value) in rows { StandardStreams.result("\(name.padded(to: 10)) \(value)") }
  }

  private func summarise(_ path: String) throws {
    for summary in try ModelSummary.of(path) {
      let scoring = summary.kind == .reward ? Scorer.workingBytes(summary.path) : nil
      if json {
        var record = summary.json.object!
        if let scoring { record["scoring_bytes"] = .integer(scoring) }
        StandardStreams.result(JSONValue.object(record).line)
        continue
      }
      StandardStreams.result("\(summary.path): \(summary.kind.rawValue)")
      StandardStreams.result(
        "  \(summary.tensors) tensors, \(summary.parameters) parameters, \(summary.bytes) bytes")
      StandardStreams.result(
        "  stored as "
          + summary.types.map { "\($0.name) (\($0.parameters))" }.joined(separator: ", "))
      if let config = summary.config { StandardStreams.result("  config \(config.line)") }
      StandardStreams.result("  fingerprint \(summary.fingerprint)")
      if let scoring {
        StandardStreams.result(
          "  scoring a pair takes \(scoring >> 20) MiB beyond the mapped weights")
      }
    }
  }
}

extension String {
  /// Padded with spaces at the end to at least `width` characters.
  func padded(to width: Int) -> String {
    self + String(repeating: " ", count: max(0, width - count))
  }
  /// Padded with spaces in front.
  func aligned(to width: Int) -> String {
    String(repeating: " ", count: max(0, width - count)) + self
  }
}
