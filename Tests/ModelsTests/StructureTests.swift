import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

/// Structural promises of algorithm.md 14.6.
@Suite(.serialized) struct StructureTests {
  @Test func parameterCountsOfTheFullModels() throws {
    #expect(
      try VideoTransformer(TransformerConfig(), from: .shapes).parameterCount == 12_821_012_544)
    let vae = AutoencoderConfig()
    #expect(
      try AutoencoderEncoder(vae, from: .shapes).parameterCount
        + AutoencoderDecoder(vae, from: .shapes).parameterCount == 246_478_803)
    #expect(try AutoencoderDecoder(vae, from: .shapes).parameterCount == 146_136_067 + 16 * 16 + 16)
  }
  @Test(arguments: [(1, 1), (2, 5), (4, 13), (5, 17), (8, 29), (9, 33), (32, 125)])
  func decodedFrames(_ latents: Int, _ frames: Int) {
    #expect(AutoencoderConfig().frames(latents: latents) == frames)
  }
  @Test func paddingChangesNoValue() throws {
    var c = TextEncoderConfig()
    (
      c.vocabSize, c.hiddenSize, c.numHiddenLayers, c.numAttentionHeads, c.intermediateSize,
      c.maxPositionEmbeddings, c.fusionLayer, c.encoderWidth
    ) = (20, 8, 2, 2, 12, 40, 2, 6)
    let encoder = try TextEncoder(c, from: .random(seed: 1))
    let work = Workspace()
    let row: [Int32] = [11, 3, 4, 5]
    let exact = encoder.text(TokenBatch([row]), in: work).hidden.floats
    let padded = encoder.text(TokenBatch([row], length: 40), in: work).hidden
    #expect(work.narrowed(padded, axis: 1, 0..<4).floats == exact)
  }
  @Test func freshAdaptersChangeNoBit() throws {
    var c = TransformerConfig()
    (
      c.inChannels, c.outChannels, c.numAttentionHeads, c.attentionHeadDim, c.numLayers,
      c.numSingleLayers, c.numRefinerLayers
    ) = (2, 2, 2, 8, 1, 1, 1)
    (c.textEmbedDim, c.pooledProjectionDim, c.ropeAxesDim, c.guidanceEmbeds) = (
      5, 4, [4, 2, 2], false
    )
    let work = Workspace()
    let model = try VideoTransformer(c, from: noisySingle(seed: 2))
    let prompt = PromptEmbedding(
      states: randomTensor(Shape(1, 3, 5), seed: 3, type: .f32), counts: [3],
      pooled: randomTensor(Shape(1, 4), seed: 4, type: .f32))
    let x = randomTensor(Shape(1, 2, 1, 4, 4), seed: 5, type: .f32)
    var adapted = model
    let count = try adapted.attachAdapters(rank: 2, alpha: 4, from: .random(seed: 6), in: work)
    #expect(count == 8 + 5)
    #expect(
      adapted(x, times: [500], prompt, guidance: nil, in: work).floats
        == model(x, times: [500], prompt, guidance: nil, in: work).floats)
  }
  private func noisySingle(seed: UInt64) -> ParameterSource {
    let wide = noisySource(seed: seed)
    return ParameterSource { name, shape, initial, _ in
      Workspace().converted(try wide(name, shape, initial).value, to: .f32)
    }
  }
}
