import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

/// Whole networks in double against finite differences; the golden cases hold the same code in f32
/// to outside references.
@Suite(.serialized) struct ModelGradientTests {
  @Test(arguments: [false, true]) func videoEncoder(_ checkpointing: Bool) throws {
    var c = VideoEncoderConfig()
    (
      c.imgSize, c.numFrames, c.patchSize, c.dModel, c.depth, c.numHeads, c.mlpRatio,
      c.attnPoolNumHeads, c.clipEmbedDim, c.initValues
    ) = (28, 2, 14, 16, 2, 4, 2, 4, 12, 0.5)
    let encoder = try VideoEncoder(c, embedDim: 6, from: noisySource(seed: 1))
    GradientCheck(
      encoder, inputs: [randomTensor(Shape(1, 2, 3, 28, 28), seed: 2)], step: 1e-3, tolerance: 1e-6
    ) { e, x, work in
      let (out, saved) = e.forward(x[0], checkpointing: checkpointing, in: work)
      return (
        [out.tokens, out.projected],
        { e, dy, work in [e.backward(dTokens: dy[0], dProjected: dy[1], saved, in: work)] }
      )
    }.run(seed: 3)
  }
  @Test func interpolatedPositions() throws {
    var c = VideoEncoderConfig()
    (
      c.imgSize, c.numFrames, c.patchSize, c.dModel, c.depth, c.numHeads, c.mlpRatio,
      c.attnPoolNumHeads, c.clipEmbedDim, c.initValues
    ) = (28, 4, 14, 8, 1, 2, 2, 2, 6, 0.5)
    let encoder = try VideoEncoder(c, embedDim: 4, from: noisySource(seed: 4))
    // Six frames on a table of four: the table's gradient goes back through the interpolation.
    GradientCheck(
      encoder, inputs: [randomTensor(Shape(1, 6, 3, 28, 28), seed: 5)], step: 1e-3, tolerance: 1e-6
    ) { e, x, work in
      let (out, saved) = e.forward(x[0], in: work)
      return (
        [out.tokens],
        { e, dy, work in [e.backward(dTokens: dy[0], dProjected: nil, saved, in: work)] }
      )
    }.run(seed: 6)
  }
  @Test func textEncoderWithFusion() throws {
    var c = TextEncoderConfig()
    (
      c.vocabSize, c.hiddenSize, c.numHiddenLayers, c.numAttentionHeads, c.intermediateSize,
      c.maxPositionEmbeddings, c.fusionLayer, c.encoderWidth
    ) = (20, 8, 3, 2, 12, 10, 1, 6)
    let tokens = TokenBatch([[11, 3, 4, 5], [11, 7]], special: [0, 11])
    GradientCheck(
      try TextEncoder(c, from: noisySource(seed: 7)),
      inputs: [randomTensor(Shape(2, 5, 6), seed: 8)], step: 1e-3, tolerance: 1e-6
    ) { e, x, work in
      let (hidden, ts) = e.text(tokens, in: work)
      let (fused, fs) = e.fusion(hidden, tokens, vision: x[0], in: work)
      return (
        [fused],
        { e, dy, work in
          let (dText, dVision) = e.fusionBackward(dy[0], fs, in: work)
          e.textBackward(dText!, ts, in: work)
          return [dVision]
        }
      )
    }.run(seed: 9)
  }
  @Test(arguments: [false, true]) func velocityNetwork(_ checkpointing: Bool) throws {
    var c = TransformerConfig()
    (
      c.inChannels, c.outChannels, c.numAttentionHeads, c.attentionHeadDim, c.numLayers,
      c.numSingleLayers, c.numRefinerLayers, c.mlpRatio
    ) = (2, 2, 2, 8, 1, 1, 1, 2)
    (c.textEmbedDim, c.pooledProjectionDim, c.ropeAxesDim) = (5, 4, [4, 2, 2])
    let inputs = [
      randomTensor(Shape(2, 2, 2, 4, 2), seed: 10), randomTensor(Shape(2, 3, 5), seed: 11),
      randomTensor(Shape(2, 4), seed: 12),
    ]
    GradientCheck(
      try VideoTransformer(c, from: noisySource(seed: 13)), inputs: inputs, step: 1e-3,
      tolerance: 1e-6
    ) { m, x, work in
      let prompt = PromptEmbedding(states: x[1], counts: [3, 2], pooled: x[2])
      let (v, saved) = m.forward(
        x[0], times: [300, 700], prompt, guidance: [6, 6],
        keeping: Keeping(checkpointing: checkpointing),
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
  /// A student with adapters on some layers: linear, of an image and of time.
  @Test(arguments: [false, true]) func denoisingNetwork(_ checkpointing: Bool) throws {
    let work = Workspace()
    var c = VideoUNetConfig()
    (c.inChannels, c.outChannels, c.modelChannels, c.channelMult, c.numResBlocks) = (
      2, 2, 4, [1, 2], 1
    )
    (c.attentionResolutions, c.numHeadChannels, c.initAttnHeads, c.contextDim, c.normNumGroups) = (
      [2], 2, 3, 3, 2
    )
    (c.timeCondProjDim, c.motionCondProjDim) = (4, 6)
    var model = try VideoUNet(c, from: noisySource(seed: 24))
    if checkpointing {
      try model.attachAdapters(
        targets: ["attn2.to_k", "in_layers.2", "conv2.3", "op", "time_embed.0", "out.2"], rank: 3,
        alpha: 4, from: noisySource(seed: 25), in: work)
    }
    GradientCheck(
      model,
      inputs: [
        randomTensor(Shape(2, 2, 3, 4, 4), seed: 26), randomTensor(Shape(2, 5, 3), seed: 27),
      ], step: 1e-5, tolerance: 1e-6
    ) { m, x, work in
      let condition = VideoUNet.Condition(
        text: x[1], fps: [8, 24], guidance: [7.5, 5], motion: [0.1, 0])
      let (y, saved) = m.forward(
        x[0], times: [300, 700], condition, keeping: Keeping(checkpointing: checkpointing), in: work
      )
      return (
        [y],
        { m, dy, work in
          let d = m.backward(dy[0], saved, wantsInputs: true, in: work)
          return [d.latents, d.text]
        }
      )
    }.run(seed: 28)
  }
  static var smallAutoencoder: AutoencoderConfig {
    var c = AutoencoderConfig()
    (
      c.latentChannels, c.blockOutChannels, c.layersPerBlock, c.normNumGroups,
      c.spatialCompressionRatio
    ) = (3, [4, 4, 4], 1, 2, 4)
    return c
  }
  @Test(arguments: [false, true]) func decoder(_ tiled: Bool) throws {
    let tiling: Tiling? = tiled ? .original(size: 8, frames: 16) : nil
    GradientCheck(
      try AutoencoderDecoder(Self.smallAutoencoder, from: noisySource(seed: 15)),
      inputs: [randomTensor(Shape(1, 3, 2, 3, 3), seed: 16)], step: 1e-3, tolerance: 1e-6
    ) { d, x, work in
      let (y, s) = d.forward(x[0], tiling: tiling, in: work)
      return ([y], { d, dy, work in [d.backward(dy[0], s, in: work)] })
    }.run(seed: 17)
  }
  @Test func compressor() throws {
    GradientCheck(
      try AutoencoderEncoder(Self.smallAutoencoder, from: noisySource(seed: 18)),
      inputs: [randomTensor(Shape(1, 3, 5, 8, 8), seed: 19)], step: 1e-3, tolerance: 1e-6
    ) { e, x, work in
      let (y, s) = e.forward(x[0], in: work)
      return ([y], { e, dy, work in [e.backward(dy[0], s, in: work)] })
    }.run(seed: 20)
  }
  static var smallImageAutoencoder: ImageAutoencoderConfig {
    var c = ImageAutoencoderConfig()
    (c.channels, c.channelMult, c.numResBlocks, c.normNumGroups) = (2, [2, 1, 2], 1, 2)
    (c.zChannels, c.embedDim) = (3, 2)
    return c
  }
  /// Two images; sizes that the encoder's halvings round down.
  @Test(arguments: [false, true]) func imageDecoder(_ checkpointing: Bool) throws {
    GradientCheck(
      try ImageAutoencoderDecoder(Self.smallImageAutoencoder, from: noisySource(seed: 23)),
      inputs: [randomTensor(Shape(2, 2, 3, 2), seed: 24)], step: 1e-3, tolerance: 1e-6
    ) { d, x, work in
      let (y, s) = d.forward(x[0], checkpointing: checkpointing, in: work)
      #expect(y.shape == Shape(2, 3, 12, 8))
      return ([y], { d, dy, work in [d.backward(dy[0], s, in: work)] })
    }.run(seed: 25)
  }
  @Test(arguments: [false, true]) func imageCompressor(_ checkpointing: Bool) throws {
    GradientCheck(
      try ImageAutoencoderEncoder(Self.smallImageAutoencoder, from: noisySource(seed: 26)),
      inputs: [randomTensor(Shape(2, 3, 9, 14), seed: 27)], step: 1e-3, tolerance: 1e-6
    ) { e, x, work in
      let (y, s) = e.forward(x[0], checkpointing: checkpointing, in: work)
      #expect(y.shape == Shape(2, 4, 2, 3))
      return ([y], { e, dy, work in [e.backward(dy[0], s, in: work)] })
    }.run(seed: 28)
  }
  @Test func preprocessing() {
    struct Nothing: Layer {
      mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {}
    }
    GradientCheck(Nothing(), inputs: [randomTensor(Shape(1, 2, 3, 10, 13), seed: 21)]) {
      _, x, work in
      let p = PixelPreprocessing(size: 6)
      let (y, s) = p.forward(x[0], crop: .random(row: 0, column: 0.7), in: work)
      return ([y], { _, dy, work in [p.backward(dy[0], s, in: work)] })
    }.run(seed: 22)
  }
}
