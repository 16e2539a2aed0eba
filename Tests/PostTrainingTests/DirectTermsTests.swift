import Diffusion
import Layers
import Models
import Pipelines
import Rewards
import TensorRuntime
import TestSupport
import Testing

@testable import PostTraining

/// Terms of the direct step that no golden case has.
@Suite struct DirectTermsTests {
  private static let shape = Shape(3, 3, 2, 4, 4)

  private static func transformer(_ seed: UInt64, type: ElementType = .f64) throws
    -> VideoTransformer
  {
    var c = TransformerConfig()
    (
      c.inChannels, c.outChannels, c.numAttentionHeads, c.attentionHeadDim, c.numLayers,
      c.numSingleLayers, c.numRefinerLayers, c.mlpRatio
    ) = (3, 3, 2, 8, 1, 1, 1, 2)
    (c.textEmbedDim, c.pooledProjectionDim, c.ropeAxesDim, c.guidanceEmbeds) = (
      5, 4, [4, 2, 2], false
    )
    return try VideoTransformer(
      c, from: type == .f64 ? noisySource(seed: seed) : .random(seed: seed))
  }
  private static func decoder(_ type: ElementType) throws -> LatentDecoder {
    var c = AutoencoderConfig()
    (
      c.latentChannels, c.blockOutChannels, c.layersPerBlock, c.normNumGroups,
      c.spatialCompressionRatio
    ) = (3, [4, 4, 4], 1, 2, 4)
    return LatentDecoder(
      .clips(try AutoencoderDecoder(c, from: .random(seed: 5, type: type))), scalingFactor: 0.7)
  }
  private static func batch(
    _ type: ElementType, captions: CaptionBatch? = nil, in work: borrowing Workspace
  ) -> DirectStep.Batch {
    func random(_ s: Shape, _ seed: UInt64) -> Tensor {
      work.converted(randomTensor(s, seed: seed), to: type)
    }
    return DirectStep.Batch(
      latents: random(shape, 1), noise: random(shape, 2), indices: [3, 20, 40],
      prompt: PromptEmbedding(
        states: random(Shape(3, 3, 5), 3), counts: [3, 2, 3], pooled: random(Shape(3, 4), 4)),
      captions: captions)
  }

  /// Flow matching beside the anchor, along random directions through every third parameter.
  @Test func flowMatching() throws {
    let work = Workspace()
    let base = try Self.transformer(11)
    let teacher = try Self.transformer(12)
    let decoder = try Self.decoder(.f64)
    let batch = Self.batch(.f64, in: work)
    var step = DirectStep(NoiseSchedule(shift: 3))
    (step.options.consistencyWeight, step.options.flowWeight, step.options.anchorWeight) = (
      0, 0.7, 0.3
    )
    func run(_ model: VideoTransformer) -> (DirectStep.Output, VideoTransformer) {
      var student = model
      var d = decoder
      var none: RewardModel?
      student.makeTrainable(in: work)
      return (
        step.run(student: &student, teacher: teacher, decoder: &d, reward: &none, batch, in: work),
        student
      )
    }
    let (out, trained) = run(base)
    // By definition: mean (v - (ε - z))².
    let difference = work.difference(out.output, work.difference(batch.noise, batch.latents))
    #expect(abs(out.flowLoss! - work.sumOfSquares(difference) / Double(difference.count)) < 1e-12)
    #expect(abs(out.loss - 0.7 * out.flowLoss! - 0.3 * out.anchorLoss!) < 1e-12)
    for (k, p) in trained.trainableParameters().enumerated() where k % 3 == 0 {
      let u = randomTensor(p.value.shape, seed: 300 + UInt64(k))
      let analytic = work.dot(p.gradient!, u)
      let h = 1e-3
      func at(_ t: Double) -> Double {
        var moved = base
        moved.forEachParameter { q in
          if q.name == p.name { q.value = work.combine(1, q.value, t, u) }
        }
        return run(moved).0.loss
      }
      let numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
      #expect(
        abs(analytic - numeric) <= 1e-6
          * (1e-3 + abs(numeric) + work.sumOfSquares(p.gradient!).squareRoot()),
        "\(p.name): \(analytic), \(numeric)")
    }
  }

  /// Three accumulated steps of one sample give the loss and the gradient of one step of three. The
  /// padding of the shorter prompt stays.
  @Test func accumulationIsOneBatch() throws {
    let work = Workspace()
    let (base, teacher) = (try Self.transformer(11), try Self.transformer(12))
    let batch = Self.batch(.f64, in: work)
    var decoder = try Self.decoder(.f64)
    var none: RewardModel?
    var step = DirectStep(NoiseSchedule(shift: 3))
    (step.options.consistencyWeight, step.options.phases, step.options.huberC) = (0.4, 3, 0.01)
    (step.options.flowWeight, step.options.anchorWeight, step.options.decayWeight) = (0.7, 0.3, 0.2)
    func run(_ student: inout VideoTransformer, _ batch: DirectStep.Batch) -> Double {
      step.run(
        student: &student, teacher: teacher, target: teacher, decoder: &decoder, reward: &none,
        batch, in: work
      ).loss
    }
    var whole = base
    whole.makeTrainable(in: work)
    let loss = run(&whole, batch)
    var single = base
    single.makeTrainable(in: work)
    step.options.accumulation = 3
    let sum = (0..<3).reduce(0.0) { sum, i in
      let p = batch.prompt
      return sum
        + run(
          &single,
          DirectStep.Batch(
            latents: batch.latents.slice(i..<i + 1), noise: batch.noise.slice(i..<i + 1),
            indices: [batch.indices[i]],
            prompt: PromptEmbedding(
              states: p.states.slice(i..<i + 1), counts: [p.counts[i]],
              pooled: p.pooled!.slice(i..<i + 1))))
    }
    #expect(abs(loss - sum) < 1e-12 * loss)
    for (a, b) in zip(whole.trainableParameters(), single.trainableParameters()) {
      let scale = work.sumOfSquares(a.gradient!).squareRoot()
      let gap = work.difference(a.gradient!, b.gradient!)
      #expect(work.sumOfSquares(gap).squareRoot() < 1e-10 * (1e-3 + scale), "\(a.name)")
    }
  }

  /// Rewards divided by their deviations are rewards with weights of one over the deviation; the
  /// cosine of their gradients is that of the gradients of each alone.
  @Test func adaptiveWeightsAndCosine() throws {
    var c = VideoTextConfig()
    (c.embedDim, c.maxTxtL) = (6, 8)
    (
      c.visionEncoder.imgSize, c.visionEncoder.numFrames, c.visionEncoder.tubeletSize,
      c.visionEncoder.patchSize, c.visionEncoder.dModel, c.visionEncoder.depth
    ) = (16, 5, 5, 8, 8, 1)
    (
      c.visionEncoder.numHeads, c.visionEncoder.mlpRatio, c.visionEncoder.attnPoolNumHeads,
      c.visionEncoder.clipEmbedDim, c.visionEncoder.initValues
    ) = (2, 2, 2, 8, 1)
    (
      c.textEncoder.vocabSize, c.textEncoder.hiddenSize, c.textEncoder.numHiddenLayers,
      c.textEncoder.numAttentionHeads, c.textEncoder.intermediateSize
    ) = (20, 8, 3, 2, 12)
    (c.textEncoder.maxPositionEmbeddings, c.textEncoder.fusionLayer, c.textEncoder.encoderWidth) = (
      10, 1, 8
    )
    let work = Workspace()
    let reward = try RewardModel(
      try VideoTextModel(c, from: .random(seed: 8)), tokenizer: nil, map: nil,
      options: {
        var o = RewardOptions()
        o.useTransport = false
        return o
      }())
    let captions = reward.captions(
      TokenBatch([[11, 3, 4, 5], [11, 7], [11, 9, 2]], special: [0, 11]), in: work)
    let batch = Self.batch(.f32, captions: captions, in: work)
    let base = try Self.transformer(11, type: .f32)
    let decoder = try Self.decoder(.f32)
    func run(_ set: (inout DirectStep.Options) -> Void) -> (DirectStep.Output, [Tensor]) {
      var step = DirectStep(NoiseSchedule(shift: 3))
      var student = base
      var d = decoder
      var r: RewardModel? = reward
      step.options.consistencyWeight = 0
      set(&step.options)
      student.makeTrainable(in: work)
      let out = step.run(student: &student, teacher: base, decoder: &d, reward: &r, batch, in: work)
      return (out, student.trainableParameters().compactMap(\.gradient))
    }
    func dot(_ a: [Tensor], _ b: [Tensor]) -> Double {
      zip(a, b).reduce(0) { $0 + work.dot($1.0, $1.1) }
    }
    func deviation(_ x: [Double]) -> Double {
      let m = x.reduce(0, +) / 3
      return (x.reduce(0) { $0 + ($1 - m) * ($1 - m) } / 2).squareRoot()
    }
    let (plain, _) = run { $0.comparesRewards = true }
    let adaptive = run { $0.normalisesRewards = true }.1
    let (q, s) = (deviation(plain.scores.quality) + 1e-6, deviation(plain.scores.semantic) + 1e-6)
    let weighted = run { ($0.qualityWeight, $0.semanticWeight) = (1 / q, 1 / s) }.1
    let gap = zip(adaptive, weighted).map { work.difference($0, $1) }
    #expect(
      dot(gap, gap).squareRoot() < 1e-4 * dot(weighted, weighted).squareRoot()
        && dot(weighted, weighted) > 0)
    let quality = run { $0.semanticWeight = 0 }.1
    let semantic = run { $0.qualityWeight = 0 }.1
    let cosine =
      dot(quality, semantic) / (dot(quality, quality) * dot(semantic, semantic)).squareRoot()
    #expect(abs(try #require(plain.rewardCosine) - cosine) < 1e-4)
  }
}
