import ArgumentParser
import Benchmarking
import Cluster
import Files
import FoundationEssentials
import TensorRuntime

struct Doctor: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      """
      Self-test of kernels, threads, libraries and programs; with a model: its known-answer check.
      """,
    discussion: """
      Runs every family of kernels on every instruction set of this machine against the f64 \
      reference, and looks for the traps of a
      badly set-up system. With a model folder it loads the model strictly, runs it on a fixed \
      input, and prints a fingerprint
      of the outputs. Exit status 0 when all is well, 1 otherwise.
      """)
  @OptionGroup var common: CommonOptions
  @Argument(in: .path, help: "A model folder or a generator directory.") var model: String?
  @Flag(help: "JSON Lines on standard output.") var json = false

  func run() async throws {
    try common.startRanks()
    let budget = ThreadBudget(requested: common.threads)
    let threads = MachineCheck.Threads(
      count: budget.count, origin: budget.origin, quota: ThreadBudget.quota,
      environment: ProcessInfo.processInfo.environment)
    var isGood = true
    func report(_ findings: [Finding]) {
      for finding in findings {
        isGood = isGood && finding.isGood
        if !Cluster.current.isFirst { continue }
        if json {
          StandardStreams.result(
            JSONValue.object([
              "check": .string(finding.name), "ok": .bool(finding.isGood),
              "detail": .string(finding.detail),
            ]).line)
        } else {
          StandardStreams.result(
            "\(finding.isGood ? "ok  " : "FAIL") \(finding.name): \(finding.detail)")
        }
      }
    }
    report(KernelCheck.run())
    report(await MachineCheck.run(threads))
    if let model { report(try ModelCheck.run(model)) }
    report(try ClusterCheck.run(isGood: isGood, threads: budget.count, in: Workspace()))
    if !isGood { throw Failure.Status(code: 1) }
  }
}
