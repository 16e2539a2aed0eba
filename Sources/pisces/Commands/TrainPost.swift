import ArgumentParser
import Cluster
import Diffusion
import Files
import FoundationEssentials
import Models
import Pipelines
import PostTraining
import Rewards
import TensorRuntime
import Training
import Transport
import World

struct TrainPost: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "post",
    abstract: "Post-training on both rewards: direct back-propagation (default) or GRPO.",
    discussion:
      """
      The defaults are the published recipe: data latents, all 50 levels, consistency, both \
      rewards with weight 1, LoRA.
      """
  )
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: TrainingOptions
  @OptionGroup var clips: ClipOptions
  @Option(in: .path, help: "Generator directory: student and teacher start from it.") var model:
    String?
  @Option(in: .path, help: "Reward-model directory.") var reward: String?
  @Option(in: .path, help: "OT map, overriding the reward model's own.") var otMap: String?
  @Option(
    in: .path,
    help:
      """
      Reward-model directory of another seed that the run is not trained on: its rewards are \
      watched (watch.every), and hacking is told.
      """
  )
  var watch: String?
  @Flag(
    help: "With --watch: write a checkpoint and stop (status 75) when the rewards are being hacked."
  ) var stopWhenHacking = false
  @Option(in: .choice(PostSettings.Objective.self), help: "Overrides the run file.")
  var objective: PostSettings.Objective?

  func run() async throws {
    try common.startRanks()
    let inputs = try options.inputs("post", common)
    let clips = try clips.settled(inputs)
    let paths = try Paths(
      model: inputs.required("model", model), reward: inputs.path("reward", reward),
      otMap: inputs.path("ot-map", otMap), watch: inputs.path("watch", watch))
    let process = try GeneratorFolder(paths.model).process()
    var settings: PostSettings = try options.settings(
      common, over: PostSettings.published(for: process))
    try override(&settings, inputs)
    try settings.check(hasRewardModel: paths.reward != nil)
    try settings.check(for: process)
    Cluster.current.patience = settings.cluster.patience
    if let note = RankGroups.note(group: settings.cluster.group) { common.note(note) }
    let teacher = try GeneratorFolder(paths.model).denoiser()
    try await train(teacher, process, paths, settings, inputs, clips)
  }
  private func train<Model: VideoDenoiser>(
    _ teacher: Model, _ process: GenerativeProcess, _ paths: Paths, _ settings: PostSettings,
    _ inputs: RunInputs, _ clips: SettledClips
  ) async throws {
    let work = try options.workspace()
    let run = try await open(teacher, process, paths, settings, clips, in: work)
    let loop = TrainingLoop.Options(
      checkpointEvery: settings.checkpoint_every, sampleEvery: settings.sample_every, reportEvery: 5
    )
    func execute<T: PostTask<Model>>(_ type: T.Type) async throws {
      func make(_ work: borrowing Workspace) throws -> T { try run.task(type, in: work) }
      func makeWatched(_ work: borrowing Workspace) throws -> WatchedTask<T> {
        try run.watched(type, stopsWhenHacking: stopWhenHacking, in: work)
      }
      if run.heldOut == nil {
        try options.plan(make, in: work)
        var task = try make(work)
        try await options.execute(&task, settings: settings, inputs, loop, common, in: work)
      } else {
        try options.plan(makeWatched, in: work)
        var task = try makeWatched(work)
        try await options.execute(&task, settings: settings, inputs, loop, common, in: work)
      }
    }
    try await execute(settings.objective.task(for: Model.self))
  }

  /// The directories of the run.
  private struct Paths { let model: String, reward, otMap, watch: String? }

  /// `--objective`, which a resumed run does not change.
  private func override(_ settings: inout PostSettings, _ inputs: RunInputs) throws {
    guard let objective else { return }
    if inputs.isResumed, objective != settings.objective {
      throw Failure.Message(
        64,
        "--objective is \(objective.rawValue), the run was made with \(settings.objective.rawValue)",
        inputs.run,
        "leave --objective out, or start a new run with --run")
    }
    settings.objective = objective
  }

  /// Opens models and clips. Refuses what does not fit together.
  private func open<Model: VideoDenoiser>(
    _ teacher: Model, _ process: GenerativeProcess, _ paths: Paths, _ settings: PostSettings,
    _ clips: SettledClips, in work: borrowing Workspace
  ) async throws -> PostRun<Model> {
    let folder = GeneratorFolder(paths.model)
    let decoder = try decoder(folder, settings)
    try decoder.geometry.check(
      frames: clips.frames, height: clips.size, width: clips.size, patch: teacher.latentDivisors)
    let frames =
      settings.vae.chunk_latents > 0
      ? nil
      : settings.rewardFrames(
        of: clips.frames, decodesSingleFrames: decoder.decodesSingleFrames)
    let reward = try openReward(paths, settings, frames: frames)
    let models = PostModels(
      teacher: teacher, process: process, decoder: decoder, reward: reward,
      prompts: try folder.promptEncoder())
    let source = try await clips.source(seed: settings.seed, common, in: work)
    if case .clips(_, let captions) = source {
      common.noteCut(captions) { models.prompts.truncation(of: $0) ?? reward?.truncation(of: $0) }
    }
    try checkWatch(paths, settings, isRewarded: reward != nil)
    let shape = decoder.geometry.latentShape(
      batch: 1, frames: clips.frames, height: clips.size, width: clips.size)
    return PostRun(
      settings: settings, folder: folder, models: models,
      heldOut: try paths.watch.map { try openHeldOut($0, settings, frames: frames) },
      source: source, latentShape: Array(shape.dropFirst()))
  }
  /// The rewards of the run; nil if their weights are 0.
  private func openReward(_ paths: Paths, _ settings: PostSettings, frames: Int?) throws
    -> RewardModel?
  {
    guard let reward = paths.reward, settings.weights.quality > 0 || settings.weights.semantic > 0
    else { return nil }
    let opened = try RewardFolder(reward, otMap: paths.otMap, frames: frames)
    if settings.reward.use_ot && settings.weights.quality > 0 && opened.map == nil {
      throw ConfigurationError(
        "the quality reward with OT needs an OT map", reward,
        "give --ot-map FILE, or set reward.use_ot to false")
    }
    return try opened.reward(settings.rewardOptions)
  }
  /// The rewards that are watched: without transport, if their directory has no map.
  private func openHeldOut(_ path: String, _ settings: PostSettings, frames: Int?) throws
    -> RewardModel
  {
    let opened = try RewardFolder(path, frames: frames)
    var options = settings.rewardOptions
    if opened.map == nil { options.useTransport = false }
    return try opened.reward(options)
  }
  private func decoder(_ folder: GeneratorFolder, _ settings: PostSettings) throws
    -> LatentDecoder
  {
    var decoder = try folder.autoencoder.decoder(
      chunk: settings.vae.chunk_latents, checkpointing: settings.vae.activation_checkpointing)
    if settings.vae.tiling {
      decoder.tiling = settings.vae.tiling_style == .diffusers ? .diffusers() : .original()
    }
    return decoder
  }
  private func checkWatch(_ paths: Paths, _ settings: PostSettings, isRewarded: Bool) throws {
    if stopWhenHacking && paths.watch == nil {
      throw ValidationError("--stop-when-hacking needs --watch")
    }
    if paths.watch != nil && !isRewarded {
      throw ConfigurationError(
        "no reward to watch", "weights", "leave --watch out, or switch a reward on")
    }
    if paths.watch != nil && settings.watch.every == 0 {
      throw ConfigurationError(
        "a watch that never looks", "watch.every", "give a number of steps, or leave --watch out")
    }
  }
}

/// A post-training run whose models and clips are open.
private struct PostRun<Model: VideoDenoiser> {
  let settings: PostSettings
  let folder: GeneratorFolder
  let models: PostModels<Model>
  /// The rewards that are watched; nil without a watch.
  let heldOut: RewardModel?
  let source: ClipSource
  /// `[C, n, h, w]`.
  let latentShape: [Int]

  func task<T: PostTask<Model>>(_: T.Type, in work: borrowing Workspace) throws -> T {
    let (pool, captions) = try data(in: work)
    let path = folder.path
    return try T(
      settings, models: models, pool: pool, captions: captions, latentShape: latentShape,
      components: { try PipelineComponents.copy(from: path, to: $0) }, in: work)
  }
  /// The same with the watch on `heldOut`.
  func watched<T: PostTask<Model>>(
    _ type: T.Type, stopsWhenHacking: Bool, in work: borrowing Workspace
  ) throws -> WatchedTask<T> {
    // Prompts of the world, or of the clips, which differ from those of own samples.
    var words = RandomStream(seed: UInt64(settings.seed), .caption, step: 1)
    let captions = source.captions(
      Array(2_000_000..<2_000_000 + settings.watch.prompts), drawing: &words)
    let watch = try HackingWatch(
      settings, models: models, heldOut: heldOut!, captions: captions, latentShape: latentShape,
      in: work)
    return WatchedTask(
      try task(type, in: work), watch, every: settings.watch.every,
      stopsWhenHacking: stopsWhenHacking)
  }

  /// Data latents with their captions, or the captions for own samples.
  private func data(in work: borrowing Workspace) throws -> (LatentPool?, [String]) {
    let s = settings
    var words = RandomStream(seed: UInt64(s.seed), .caption)
    var count = s.clips
    if case .clips(let list, _) = source { count = list.count }
    let distils = s.grpo.use_cd && s.weights.consistency > 0
    if s.objective == .grpo ? s.grpo.mode == .rollout && !distils : s.post.latents == .`self` {
      let n = if case .clips(let list, _) = source { list.count } else { s.post.pool }
      return (nil, source.captions(Array(0..<n), drawing: &words))
    }
    let latents = try source.latents(
      count, of: folder.autoencoder.encoder(), times: models.decoder.scalingFactor, atOnce: 32,
      isShared: true, in: work)
    let captions = source.captions(Array(0..<count), drawing: &words)
    return (LatentPool(latents: latents, captions: captions), captions)
  }
}
