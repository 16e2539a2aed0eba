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
  @Option(in: .choice(["f32", "bf16"]), help: "Storage of the weights; arithmetic is f32.")
  var dtype: WeightType?
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
  }

  func run() async throws {
    try common.start()
    let folder = try RewardFolder(model, otMap: otMap, frames: frames)
    if !folder.unexpected.isEmpty {
      common.note(
        """
        ignored \(folder.unexpected.count) tensors the rewards do not know, first \
        \(folder.unexpected[0])
        """
      )
    }
    common.note(
      """
      weights \
      \(String(folder.fingerprint, radix: 16))\(folder.map == nil ? ", no OT map: quality is null" : "")
      """
    )
    var scorer = try Scorer(
      folder, frames: frames, storage: dtype == .bf16 ? .bf16 : nil, explain: explain,
      strict: strict)
    var failed = 0
    func one(_ video: String, in folder: String = ".", _ prompt: String) async throws {
      let record = try await scorer.record(video, in: folder, prompt)
      if record.scores == nil { failed += 1 }
      for note in record.scores?.notes ?? [] { common.note("\(video): \(note)") }
      show(record)
    }
    for (v, p) in zip(video, prompt) { try await one(v, p) }
    if let manifest {
      var pairs = try PairReader(manifest)
      while true {
        do {
          guard let (video, prompt) = try pairs.next() else { break }
          try await one(video, in: pairs.folder, prompt)
        } catch let error as FileError where error.kind == .badData && !pairs.isOver {
          failed += 1
          show(ScoreRecord(nil, nil, .failed(error.description)))
        }
      }
    }
    if failed > 0 { throw Failure.Status(code: 4) }
  }
  private func show(_ record: ScoreRecord) {
    StandardStreams.result(json ? record.json.line : record.text)
  }
}
