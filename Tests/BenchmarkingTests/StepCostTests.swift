import Layers
import Models
import Pipelines
import PostTraining
import Rewards
import TensorRuntime
import TestSupport
import Testing
import Transport

@testable import Benchmarking

/// Plans of steps, against steps that are taken.
@Suite(.serialized) struct StepCostTests {
  private static let frames = 5, latentShape = [3, 2, 4, 4]
  private static func sizes() -> ModelSizes {
    var sizes = ModelSizes()
    (sizes.transformer, sizes.autoencoder) = (SmallModels.transformer, SmallModels.autoencoder)
    sizes.transformer.numAttentionHeads = 4
    sizes.reward = SmallModels.videoText
    (sizes.reward.otMap.inputDim, sizes.reward.otMap.outputDim) = (6, 6)
    sizes.reward.otMap.hiddenDim = 8
    sizes.words = 5
    return sizes
  }
  private static func settings(_ accumulation: Int) -> PostSettings {
    var s = PostSettings()
    (s.batch, s.accumulation, s.lora.rank, s.steps) = (1, accumulation, 2, 1)
    return s
  }
  private func cost(_ accumulation: Int, ranks: Int) throws -> StepCost? {
    try StepCost(
      Self.sizes(), Self.settings(accumulation), frames: Self.frames,
      latentShape: Self.latentShape, ranks: ranks)
  }

  /// The operations of a plan are those that the same step carries out.
  @Test func operationsAreThoseOfAStep() throws {
    let work = Workspace()
    let (s, sizes) = (Self.settings(1), Self.sizes())
    var (models, bytes) = try sizes.models(s, frames: Self.frames, in: BufferPool())
    let random = ParameterSource.random(seed: 1)
    func fill(_ model: inout some Layer) throws {
      try model.forEachParameter { p in
        p.value = try random(p.name, p.value.shape, .normal(deviation: 0.1)).value
      }
    }
    try fill(&models.teacher)
    var decoder = try AutoencoderDecoder(sizes.autoencoder, from: random)
    try fill(&decoder)
    models.decoder = LatentDecoder(.clips(decoder))
    var video = sizes.reward
    video.visionEncoder.numFrames = Self.frames
    let map = try NeuralMap(.init(input: 6, hidden: 8, output: 6), from: random)
    models.reward = try RewardModel(
      try VideoTextModel(video, from: random), tokenizer: models.reward?.tokenizer,
      map: { map($0, in: $1) }, options: s.rewardOptions)
    models.prompts = PromptEncoder(
      encoder: models.reward!.model.text, tokenizer: models.reward!.tokenizer!, maxLength: 5)
    let pool = LatentPool(
      latents: randomTensor(Shape([1] + Self.latentShape), seed: 2, type: .f32),
      captions: ["a a a a a"])
    var task = try DirectTask(
      s, models: models, pool: pool, captions: [], latentShape: Self.latentShape,
      components: { _ in }, in: work)
    let before = OperationCount.total
    _ = try task.step(0, in: work)
    let planned = try #require(try cost(1, ranks: 1))
    #expect(planned.operations.values.reduce(0, +) == OperationCount.total - before)
    #expect(OperationCount.Kind.allCases.allSatisfy { planned.operations[$0, default: 0] > 0 })
    #expect(planned.frozenBytes == bytes && planned.bytes > 0)
    #expect(planned.sampleTraffic.bytes == 0 && planned.stepTraffic.bytes == 0)
    bytes = task.student.trainableParameters().reduce(0) { $0 + $1.value.count }
    #expect(planned.parameters == bytes)
  }
  /// Groups where there are more ranks than leaves: q, k, v, o and their gradients cross, each block
  /// has a part of the rows, and the halves of a group swap rewards and teacher.
  @Test func groupsShareALeaf() throws {
    let one = try #require(try cost(2, ranks: 1))
    let two = try #require(try cost(2, ranks: 2))
    let four = try #require(try cost(2, ranks: 4))
    #expect([one.group, two.group, four.group] == [1, 1, 2])
    #expect([one.leaves, two.leaves, four.leaves] == [2, 1, 1])
    // The caption is encoded for the rewards once, in the first of two leaves.
    for kind in OperationCount.Kind.allCases {
      let (less, more) = (one.operations[kind, default: 0], two.operations[kind, default: 0])
      #expect(less <= more && Double(more) < 1.1 * Double(less), "\(kind)")
    }
    #expect(two.sampleTraffic.bytes == 0 && two.stepTraffic.bytes > 0)
    #expect(four.operations[.product]! < two.operations[.product]!)
    #expect([0, two.operations[.convolution]!].contains(four.operations[.convolution, default: 0]))
    // The student's passes: two blocks of width 32, 4 image rows here and 4 there, one of them with
    // 5 words. Latents' rows of the velocity; what the halves swap: a gradient of the velocity and
    // two numbers. The rest is a slice of the gradients, about half of them.
    let latent = Self.latentShape.reduce(1, *)
    let slices = [(own: 4, other: 9), (own: 9, other: 4)].map { rows in
      let (toHeads, toRows) = (rows.own * 32 / 2, rows.other * 32 / 2)
      let student = 2 * (3 * toHeads + toRows) + 2 * (toHeads + 3 * toRows)
      let rest = four.sampleTraffic.bytes - 4 * (student + latent / 2) - (4 * latent + 2 * 8)
      return rest / 4
    }
    #expect(slices.contains { abs(2 * $0 - four.parameters) <= four.parameters / 4 }, "\(slices)")
    #expect(try cost(2, ranks: 5) == nil)
  }
}
