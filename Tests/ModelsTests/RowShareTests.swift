import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

/// The velocity network on rows that several processes share: the bits of one process with the same
/// strips.
@Suite(.serialized) struct RowShareTests {
  /// Five heads, which no group shares out evenly, and 18 image rows; captions of unlike lengths.
  private static func network(adapted: Bool) throws -> VideoTransformer {
    var c = TransformerConfig()
    (c.inChannels, c.outChannels, c.numAttentionHeads, c.attentionHeadDim) = (3, 3, 5, 8)
    (c.numLayers, c.numSingleLayers, c.numRefinerLayers, c.mlpRatio) = (2, 2, 1, 2)
    (c.textEmbedDim, c.pooledProjectionDim) = (8, 6)
    (c.ropeAxesDim, c.guidanceEmbeds) = ([4, 2, 2], false)
    let work = Workspace()
    var model = try VideoTransformer(c, from: noisySource(seed: 3))
    model.forEachParameter { $0.value = work.converted($0.value, to: .f32) }
    if adapted {
      try model.attachAdapters(rank: 3, alpha: 6, from: .random(seed: 4), in: work)
      // B is not zero, so that A has a gradient.
      model.forEachAdaptable { l in
        guard let b = l.adapter?.b.value else { return }
        l.adapter?.b.value = randomTensor(b.shape, seed: 5, scale: 0.1, type: .f32)
      }
    } else {
      model.makeTrainable(in: work)
    }
    return model
  }
  private static let latents = randomTensor(Shape(2, 3, 2, 6, 6), seed: 10, type: .f32)
  private static let cotangent = randomTensor(Shape(2, 3, 2, 6, 6), seed: 11, type: .f32)
  private static let prompt = PromptEmbedding(
    states: randomTensor(Shape(2, 7, 8), seed: 12, type: .f32), counts: [7, 4],
    pooled: randomTensor(Shape(2, 6), seed: 13, type: .f32))

  /// The velocity, and the gradients of all strips; of all processes' strips on each.
  @Sendable private static func run(
    _ share: RowShare, _ network: VideoTransformer, checkpointing: Bool
  ) -> [Tensor] {
    let work = Workspace()
    var model = network
    model.zeroGradients(in: work)
    let (v, saved) = model.forward(
      latents, times: [300, 700], prompt, guidance: nil,
      keeping: Keeping(checkpointing: checkpointing),
      sharing: share, in: work)
    model.backward(cotangent, saved, in: work)
    return [v] + share.sum(model.trainableParameters().map { $0.gradient! }, in: work)
  }
  /// Bits but for the sign of zero.
  private static func isSame(_ a: [Tensor], _ b: [Tensor]) -> Bool {
    a.count == b.count && zip(a, b).allSatisfy { $0.floats == $1.floats }
  }

  @Test(arguments: [(false, false), (true, true)])
  func bitsDependOnStripsAlone(_ adapted: Bool, _ checkpointing: Bool) throws {
    let network = try Self.network(adapted: adapted)
    let whole = Self.run(.whole, network, checkpointing: checkpointing)
    for strips in [2, 4] {
      let one = Self.run(RowShare(strips: strips), network, checkpointing: checkpointing)
      #expect(one.count == whole.count && one.allSatisfy { $0.floats.contains { $0 != 0 } })
      for (x, y) in zip(one, whole) {
        let scale = y.floats.reduce(1e-3) { max($0, abs($1)) }
        #expect(zip(x.floats, y.floats).allSatisfy { abs($0 - $1) < 2e-5 * scale })
      }
      for ranks in [2, 4] where ranks <= strips {
        let results = RankThreads.run(ranks, strips: strips) {
          Self.run($0, network, checkpointing: checkpointing)
        }
        for result in results { #expect(Self.isSame(result, one), "\(ranks) of \(strips)") }
      }
    }
  }
  /// Half of a group has the bits of one process, and gives them to the other half.
  @Test(arguments: [2, 4]) func halves(_ ranks: Int) throws {
    let network = try Self.network(adapted: false)
    @Sendable func velocity(_ share: RowShare, in work: borrowing Workspace) -> Tensor {
      network(
        Self.latents, times: [300, 700], Self.prompt, guidance: nil, sharing: share, in: work)
    }
    let one = velocity(RowShare(strips: 4), in: Workspace())
    let results = RankThreads.run(ranks, strips: 4) { share in
      let work = Workspace()
      let isSecond = share.isInSecondHalf
      let mine = isSecond ? velocity(share.half, in: work) : work.full(Shape(3), 7, .f32)
      let theirs = share.swapped(
        [mine], for: [isSecond ? Shape(3) : Self.latents.shape], in: work)[0]
      return isSecond ? [mine, theirs] : [theirs, mine]
    }
    for pair in results {
      #expect(pair[0].floats == one.floats && pair[1].floats == [7, 7, 7])
    }
  }
  /// The frozen video encoder: its features, and the gradient of the pixels.
  @Test(arguments: [false, true]) func videoEncoder(_ checkpointing: Bool) throws {
    var config = SmallModels.videoText.visionEncoder
    (config.depth, config.numHeads) = (2, 4)
    let source = noisySource(seed: 21)
    var encoder = try VideoEncoder(config, embedDim: 6, from: source)
    encoder.forEachParameter { $0.value = Workspace().converted($0.value, to: .f32) }
    let frozen = encoder
    let pixels = randomTensor(
      Shape(2, config.numFrames, 3, config.imgSize, config.imgSize), seed: 22, type: .f32)
    @Sendable func run(_ share: RowShare) -> [Tensor] {
      let work = Workspace()
      var encoder = frozen
      let (y, saved) = encoder.forward(
        pixels, checkpointing: checkpointing, sharing: share, in: work)
      let d = encoder.backward(
        dTokens: randomTensor(y.tokens.shape, seed: 23, type: .f32),
        dProjected: randomTensor(y.projected.shape, seed: 24, type: .f32), saved, in: work)
      return [y.tokens, y.projected, d!]
    }
    let whole = run(.whole)
    for strips in [2, 4, 8] {
      let one = run(RowShare(strips: strips))
      for (x, y) in zip(one, whole) {
        let scale = y.floats.reduce(1e-3) { max($0, abs($1)) }
        #expect(zip(x.floats, y.floats).allSatisfy { abs($0 - $1) < 2e-5 * scale })
        // More strips than heads are not made.
        if strips == 8 { #expect(x.floats == y.floats) }
      }
      for ranks in [2, 4] where ranks <= strips {
        for result in RankThreads.run(ranks, strips: strips, run) {
          #expect(Self.isSame(result, one), "\(ranks) of \(strips)")
        }
      }
    }
  }
  /// Strips of rows in double against finite differences.
  @Test(arguments: [2, 4]) func gradients(_ strips: Int) throws {
    var c = SmallModels.transformer
    c.guidanceEmbeds = true
    let inputs = [
      randomTensor(Shape(2, 3, 2, 4, 2), seed: 10), randomTensor(Shape(2, 3, 8), seed: 11),
      randomTensor(Shape(2, 8), seed: 12),
    ]
    GradientCheck(
      try VideoTransformer(c, from: noisySource(seed: 13)), inputs: inputs, step: 1e-3,
      tolerance: 1e-6
    ) { m, x, work in
      let prompt = PromptEmbedding(states: x[1], counts: [3, 2], pooled: x[2])
      let (v, saved) = m.forward(
        x[0], times: [300, 700], prompt, guidance: [6, 6], sharing: RowShare(strips: strips),
        in: work)
      return (
        [v],
        { m, dy, work in
          let d = m.backward(dy[0], saved, wantsLatents: true, in: work)
          return [d.latents, d.states, d.pooled]
        }
      )
    }.run(seed: 14)
  }
}
