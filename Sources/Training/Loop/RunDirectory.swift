import Cluster
public import Files
import FoundationEssentials
import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// The folder of one training run (interfaces.md 10): configuration, environment, metrics, log,
/// checkpoints, samples.
public struct RunDirectory: Sendable {
  public let path: String
  let metrics: JSONLinesWriter
  let events: EventFile
  let checkpoints: CheckpointFolder

  /// Opens a run. A new run must not exist yet, a resumed one must. `configuration`, `environment`
  /// and `record` (the data, models and sizes of the run) are written once.
  public init(
    _ path: String, resuming: Bool, configuration: JSONValue, environment: JSONValue,
    record: JSONValue? = nil
  ) throws(FileError) {
    let exists = FileManager.default.fileExists(atPath: "\(path)/config.json")
    if resuming && !exists {
      throw FileError(
        .missingInput, "no run to resume", in: path, mend: "give the folder of an earlier run")
    }
    if !resuming && exists {
      throw FileError(
        .cannotCreate, "a run is there already", in: path,
        mend: "resume it with --resume, or choose another folder")
    }
    try createFolder(path)
    try createFolder("\(path)/checkpoints")
    try createFolder("\(path)/samples")
    if !resuming {
      try OutputFile.write(environment.pretty + "\n", to: "\(path)/environment.json")
      if let record { try OutputFile.write(record.pretty + "\n", to: "\(path)/run.json") }
      // The last: with it a run is there. What is killed before is begun again.
      try OutputFile.write(configuration.pretty + "\n", to: "\(path)/config.json")
    }
    self.path = path
    checkpoints = CheckpointFolder("\(path)/checkpoints")
    if resuming {
      let newest = checkpoints.steps.isEmpty ? nil : try checkpoints.latest()
      try Self.forgetMetrics("\(path)/metrics.jsonl", after: newest)
    }
    metrics = try JSONLinesWriter("\(path)/metrics.jsonl")
    events = try EventFile(in: path)
  }
  /// A run that was killed may have written metrics of steps after its last checkpoint. These steps
  /// are taken again, so their lines are removed.
  private static func forgetMetrics(_ file: String, after checkpoint: String?) throws(FileError) {
    guard TextFile.exists(file) else { return }
    let state = try checkpoint.map { path throws(FileError) in
      try JSONValue(contentsOf: "\(path)/state.json")
    }
    let step = state?["step"]?.integer ?? 0
    let lines = try TextFile.read(file).split(separator: "\n")
    let kept = lines.filter { line in
      ((try? JSONValue(parsing: String(line), name: file))?["step"]?.integer).map { $0 <= step }
        ?? false
    }
    if kept.count < lines.count { try OutputFile.write(kept.map { $0 + "\n" }.joined(), to: file) }
  }
  /// Throws, on all ranks, if one of them does not see the folder, into which all of them will
  /// write checkpoints. `directory` is the first rank's.
  static func checkShared(_ directory: RunDirectory?, _ cluster: Cluster) throws {
    if cluster.size == 1 { return }
    let path = String(
      decoding: try cluster.broadcast(Array((directory?.path ?? "").utf8)), as: UTF8.self)
    let sees: UInt64 = TextFile.exists("\(path)/config.json") ? 1 : 0
    guard let rank = try cluster.gather([sees]).firstIndex(where: { $0[0] == 0 }) else { return }
    throw FileError(
      .cannotCreate, "rank \(rank) on \(cluster.hosts[rank]) does not see the run's folder",
      in: path, mend: "put it on a file system that all hosts share")
  }
  public var samples: String { "\(path)/samples" }

  func record(
    _ step: Int, _ r: StepRecord, seconds: Double, peakBytes: Int, _ ranks: RankTimes
  ) throws(FileError) {
    var line = JSONObject()
    line["step"] = .integer(step + 1)
    line["loss"] = .number(r.loss)
    for (name, value) in r.terms { line[name] = .number(value) }
    line["grad_norm"] = .number(r.gradientNorm)
    line["learning_rate"] = .number(r.learningRate)
    line["seconds"] = .number(seconds)
    line["samples_per_second"] = .number(Double(r.samples) / max(seconds, 1e-9))
    line["peak_tensor_bytes"] = .integer(peakBytes)
    for (name, value) in ranks.fields { line[name] = value }
    try metrics.append(.object(line))
    let scalars =
      [("loss", r.loss), ("grad_norm", r.gradientNorm), ("learning_rate", r.learningRate)]
      + r.terms.map { ($0.name, $0.value) }
    try events.append(step: step + 1, scalars.map { (tag: $0.0, value: Float($0.1)) })
  }
  /// Writes a checkpoint through `body`, which is given its folder, and removes all but the newest
  /// `keeping`.
  func writeCheckpoint(step: Int, keeping: Int, _ body: (String) throws(FileError) -> Void)
    throws(FileError)
  {
    try checkpoints.write(step: step, body)
    for old in checkpoints.steps.sorted().dropLast(keeping) { checkpoints.remove(step: old) }
  }
  /// The folder of the newest checkpoint; nil for a run that was stopped before its first.
  func latest() throws(FileError) -> String? {
    checkpoints.steps.isEmpty ? nil : try checkpoints.latest()
  }
  /// A line that cannot be written is dropped: the record of a run is `metrics.jsonl`.
  func log(_ text: String) {
    try? TextFile.append(text + "\n", to: "\(path)/log.txt")
  }
}
