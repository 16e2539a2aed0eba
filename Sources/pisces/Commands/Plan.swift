import ArgumentParser
import Benchmarking
import Files
import FoundationEssentials
import TensorRuntime

struct Plan: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "What a training run takes on 1 to many nodes, one rank each.",
    discussion:
      """
      Run a few steps with one process and the threads of a node, then give its folder with --run. \
      Or give --config or --set of a run of any size with --rates: its step is run without its \
      arithmetic. Rates of the links come from `pisces bench cluster --json` under the launcher, \
      or from --gbit and --latency.
      """)
  @OptionGroup var common: CommonOptions
  @Option(in: .path, help: "Folder of a run of one process, of two steps or more.") var run: String?
  @OptionGroup var sizes: PlanSizes
  @Option(in: .text, help: "Numbers of nodes, one rank each, separated by commas.")
  var nodes = "1,2,4,8,16,32,64,128,256"
  @Option(in: .path, help: "Output of `pisces bench cluster --json`.") var links: String?
  @Option(in: .real(0.001...100_000), help: "Without --links: Gbit/s of a link, each way.")
  var gbit = 10.0
  @Option(in: .real(0...1e9), help: "Without --links: microseconds of a message.")
  var latency = 50.0
  @Option(in: .real(0.001...1000), help: "GB/s that the file system takes.") var fileRate = 1.0
  @Flag(help: "JSON Lines on standard output.") var json = false

  func run() async throws {
    try common.start()
    let list = try nodes.split(separator: ",").map { text in
      guard let n = Int(text), n > 0 else {
        throw ValidationError("--nodes is \(nodes): give whole numbers, separated by commas")
      }
      return n
    }
    if (run == nil) != sizes.areGiven {
      throw ValidationError("give --run FOLDER, or --config FILE or --set KEY=VALUE")
    }
    let points = try run.map { try ofRun($0, list) } ?? ofSizes(list)
    let layouts = points.compactMap(\.1)
    for point in layouts { show(point) }
    if let best = layouts.filter({ $0.efficiency >= 0.8 }).max(by: { $0.nodes < $1.nodes }),
      best.nodes > 1
    {
      common.note("\(best.nodes) nodes still work at 80 % of their speed or more")
    }
  }

  private func ofRun(_ run: String, _ nodes: [Int]) throws -> [(Int, ScalingPlan.Point?)] {
    let plan = try measured(run)
    for n in nodes where plan[n] == nil {
      common.note(
        "\(n) nodes for the \(plan.leaves) parts of a step: raise accumulation to use them")
    }
    return nodes.map { ($0, plan[$0]) }
  }
  private func ofSizes(_ nodes: [Int]) throws -> [(Int, ScalingPlan.Point?)] {
    let (points, frozen, sharesRows) = try sizes.points(
      nodes, network(), file: fileRate * 1e9)
    for (n, point) in points where point == nil {
      common.note(
        sharesRows
          ? "\(n) nodes are no multiple of the group that they would need"
          : "\(n) nodes are more than the parts of a step: raise accumulation to use them")
    }
    common.note(
      """
      the weights of frozen networks, \(MemoryBudget.text(frozen)) in bf16, come on top, once a host
      """
    )
    return points
  }

  /// The figures of the run: the median of its steps but the first.
  private func measured(_ run: String) throws -> ScalingPlan {
    func missing(_ what: String) -> FileError {
      FileError(
        .badData, what, in: run, mend: "give a run of one process with at least two steps")
    }
    let settings = try JSONValue(contentsOf: "\(run)/config.json")
    let steps = try JSONLines.read("\(run)/metrics.jsonl").map(\.value)
    if steps.contains(where: { $0["ranks"] != nil }) { throw missing("a run of several ranks") }
    let seconds = steps.dropFirst().compactMap { $0["seconds"]?.number }.sorted()
    guard !seconds.isEmpty, let parts = settings["accumulation"]?.integer else {
      throw missing("no step after the first, or nothing to share out")
    }
    let leaves = parts / max(settings["cluster"]?["leaf"]?.integer ?? 1, 1)
    let newest = try CheckpointFolder("\(run)/checkpoints").latest()
    let file = "\(newest)/state.safetensors"
    let state = try WeightTable(opening: file)
    let trained = state.names.filter { $0.hasPrefix("optimizer.first.") }
    let counts = trained.map { state.entry($0)?.shape.reduce(1, *) ?? 0 }
    let moment = settings["moments"]?.string == "bf16" ? 2 : 4
    let isRounded = settings["parameters"]?.string == "bf16"
    func blocks(_ bytes: Int) -> Int {
      counts.reduce(0) { $0 + BufferPool.blockBytes(bytes * $1) }
    }
    let size = try FileManager.default.attributesOfItem(atPath: file)[.size] as? Int ?? 0
    let (delay, rate) = try network()
    var plan = ScalingPlan(
      seconds: seconds[seconds.count / 2], leaves: leaves,
      parameters: counts.reduce(0, +),
      peakBytes: steps.compactMap { $0["peak_tensor_bytes"]?.integer }.max() ?? 0,
      gradientBytes: blocks(4),
      sharedBytes: 2 * blocks(moment) + (isRounded ? blocks(4) : 0), checkpointBytes: size,
      latency: delay, bytesPerSecond: rate,
      memoryRate: MachineRates.measure().bytes, fileRate: fileRate * 1e9)
    plan.parameterBytes = isRounded ? 2 : 4
    plan.sendsEarly = settings["cluster"]?["sums"] == "early"
    return plan
  }
  /// Seconds of a message, and bytes a second of a link.
  private func network() throws -> (latency: Double, link: Double) {
    guard let links else { return (latency * 1e-6, gbit * 1e9 / 8) }
    let rows = try JSONLines.read(links).map(\.value).filter { $0["bench"]?.string == "link" }
    guard let slow = rows.compactMap({ $0["bytes_per_second"]?.number }).min(),
      let late = rows.compactMap({ $0["latency_seconds"]?.number }).max()
    else {
      throw FileError(
        .badData, "no links in it", in: links, mend: "write it with pisces bench cluster --json")
    }
    return (late, slow)
  }
  private func show(_ p: ScalingPlan.Point) {
    if json {
      let o: JSONObject = [
        "nodes": .integer(p.nodes), "group": .integer(p.group), "seconds": .number(p.seconds),
        "compute_seconds": .number(p.compute), "exchange_seconds": .number(p.exchange),
        "bytes_sent": .integer(p.bytesSent), "efficiency": .number(p.efficiency),
        "peak_tensor_bytes": .integer(p.peakBytes),
        "checkpoint_seconds": .number(p.checkpointSeconds),
        "checkpoint_interval_seconds": .number(p.checkpointInterval),
        "notice_seconds": .number(p.notice),
      ]
      return StandardStreams.result(JSONValue.object(o).line)
    }
    func short(_ x: Double) -> String {
      x >= 100 ? "\(Int(x.rounded()))" : "\((x * 1000).rounded() / 1000)"
    }
    let layout =
      "\(p.nodes) node\(p.nodes == 1 ? "" : "s")"
      + (p.group == 1 ? "" : " in groups of \(p.group)")
    StandardStreams.result(
      """
      \(layout): \(short(p.seconds)) s a step (\(short(p.compute)) computing, \
      \(short(p.exchange)) exchanging), \(Int((100 * p.efficiency).rounded())) %, \
      \(p.bytesSent >> 20) MiB sent and \(p.peakBytes >> 20) MiB of tensors a rank; checkpoint \
      \(short(p.checkpointSeconds)) s, best every \(short(p.checkpointInterval / 60)) min, \
      --signal at least \(short(p.notice.rounded(.up))) s before the limit
      """)
  }
}
