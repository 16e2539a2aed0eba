import ArgumentParser
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
    try common.start()
    var settings: PostSettings = try options.settings(common)
    let inputs = try options.inputs("post", common)
    let clips = try clips.settled(inputs)
    let model = try inputs.required("model", model)
    let reward = try inputs.path("reward", reward)
    let otMap = try inputs.path("ot-map", otMap)
    let watch = try inputs.path("watch", watch)
    if let objective, inputs.isResumed, objective != settings.objective {
      throw Failure.Message(
        64,
        "--objective is \(objective.rawValue), the run was made with \(settings.objective.rawValue)",
        inputs.run,
        "leave --objective out, or start a new run with --run")
    }
    if let objective { settings.objective = objective }
    try settings.check(hasRewardModel: reward != nil)
    let work = Workspace()
    let folder = GeneratorFolder(model)
    let transformer = try folder.transformer()
    let config = try folder.autoencoderConfig()
    try config.check(
      frames: clips.frames, height: clips.size, width: clips.size, patch: transformer.config.patch)
    let frames = settings.vae.chunk_latents > 0 ? nil : clips.frames
    var rewardModel: RewardModel?
    if let reward, settings.weights.quality > 0 || settings.weights.semantic > 0 {
      let opened = try RewardFolder(reward, otMap: otMap, frames: frames)
      if settings.reward.use_ot && settings.weights.quality > 0 && opened.map == nil {
        throw ConfigurationError(
          "the quality reward with OT needs an OT map", reward,
          "give --ot-map FILE, or set reward.use_ot to false")
      }
      rewardModel = try opened.reward(settings.rewardOptions)
    }
    var decoder = LatentDecoder(
      try folder.decoder(), scalingFactor: config.scalingFactor, chunk: settings.vae.chunk_latents,
      checkpointing: settings.vae.activation_checkpointing)
    if settings.vae.tiling {
      decoder.tiling = settings.vae.tiling_style == .diffusers ? .diffusers() : .original()
    }
    let models = PostModels(
      teacher: transformer, decoder: decoder, reward: rewardModel,
      prompts: try folder.promptEncoder())
    let source = try await clips.source(seed: settings.seed, common, in: work)
    let shape = Array(
      config.latentShape(batch: 1, frames: clips.frames, height: clips.size, width: clips.size)
        .dropFirst())
    if case .clips(_, let captions) = source {
      common.noteCut(captions) {
        models.prompts.truncation(of: $0) ?? rewardModel?.truncation(of: $0)
      }
    }
    if stopWhenHacking && watch == nil {
      throw ValidationError("--stop-when-hacking needs --watch")
    }
    if watch != nil && rewardModel == nil {
      throw ConfigurationError(
        "no reward to watch", "weights", "leave --watch out, or switch a reward on")
    }
    if watch != nil && settings.watch.every == 0 {
      throw ConfigurationError(
        "a watch that never looks", "watch.every", "give a number of steps, or leave --watch out")
    }
    var heldOut: RewardModel?
    if let watch {
      let opened = try RewardFolder(watch, frames: frames)
      var options = settings.rewardOptions
      if opened.map == nil { options.useTransport = false }
      heldOut = try opened.reward(options)
    }
    let chosen = settings
    let stops = stopWhenHacking
    func watched<T: PostTask>(
      _ make: (borrowing Workspace) throws -> T, loop: TrainingLoop.Options,
      in work: borrowing Workspace
    ) async throws {
      guard let heldOut else {
        try options.plan(make, in: work)
        var task = try make(work)
        return try await options.execute(&task, settings: chosen, inputs, loop, common, in: work)
      }
      // Prompts of the world, or of the clips, which differ from those of own samples.
      var words = RandomStream(seed: UInt64(chosen.seed), .caption, step: 1)
      let captions = source.captions(
        Array(2_000_000..<2_000_000 + chosen.watch.prompts), drawing: &words)
      func makeWatched(_ work: borrowing Workspace) throws -> WatchedTask<T> {
        let watch = HackingWatch(
          chosen, models: models, heldOut: heldOut, captions: captions, latentShape: shape, in: work
        )
        return WatchedTask(
          try make(work), watch, every: chosen.watch.every, stopsWhenHacking: stops)
      }
      try options.plan(makeWatched, in: work)
      var task = try makeWatched(work)
      try await options.execute(&task, settings: chosen, inputs, loop, common, in: work)
    }
    let path = model
    let components: @Sendable (String) throws -> Void = {
      try PipelineComponents.copy(from: path, to: $0)
    }
    let loop = TrainingLoop.Options(
      checkpointEvery: settings.checkpoint_every, sampleEvery: settings.sample_every, reportEvery: 5
    )
    if settings.objective == .grpo {
      try await watched(
        { work in
          let (pool, captions) = try data(chosen, source, folder, config, in: work)
          return try GRPOTask(
            chosen, models: models, pool: pool, captions: captions, latentShape: shape,
            components: components, in: work)
        }, loop: loop, in: work)
    } else {
      try await watched(
        { work in
          let (pool, captions) = try data(chosen, source, folder, config, in: work)
          return try DirectTask(
            chosen, models: models, pool: pool, captions: captions, latentShape: shape,
            components: components, in: work)
        }, loop: loop, in: work)
    }
  }

  /// Data latents with their captions, or the captions for own samples.
  private func data(
    _ s: PostSettings, _ source: ClipSource, _ folder: GeneratorFolder, _ config: AutoencoderConfig,
    in work: borrowing Workspace
  ) throws -> (LatentPool?, [String]) {
    var words = RandomStream(seed: UInt64(s.seed), .caption)
    var count = s.clips
    if case .clips(let list, _) = source { count = list.count }
    let distils = s.grpo.use_cd && s.weights.consistency > 0
    if s.objective == .grpo ? s.grpo.mode == .rollout && !distils : s.post.latents == .`self` {
      let n = if case .clips(let list, _) = source { list.count } else { s.post.pool }
      return (nil, source.captions(Array(0..<n), drawing: &words))
    }
    let latents = source.latents(
      count, of: try folder.encoder(), times: config.scalingFactor, atOnce: 32, in: work)
    let captions = source.captions(Array(0..<count), drawing: &words)
    return (LatentPool(latents: latents, captions: captions), captions)
  }
}
