import ArgumentParser
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
      Most memory to keep features of videos and packed weights in, besides the file and one pair's \
      own (3G, 500M); default: a quarter of what is free.
      """
  ) var memory: String?
  @Option(
    in: .path,
    help: "Write which word went to which frames and patches, per pair, into this folder.")
  var explain: String?
  @Flag(help: "A damaged video is an error instead of being scored with a note.") var strict = false
  @Flag(help: "JSON Lines on standard output.") var json = false

  func validate() throws {
    if video.count != prompt.count {
      throw ValidationError(
        "\(video.count) --video and \(prompt.count) --prompt: give one prompt for each video")
    }
    if video.isEmpty && manifest == nil {
      throw ValidationError("give --video and --prompt, or --manifest")
    }
    _ = try bytes()
  }

  /// What may be kept; a quarter of the memory that is free, or 256 MiB if that is not known.
  private func bytes() throws -> Int {
    try memory.map { try ByteCount.parse($0, option: "memory") }
      ?? (FreeMemory.bytes() ?? 1 << 30) / 4
  }

  func run() async throws {
    try common.start()
    common.use(compute)
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
    (options.memory, options.plansMemory) = (try bytes(), json)
    var isChecked = false
    var scorer = try Scorer(folder, frames: frames, options)
    // All weights are read once, for values that are not finite, while the first pair is computed.
    let quiet = common.quiet
    let check = Task.detached { () -> UInt64? in
      try folder.check()
      return quiet ? nil : try folder.fingerprint()
    }
    var queue = try PairQueue(Array(zip(video, prompt)), manifest: manifest)
    var failed = 0
    while let item = try queue.next() {
      switch item {
      case .broken(let error):
        failed += 1
        show(ScoreRecord(nil, nil, .failed(error)))
      case .pair(let pair):
        let record = try await scorer.record(
          pair, next: queue.upcoming, returns: queue.returns(pair))
        if !isChecked {
          if let print = try await check.value {
            common.note("weights \(String(print, radix: 16))")
          }
          isChecked = true
        }
        if record.scores == nil { failed += 1 }
        for note in record.scores?.notes ?? [] { common.note("\(pair.video): \(note)") }
        show(record)
      }
    }
    if failed > 0 { throw Failure.Status(code: 4) }
  }
  private func show(_ record: ScoreRecord) {
    StandardStreams.result(json ? record.json.line : record.text)
  }
}
