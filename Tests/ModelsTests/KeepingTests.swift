import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

/// What a pass keeps for backward changes its memory, and not one bit of its results.
@Suite(.serialized) struct KeepingTests {
  private static let latents = randomTensor(Shape(2, 2, 3, 8, 8), seed: 1, type: .f32)
  private static let cotangent = randomTensor(Shape(2, 2, 3, 8, 8), seed: 2, type: .f32)
  private static let prompt = PromptEmbedding(
    states: randomTensor(Shape(2, 5, 8), seed: 3, type: .f32), counts: [5, 3],
    pooled: randomTensor(Shape(2, 6), seed: 4, type: .f32))

  /// The prediction, the gradients unless nothing was kept, and the bytes held between both.
  private static func pass<Model: VideoDenoiser>(_ network: Model, _ keeping: Keeping) -> (
    prediction: [Float], gradients: [[Float]], bytes: Int
  ) {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    var model = network
    let (y, saved) = model.predict(
      latents, times: [300, 700], prompt, guidance: nil, keeping: keeping, in: work)
    pool.resetPeak()
    let bytes = withExtendedLifetime(saved) { pool.statistics.peakBytes }
    if case .nothing = keeping { return (y.floats, [], bytes) }
    model.zeroGradients(in: work)
    model.predictBackward(cotangent, saved, in: work)
    return (y.floats, model.trainableParameters().map { $0.gradient!.floats }, bytes)
  }
  private static func check(_ random: some VideoDenoiser, isTrained: Bool) {
    let work = Workspace()
    var network = random
    network.forEachParameter { $0.value = work.converted($0.value, to: .f32) }
    if isTrained { network.makeTrainable(in: work) }
    let all = pass(network, .all)
    #expect(all.prediction.contains { $0 != 0 })
    let inputs = pass(network, .inputs)
    #expect(inputs.prediction == all.prediction && inputs.gradients == all.gradients)
    let nothing = pass(network, .nothing)
    #expect(nothing.prediction == all.prediction)
    #expect(
      nothing.bytes < inputs.bytes && inputs.bytes < all.bytes / 2,
      "\(nothing.bytes), \(inputs.bytes), \(all.bytes)")
    let alone = network(latents, times: [300, 700], prompt, in: work)
    #expect(alone.floats == all.prediction)
    checkNarrow(network, all)
  }
  /// With products of bf16, what is kept takes about half of the memory, and gradients differ from
  /// those in f32 as rounding to eight bits makes them. Products are f32 here.
  private static func checkNarrow(
    _ network: some VideoDenoiser,
    _ wide: (prediction: [Float], gradients: [[Float]], bytes: Int)
  ) {
    Machine.computeType = .bf16
    defer { Machine.computeType = .f32 }
    Machine.setProductType(.f32)
    #expect(Machine.savedType == .bf16 && Machine.computeType == .f32)
    let narrow = pass(network, .all)
    let nothing = pass(network, .nothing).bytes
    #expect(
      Double(narrow.bytes - nothing) < 0.6 * Double(wide.bytes - nothing),
      "\(narrow.bytes) and \(wide.bytes), of which \(nothing) are not kept")
    let inputs = pass(network, .inputs)
    #expect(inputs.bytes < narrow.bytes)
    // From rounded inputs the whole part is computed again, not only its gradients.
    for (narrow, bound) in [(narrow, 0.01), (inputs, 0.02)] {
      #expect(narrow.prediction == wide.prediction)
      var (difference, sum) = (0.0, 0.0)
      for (a, b) in zip(narrow.gradients, wide.gradients) {
        for (x, y) in zip(a, b) {
          difference += Double((x - y) * (x - y))
          sum += Double(y * y)
        }
      }
      // A frozen network has no gradients; others must differ.
      #expect(
        difference <= bound * bound * sum && (difference > 0) == (sum > 0),
        "\((difference / sum).squareRoot()) of the gradients' norm")
    }
  }

  @Test(arguments: [false, true]) func transformer(_ isTrained: Bool) throws {
    var c = TransformerConfig()
    (c.inChannels, c.outChannels, c.numAttentionHeads, c.attentionHeadDim) = (2, 2, 3, 8)
    (c.numLayers, c.numSingleLayers, c.numRefinerLayers, c.mlpRatio) = (3, 3, 1, 2)
    (c.textEmbedDim, c.pooledProjectionDim) = (8, 6)
    (c.ropeAxesDim, c.guidanceEmbeds) = ([4, 2, 2], false)
    Self.check(try VideoTransformer(c, from: noisySource(seed: 5)), isTrained: isTrained)
  }
  @Test(arguments: [false, true]) func unet(_ isTrained: Bool) throws {
    var c = VideoUNetConfig()
    (c.inChannels, c.outChannels, c.modelChannels, c.channelMult, c.numResBlocks) = (
      2, 2, 8, [1, 2], 1
    )
    (c.attentionResolutions, c.numHeadChannels, c.initAttnHeads, c.contextDim, c.normNumGroups) = (
      [1, 2], 4, 2, 8, 4
    )
    Self.check(try VideoUNet(c, from: noisySource(seed: 6)), isTrained: isTrained)
  }
}
