import ArgumentParser
import Cluster
import Files
import FoundationEssentials
import Models
import Pipelines
import Rewards
import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

struct Score: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Quality and semantic reward of video/prompt pairs.",
    discussion:
      """
      One record a pair, in input order, as soon as it is known. `quality` and `semantic` use \
      transport, `vanilla_*` do not.
      """
  )
  @OptionGroup var common: CommonOptions
  @Option(in: .path, help: "Reward-model directory.") var model: String
  @Option(parsing: .singleValue, in: .path, help: "A video; one --prompt for each.") var video:
    [String] = []
  @Option(parsing: .singleValue, in: .text, help: "The prompt of the video before it.") var prompt:
    [String] = []
  @Option(
    in: .path,
    help:
      """
      JSON Lines of {"video": PATH, "prompt": TEXT}, paths relative to the file; - reads standard \
      input, line by line.
      """
  ) var manifest: String?
  @Option(in: .path, help: "OT map, overriding the model's own.") var otMap: String?
  @Option(in: .frames, help: "Frames sampled from each video.") var frames = 8
  @Option(
    in: .choice(["f32", "bf16"]),
    help: "bf16 keeps weights of f32 in half the memory; f32, the default: as stored.")
  var dtype: WeightType?
  @Option(
    in: .choice(ComputeChoice.self),
    help:
      """
      Type to which operands of products are rounded; sums stay f32. bf16 moves scores by up to \
      0.02; auto takes it where this processor multiplies it no slower.
      """
  ) var compute = ComputeChoice.f32
  @Option(
    in: .text,
    help:
      """
      Most memory to keep features of videos and packed weights in, besides the file and one \
      pair's own (3G, 500M); default: a quarter of what is free.
      """
  ) var memory: String?
  @Option(
    in: .path,
    help: "Write which word went to which frames and patches, per pair, into this folder.")
  var explain: String?
  @Flag(help: "A damaged video is an error instead of being scored with a note.") var strict = false
  @Flag(help: "JSON Lines on standard output.") var json = false
  @Option(in: .path, help: "Write the records into this file, as JSON Lines.") var output: String?
  @Flag(help: "Keep the records that --output has already, and go on behind them.")
  var resume = false
  @Option(in: .text, help: "\(ShardOption.help)") var shard: String?

  func validate() throws {
    if video.count != prompt.count {
      throw ValidationError(
        "\(video.count) --video and \(prompt.count) --prompt: give one prompt for each video")
    }
    if video.isEmpty && manifest == nil {
      throw ValidationError("give --video and --prompt, or --manifest")
    }
    if resume && output == nil { throw ValidationError("--resume needs --output") }
    if let shard { _ = try ShardOption.parse(shard) }
    _ = try MemoryBudget.kept(memory)
  }

  func run() async throws {
    // Tasks of a job that have parts of their own need no MPI.
    if shard == nil { try common.startRanks() } else { try common.start(isPart: true) }
    common.use(compute)
    let share = try ShardOption.share(shard)
    if Cluster.current.size > 1 && manifest == "-" {
      throw ValidationError("ranks cannot share standard input: give --manifest a file")
    }
    let folder = try RewardFolder(model, otMap: otMap, frames: frames, check: .later)
    if !folder.unexpected.isEmpty {
      common.note(
        """
        ignored \(folder.unexpected.count) tensors the rewards do not know, first \
        \(folder.unexpected[0])
        """
      )
    }
    if folder.map == nil { common.note("no OT map: quality is null") }
    var options = Scorer.Options()
    (options.storage, options.explain, options.strict) = (
      dtype == .bf16 ? .bf16 : nil, explain, strict
    )
    (options.memory, options.plansMemory) = (try MemoryBudget.kept(memory), json)
    var worker = Worker(
      scorer: try Scorer(folder, frames: frames, options), common: common,
      numbersItems: shard != nil)
    // All weights are read once, for values that are not finite, while the first pair is computed.
    let quiet = common.quiet
    worker.check = Task.detached { () -> UInt64? in
      try folder.check()
      return quiet ? nil : try folder.fingerprint()
    }
    let queue = try PairQueue(Array(zip(video, prompt)), manifest: manifest, share: share)
    let failed =
      try await Cluster.current.isFirst
      ? write(&worker, queue, share) : compute(&worker, queue)
    if failed > 0 { throw Failure.Status(code: 4) }
  }

  /// Writes the records in order: those of this share as they are computed, those of other ranks as
  /// they come. Returns how many pairs had no score.
  private func write(_ worker: inout Worker, _ own: PairQueue, _ share: PairQueue.Share)
    async throws -> Int
  {
    let cluster = Cluster.current
    var own = own
    let output = try ScoreOutput(output, resuming: resume, isJSON: json)
    _ = try cluster.broadcast(Array("\(output.kept)".utf8))
    var failed = output.keptFailures
    func put(_ lines: Lines) throws {
      for note in lines.notes { common.note(note) }
      if lines.hasFailed { failed += 1 }
      try output.write(lines.record)
    }
    if cluster.size == 1 {
      var position = 0
      while let item = try own.next() {
        defer { position += 1 }
        try output.check(position, item)
        if position >= output.kept { try put(await worker.lines(item, own, output.isJSON)) }
      }
      try output.check(position, nil)
      return failed
    }
    // One pass over all items says whose turn it is.
    var all = try PairQueue(
      Array(zip(video, prompt)), manifest: manifest, share: share, everything: true)
    while let item = try all.next() {
      try output.check(all.number, item)
      let mine = all.owner == 0 ? try own.next() : nil
      if all.number < output.kept { continue }
      if let mine {
        try put(await worker.lines(mine, own, output.isJSON))
      } else {
        try put(Lines(try cluster.receive(from: all.owner)))
      }
    }
    try output.check(all.itemCount, nil)
    return failed
  }
  /// Computes the records of a rank's share and sends them to the first one.
  private func compute(_ worker: inout Worker, _ own: PairQueue) async throws -> Int {
    let cluster = Cluster.current
    var own = own
    let kept = Int(String(decoding: try cluster.broadcast([]), as: UTF8.self)) ?? 0
    let outbox = Outbox(cluster)
    // What is wrong with the manifest is said by the first rank, behind the records before it.
    while let item = try? own.next() {
      if own.number < kept { continue }
      outbox.send(try await worker.lines(item, own, json || output != nil).bytes, to: 0)
    }
    try outbox.finish()
    return 0
  }

  /// What a record prints: its line, and notes.
  private struct Lines {
    let record: String, hasFailed: Bool, notes: [String]
    init(_ record: String, hasFailed: Bool, notes: [String]) {
      (self.record, self.hasFailed, self.notes) = (record, hasFailed, notes)
    }
    /// As it travels: a JSON array of the three.
    var bytes: [UInt8] {
      let notes = JSONValue.array(notes.map { .string($0) })
      return Array(JSONValue.array([.string(record), .bool(hasFailed), notes]).line.utf8)
    }
    init(_ bytes: [UInt8]) throws {
      let parts = try JSONValue(parsing: bytes, name: "another rank").array ?? []
      self.init(
        parts[0].string ?? "", hasFailed: parts[1].bool ?? true,
        notes: (parts[2].array ?? []).compactMap(\.string))
    }
  }
  private struct Worker {
    var scorer: Scorer
    let common: CommonOptions
    /// Whether records say which item of the whole they are, for putting shards together.
    let numbersItems: Bool
    /// Looks at all weights; nil once it has ended.
    var check: Task<UInt64?, any Error>?

    init(scorer: consuming Scorer, common: CommonOptions, numbersItems: Bool) {
      (self.scorer, self.common, self.numbersItems) = (scorer, common, numbersItems)
    }
    mutating func lines(_ item: PairQueue.Item, _ queue: PairQueue, _ isJSON: Bool) async throws
      -> Lines
    {
      let record: ScoreRecord
      var notes: [String] = []
      switch item {
      case .broken(let error): record = ScoreRecord(nil, nil, .failed(error))
      case .pair(let pair):
        record = try await scorer.record(
          pair, number: queue.number, next: queue.upcoming, returns: queue.returns(pair))
        if let print = try await check?.value {
          common.note("weights \(String(print, radix: 16))")
        }
        check = nil
        notes = (record.scores?.notes ?? []).map { "\(pair.video): \($0)" }
      }
      var json = record.json.object ?? JSONObject()
      if numbersItems { json["item"] = .integer(queue.number) }
      return Lines(
        isJSON ? JSONValue.object(json).line : record.text, hasFailed: record.scores == nil,
        notes: notes)
    }
  }
}
