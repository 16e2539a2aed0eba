import ArgumentParser
import Configuration
import Files
import FoundationEssentials
import Models
import Pipelines
import Pretraining
import Rewards
import TensorRuntime
import Training
import Transport
import World

/// What `train ot-map` can be told (algorithm.md 3).
struct OTMapSettings: TrainingSettings {
  var products = "f32"
  var seed = 0
  var steps = 160_000, batch = 128, inner = 10
  var learning_rate_map = 1e-4, learning_rate_potential = 1e-4, final_rate = 0.05
  var weight_decay = 1e-10, clip = 1.0, mse_weight = 1.0
  /// mean | sum
  var cost_reduction = "mean"
  var hidden_potential = 1024
  /// Train on text features scaled to unit length (the released recipe does not, D-10).
  var normalize_text = false
  var eval_every = 2000, checkpoint_every = 2000
  /// Training and held-out pairs taken from the world.
  var pairs = 6144, validation = 1024
  init() {}
}

struct TrainOTMap: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "ot-map", abstract: "The distributional Neural OT map from text features to video features.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var options: TrainingOptions
  @OptionGroup var clips: ClipOptions
  @Option(help: "Reward-model directory.") var reward: String
  @Option(help: "Features of `pisces embed` (text, video) instead of clips.") var features: String?

  func run() async throws {
    try common.start()
    let settings: OTMapSettings = try options.settings()
    if settings.cost_reduction != "mean" && settings.cost_reduction != "sum" { throw ConfigurationError("unknown cost_reduction \(settings.cost_reduction)", "cost_reduction", "use mean or sum") }
    let work = Workspace(), folder = try RewardFolder(reward, frames: clips.data == nil && features == nil ? clips.frames : nil)
    let (text, video, heldOut) = try await pairs(settings, folder, in: work)
    if text.shape[0] < settings.batch { throw FileError(.badData, "\(text.shape[0]) pairs for a batch of \(settings.batch)", in: clips.data ?? features ?? "world", mend: "lower batch, or give more clips") }
    var task = try OTMapTask(settings, folder, text: text, video: video, heldOut: heldOut, in: work)
    try await options.execute(&task, settings: settings, .init(checkpointEvery: settings.checkpoint_every, reportEvery: 50), common, in: work)
  }

  /// Features of training pairs and of held-out ones (the training ones again where there are no others).
  private func pairs(_ s: OTMapSettings, _ folder: RewardFolder, in work: borrowing Workspace) async throws -> (text: Tensor, video: Tensor, heldOut: (Tensor, Tensor)) {
    let model = try folder.reward()
    if let features {
      let file = try SafetensorsFile(features), t = work.converted(try file.tensor(named: "text"), to: .f32), v = work.converted(try file.tensor(named: "video"), to: .f32)
      return (t, v, (t, v))
    }
    let source = try await clips.source(seed: s.seed, common, in: work)
    func encode(_ source: ClipSource, _ indices: [Int]) -> (Tensor, Tensor) {
      var text: [Tensor] = [], video: [Tensor] = [], words = RandomStream(seed: UInt64(s.seed), .caption)
      for start in stride(from: 0, to: indices.count, by: 64) {
        let part = Array(indices[start..<min(start + 64, indices.count)])
        text.append(model.captions(source.captions(part, drawing: &words), in: work).feature)
        video.append(model.videos(source.clips(part, in: work), in: work).unit)
      }
      return (work.concatenated(text, axis: 0), work.concatenated(video, axis: 0))
    }
    if case .clips(let list, _) = source {
      let all = encode(source, Array(list.indices))
      return (all.0, all.1, all)
    }
    let train = encode(source, Array(0..<s.pairs)), held = encode(source, Array(s.pairs..<s.pairs + s.validation))
    return (train.0, train.1, held)
  }
}

/// Outer steps of the alternating training on fixed feature arrays.
struct OTMapTask: TrainingTask {
  let settings: OTMapSettings
  let batches: FeatureBatches
  let heldOut: (text: Tensor, video: Tensor)
  var trainer: NeuralMapTrainer

  init(_ s: OTMapSettings, _ folder: RewardFolder, text: Tensor, video: Tensor, heldOut: (Tensor, Tensor), in work: borrowing Workspace) throws {
    func input(_ t: Tensor) -> Tensor { s.normalize_text ? Rows.normalised(t, in: work).y : t }
    settings = s
    batches = FeatureBatches(text: input(text), video: video, batch: s.batch, seed: UInt64(s.seed))
    self.heldOut = (input(heldOut.0), heldOut.1)
    var o = NeuralMapTrainer.Options()
    (o.mapIterations, o.mseWeight, o.maxSteps, o.learningRateFloor) = (s.inner, s.mse_weight, s.steps, s.final_rate)
    (o.mapLearningRate, o.potentialLearningRate, o.weightDecay, o.clipping) = (s.learning_rate_map, s.learning_rate_potential, s.weight_decay, s.clip)
    o.costReduction = s.cost_reduction == "sum" ? .sum : .mean
    trainer = NeuralMapTrainer(o, dimension: folder.config.embedDim, mapHidden: folder.config.otMap.hiddenDim, potentialHidden: s.hidden_potential, seed: UInt64(s.seed), in: work)
  }
  var totalSteps: Int { settings.steps }

  mutating func step(_ step: Int, in work: borrowing Workspace) throws -> StepRecord {
    let r = try trainer.outerStep(batches, in: work)
    if !r.mapLoss.isFinite || !r.potentialLoss.isFinite { throw NonFinite("the loss", step: step) }
    var terms: [(name: String, value: Double)] = [
      ("map_loss", r.mapLoss), ("mse", r.mse), ("critic_score", r.criticScore), ("potential_loss", r.potentialLoss), ("potential_grad_norm", r.potentialGradientNorm),
    ]
    if (step + 1) % settings.eval_every == 0 || step + 1 == settings.steps {
      let mapped = trainer.map(heldOut.text, in: work), k = min(10, heldOut.text.shape[0] - 1)
      terms.append(("mknn_before", OTMapMetrics.mutualNeighbours(heldOut.text, heldOut.video, k: k, in: work)))
      terms.append(("mknn_after", OTMapMetrics.mutualNeighbours(mapped, heldOut.video, k: k, in: work)))
      terms.append(("struct_rho", OTMapMetrics.structurePreservation(heldOut.text, mapped, in: work)))
      let unit = Rows.normalised(mapped, in: work).y
      terms.append(("energy_distance_before", OTMapMetrics.energyDistance(Rows.normalised(heldOut.text, in: work).y, heldOut.video, in: work)))
      terms.append(("energy_distance_after", OTMapMetrics.energyDistance(unit, heldOut.video, in: work)))
    }
    return StepRecord(loss: r.mapLoss, terms: terms, gradientNorm: r.mapGradientNorm, learningRate: r.mapLearningRate, samples: settings.batch * (settings.inner + 1))
  }
  func state() -> TrainingState {
    var s = TrainingState()
    for t in trainer.state.tensors { s.tensors.append((t.name, t.value)) }
    for n in trainer.state.numbers { s.numbers[n.name] = .integer(n.value) }
    return s
  }
  mutating func restore(_ saved: inout SavedState, in work: borrowing Workspace) throws {
    var state = trainer.state
    for i in state.tensors.indices { state.tensors[i].value = try saved.tensor(state.tensors[i].name, like: state.tensors[i].value.shape, in: work) }
    for i in state.numbers.indices { state.numbers[i].value = try saved.integer(state.numbers[i].name) }
    try trainer.restore(state)
  }
  /// `ot_map.safetensors`, ready for the rewards, and the potential beside it.
  func export(to folder: String) throws {
    try createFolder(folder)
    try OTMapFile.write(trainer.map, normalizesText: settings.normalize_text, step: settings.steps, to: "\(folder)/ot_map.safetensors")
    try OTMapFile.write(trainer.potential, normalizesText: settings.normalize_text, step: settings.steps, to: "\(folder)/potential.safetensors")
  }
}
