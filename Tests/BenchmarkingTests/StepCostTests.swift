import Diffusion
import Layers
import Models
import PostTraining
import TensorRuntime
import TestSupport
import Testing

@testable import Benchmarking

/// Plans of steps, against steps that are taken.
@Suite(.serialized) struct StepCostTests {
  enum Family: String, CaseIterable, Sendable { case transformer, unet }
  private static let frames = 5, latentShape = [3, 2, 4, 4]
  private static func sizes(_ family: Family) -> ModelSizes {
    var sizes: ModelSizes
    switch family {
    case .transformer:
      var transformer = SmallModels.transformer
      transformer.numAttentionHeads = 4
      sizes = ModelSizes(.transformer(transformer, SmallModels.autoencoder), .flow(shift: 7))
    case .unet:
      sizes = ModelSizes(
        .unet(SmallModels.unet, SmallModels.imageAutoencoder, nil), .diffusion(.init()))
    }
    sizes.reward = SmallModels.videoText
    (sizes.reward.otMap.inputDim, sizes.reward.otMap.outputDim) = (6, 6)
    sizes.reward.otMap.hiddenDim = 8
    sizes.words = 5
    return sizes
  }
  private static func settings(_ accumulation: Int, _ sizes: ModelSizes) -> PostSettings {
    var s = PostSettings.published(for: sizes.process)
    (s.batch, s.accumulation, s.lora.rank, s.steps) = (1, accumulation, 2, 1)
    return s
  }
  private static func latents(_ family: Family) -> [Int] {
    family == .transformer ? latentShape : [4, frames, 4, 4]
  }
  private func cost(_ accumulation: Int, ranks: Int, _ family: Family = .transformer) throws
    -> StepCost?
  {
    let sizes = Self.sizes(family)
    return try StepCost(
      sizes, Self.settings(accumulation, sizes), frames: Self.frames,
      latentShape: Self.latents(family), ranks: ranks)
  }

  /// The operations of a plan are those that the same step carries out.
  @Test(arguments: Family.allCases) func operationsAreThoseOfAStep(_ family: Family) throws {
    let work = Workspace()
    let sizes = Self.sizes(family)
    let s = Self.settings(1, sizes)
    let random = ParameterSource.random(seed: 1)
    var count = 0
    let source = ParameterSource { name, shape, _, need in
      if need == .optional { return nil }
      count += shape.count
      return try random(name, shape, .normal(deviation: 0.1)).value
    }
    let planned = try #require(try cost(1, ranks: 1, family))
    func step<Model: VideoDenoiser>(_ teacher: Model) throws {
      let models = try sizes.models(teacher, s, frames: Self.frames, from: source)
      let latents = Self.latents(family)
      let pool = LatentPool(
        latents: randomTensor(Shape([1] + latents), seed: 2, type: .f32),
        captions: ["a a a a a"])
      var task = try DirectTask(
        s, models: models, pool: pool, captions: [], latentShape: latents,
        components: { _ in }, in: work)
      let before = OperationCount.total
      _ = try task.step(0, in: work)
      #expect(planned.operations.values.reduce(0, +) == OperationCount.total - before)
      #expect(
        planned.parameters == task.student.trainableParameters().reduce(0) { $0 + $1.value.count })
    }
    try step(try sizes.denoiser(from: source))
    #expect(OperationCount.Kind.allCases.allSatisfy { planned.operations[$0, default: 0] > 0 })
    #expect(planned.frozenBytes == 2 * count && planned.bytes > 0)
    #expect(planned.sampleTraffic.bytes == 0 && planned.stepTraffic.bytes == 0)
  }
  /// Ranks share the parts of a step, but no part of a network that is not cut into strips.
  @Test func shortVideoOverRanks() throws {
    let one = try #require(try cost(2, ranks: 1, .unet))
    let two = try #require(try cost(2, ranks: 2, .unet))
    #expect([one.leaves, two.leaves] == [2, 1] && two.stepTraffic.bytes > 0)
    #expect(try cost(2, ranks: 4, .unet) == nil)
  }
  /// Groups where there are more ranks than leaves: q, k, v, o and their gradients cross, each
  /// block has a part of the rows, and the halves of a group swap rewards and teacher.
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
    // One rank of two decodes both strips of two latent rows, each with a row of the other.
    let (whole, shared) = (two.operations[.convolution]!, four.operations[.convolution, default: 0])
    #expect(shared == 0 || (whole..<2 * whole).contains(shared))
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
