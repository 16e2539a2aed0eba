import ArgumentParser
import Cluster
import Evaluation
import Diffusion
import Files
import FoundationEssentials
import Layers
import Models
import Pipelines
import PostTraining
import Rewards
import TensorRuntime
import Training
import Transport
import World

struct Evaluate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Held-out evaluation: oracle of the built-in world, reward means, OT-map metrics.",
    discussion:
      """
      Give a generator (--model), an autoencoder (--vae) or a reward model (--reward); with \
      --model and --reward both, rewards of the samples too.
      """
  )
  @OptionGroup var common: CommonOptions
  @OptionGroup var sampling: SamplingOptions
  @Option(in: .path, help: "Generator directory.") var model: String?
  @Option(in: .path, help: "Autoencoder directory: the oracle on reconstructions.") var vae: String?
  @Option(in: .path, help: "Reward-model directory.") var reward: String?
  @Option(in: .path, help: "OT map, overriding the reward model's own.") var otMap: String?
  @Option(in: .real(above: 0, to: 1), help: "With --reward: marginal exponent of token transport.")
  var mass = 0.9
  @Option(in: .weight, help: "With --reward: weight of the temporal distance in token transport.")
  var gamma = 0.2
  @Option(in: .weight, help: "With --reward: weight of the spatial distance in token transport.")
  var eta = 0.2
  @Option(in: .whole(1...1_000_000), help: "Held-out prompts or clips.") var prompts = 256
  @Flag(
    help:
      """
      With --model: prompts of combinations that training has seen, to compare with the held-out \
      ones.
      """
  ) var seenPrompts = false
  @Option(
    in: .whole(1...10_000),
    help:
      """
      With --model: samples of each prompt, from different noise; they follow each other in \
      --details.
      """
  ) var repeats = 1
  @OptionGroup var world: WorldOption
  @Option(
    in: .path,
    help:
      """
      With --model: also write one JSON line per prompt, what the oracle saw and the rewards, to \
      this file.
      """
  ) var details: String?
  @Flag(help: "JSON Lines on standard output.") var json = false

  func run() async throws {
    try common.startRanks()
    common.use(sampling.compute)
    if model == nil && vae == nil && reward == nil {
      throw ValidationError("give --model, --vae or --reward")
    }
    if details != nil && model == nil { throw ValidationError("--details needs --model") }
    if repeats > 1 && model == nil { throw ValidationError("--repeats needs --model") }
    let work = Workspace()
    if let vae { try evaluateAutoencoder(vae, in: work) }
    let rewardModel = try reward.map {
      var o = RewardOptions()
      (o.plans.marginalExponent, o.plans.gamma, o.plans.eta) = (mass, gamma, eta)
      return try RewardFolder($0, otMap: otMap, frames: sampling.frames).reward(o)
    }
    if let model {
      try evaluateGenerator(model, rewardModel, in: work)
    } else if let rewardModel {
      evaluateMatching(rewardModel, in: work)
    }
  }

  private var oracle: Oracle { Oracle(world.kind.scenes) }
  private var sampler: SceneSampler {
    SceneSampler(world.kind.scenes, seed: UInt64(sampling.seed))
  }
  private var renderer: Renderer {
    Renderer(Canvas(height: sampling.height, width: sampling.width, frames: sampling.frames))
  }

  private func evaluateAutoencoder(_ path: String, in work: borrowing Workspace) throws {
    let folder = AutoencoderFolder(path)
    try folder.geometry().check(
      frames: sampling.frames, height: sampling.height, width: sampling.width)
    let e = ReconstructionEvaluation(
      try folder.encoder(), try folder.decoder(), sampler, renderer, oracle: oracle,
      count: prompts, in: work)
    show(
      ["evaluated": "vae", "clips": .integer(prompts), "psnr": .number(e.psnr)], e.scoreboard)
  }
  private func evaluateGenerator(
    _ path: String, _ reward: RewardModel?, in work: borrowing Workspace
  ) throws {
    let folder = GeneratorFolder(path)
    let generator = try sampling.open(folder)
    let encoder = try sampling.prompts(folder, generator)
    let distinct =
      seenPrompts
      ? sampler.trainingPrompts(count: prompts) : sampler.heldOutPrompts(count: prompts)
    let list = distinct.flatMap { Array(repeating: $0, count: repeats) }
    try sampling.plan(generator, atOnce: min(list.count, 32), in: work) {
      encoder($0, in: $1)
    }
    let e = try GeneratorEvaluation(
      generator, encoder, on: list, oracle: oracle, reward: reward, seed: UInt64(sampling.seed),
      in: work)
    var o: JSONObject = [
      "evaluated": "generator", "prompts": .integer(prompts),
      "samples_per_prompt": .integer(repeats), "guidance": .number(generator.sampler.guidanceScale),
      "steps": .integer(generator.sampler.steps),
    ]
    if let r = e.rewards {
      func mean(_ x: [Double]) -> JSONValue { .number(x.reduce(0, +) / Double(max(x.count, 1))) }
      o["reward_quality"] = r.quality.map(mean) ?? .null
      o["reward_semantic"] = mean(r.semantic)
      o["vanilla_quality"] = mean(r.vanillaQuality)
      o["vanilla_semantic"] = mean(r.vanillaSemantic)
    }
    if let details, Cluster.current.isFirst {
      try OutputFile.write(
        e.captions.indices.map { Self.detail(e, $0).line + "\n" }.joined(), to: details)
    }
    show(o, e.scoreboard)
  }
  private func evaluateMatching(_ reward: RewardModel, in work: borrowing Workspace) {
    let e = MatchingEvaluation(
      reward, sampler, renderer, count: prompts, seed: UInt64(sampling.seed), in: work)
    for (name, s) in [("partial_ot", e.withTransport), ("plain", e.plain)] {
      show([
        "evaluated": "matching", "attention": .string(name), "clips": .integer(prompts),
        "positives_right": .number(s.positives), "shuffled_right": .number(s.shuffled),
        "swapped_right": .number(s.swapped), "auc_shuffled": .number(s.aucShuffled),
        "auc_swapped": .number(s.aucSwapped),
      ])
    }
  }
  private static func detail(_ e: GeneratorEvaluation, _ i: Int) -> JSONValue {
    let j = e.judgements[i]
    var o: JSONObject = [
      "prompt": .string(e.captions[i]), "semantic": .number(j.semantic),
      "all_right": .bool(j.isAllRight),
    ]
    o["seen"] = .array(
      e.readings[i].objects.map { .string("\($0.size) \($0.colour) \($0.shape) \($0.motion)") })
    for d in Judgement.Dimension.allCases { if let v = j[d] { o["\(d)"] = .number(v) } }
    for d in Quality.Dimension.allCases { o["\(d)"] = .number(j.quality[d]) }
    if let r = e.rewards {
      o["reward_quality"] = r.quality.map { .number($0[i]) } ?? .null
      o["reward_semantic"] = .number(r.semantic[i])
      o["vanilla_quality"] = .number(r.vanillaQuality[i])
      o["vanilla_semantic"] = .number(r.vanillaSemantic[i])
    }
    return .object(o)
  }
  /// Prints the fields of a result, and every measure of the scoreboard.
  private func show(_ fields: JSONObject, _ board: Scoreboard? = nil) {
    if !Cluster.current.isFirst { return }
    var o = fields
    for m in Measure.allCases { if let v = board?[m] { o["\(m)"] = .number(v) } }
    if json { return StandardStreams.result(JSONValue.object(o).line) }
    func text(_ value: JSONValue) -> String {
      value.number.map { "\(($0 * 10000).rounded() / 10000)" } ?? value.string ?? value.line
    }
    StandardStreams.result(o.members.map { "\($0) \(text($1))" }.joined(separator: "  "))
  }
}
