import ArgumentParser
import Files
import FoundationEssentials
import Models
import Pipelines
import Rewards
import TensorRuntime
import Training
import Transport
import World

struct TrainOTMap: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ot-map",
    abstract: "The distributional Neural OT map from text features to video features.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: TrainingOptions
  @OptionGroup var clips: ClipOptions
  @Option(in: .path, help: "Reward-model directory.") var reward: String?
  @Option(in: .path, help: "Features of `pisces embed` (text, video) instead of clips.")
  var features: String?

  func run() async throws {
    try common.startRanks()
    let settings: OTMapSettings = try options.settings(common)
    let inputs = try options.inputs("ot-map", common)
    let clips = try clips.settled(inputs)
    let reward = try inputs.required("reward", reward)
    let features = try inputs.path("features", features)
    let work = try options.workspace()
    let folder = try RewardFolder(
      reward, frames: clips.data == nil && features == nil ? clips.frames : nil)
    let (text, video, heldOut) = try await pairs(
      settings, folder, clips, features, common, in: work)
    try settings.check(pairs: text.shape[0], place: clips.data ?? features ?? "pairs")
    func make(_ work: borrowing Workspace) throws -> OTMapTask {
      try OTMapTask(settings, folder.config, text: text, video: video, heldOut: heldOut, in: work)
    }
    try options.plan(make, in: work)
    var task = try make(work)
    try await options.execute(
      &task, settings: settings, inputs,
      .init(checkpointEvery: settings.checkpoint_every, reportEvery: 50), common, in: work)
  }

  /// Features of training pairs and of held-out pairs (the training pairs if there are no others).
  private func pairs(
    _ s: OTMapSettings, _ folder: RewardFolder, _ clips: SettledClips, _ features: String?,
    _ common: CommonOptions, in work: borrowing Workspace
  ) async throws -> (text: Tensor, video: Tensor, heldOut: (Tensor, Tensor)) {
    let model = try folder.reward()
    if let features {
      let file = try SafetensorsFile(features)
      let t = work.converted(try file.tensor(named: "text"), to: .f32)
      let v = work.converted(try file.tensor(named: "video"), to: .f32)
      guard t.shape == v.shape, t.shape.rank == 2, t.shape[1] == folder.config.embedDim,
        t.shape[0] > 1
      else {
        throw FileError(
          .badData,
          """
          text has shape \(t.shape) and video \(v.shape), not both [2 or more, \
          \(folder.config.embedDim)]
          """,
          in: features,
          mend: "make the features with pisces embed --reward and this reward model")
      }
      guard work.isFinite(t), work.isFinite(v) else {
        throw FileError(
          .badData, "a feature is not finite", in: features, mend: "make the features again")
      }
      return (t, v, (t, v))
    }
    let source = try await clips.source(seed: s.seed, common, in: work)
    let features = (s.pairs + s.validation) * 2 * folder.config.embedDim * 4
    if clips.data == nil {
      try MemoryBudget.check(2 * features, common, "pairs", mend: "lower pairs or validation")
    }
    func encode(_ source: ClipSource, _ indices: [Int]) -> (Tensor, Tensor) {
      var text: [Tensor] = []
      var video: [Tensor] = []
      var words = RandomStream(seed: UInt64(s.seed), .caption)
      for start in stride(from: 0, to: indices.count, by: 64) {
        let part = Array(indices[start..<min(start + 64, indices.count)])
        text.append(model.captions(source.captions(part, drawing: &words), in: work).feature)
        video.append(model.videos(source.clips(part, in: work), in: work).unit)
      }
      return (work.concatenated(text, axis: 0), work.concatenated(video, axis: 0))
    }
    if case .clips(let list, let captions) = source {
      if list.count < 2 {
        throw FileError(
          .badData, "one clip is no distribution", in: clips.data ?? "",
          mend: "give two clips or more")
      }
      common.noteCut(captions) { model.truncation(of: $0) }
      let all = encode(source, Array(list.indices))
      return (all.0, all.1, all)
    }
    let train = encode(source, Array(0..<s.pairs))
    let held = encode(source, Array(s.pairs..<s.pairs + s.validation))
    return (train.0, train.1, held)
  }
}
