public import Models

/// Sizes of networks of a few thousand parameters that have every kind of part.
public enum SmallModels {
  /// Latents `[B, 3, n, h, w]`, prompts of width 8.
  public static var transformer: TransformerConfig {
    var c = TransformerConfig()
    (c.inChannels, c.outChannels, c.numAttentionHeads, c.attentionHeadDim) = (3, 3, 2, 8)
    (c.numLayers, c.numSingleLayers, c.numRefinerLayers, c.mlpRatio) = (1, 1, 1, 2)
    (c.textEmbedDim, c.pooledProjectionDim) = (8, 8)
    (c.ropeAxesDim, c.guidanceEmbeds) = ([4, 2, 2], false)
    return c
  }
  /// Latents `[B, 3, n, h, w]` of clips `[B, 3, 4 n - 3, 4 h, 4 w]`.
  public static var autoencoder: AutoencoderConfig {
    var c = AutoencoderConfig()
    (c.latentChannels, c.blockOutChannels, c.layersPerBlock) = (3, [4, 4, 4], 1)
    (c.normNumGroups, c.spatialCompressionRatio, c.scalingFactor) = (2, 4, 0.7)
    return c
  }
  /// Latents `[B, 4, n, h, w]`, h and w divisible by 2.
  public static var unet: VideoUNetConfig {
    var c = VideoUNetConfig()
    (c.modelChannels, c.channelMult, c.numResBlocks) = (8, [1, 2], 1)
    (c.attentionResolutions, c.numHeadChannels, c.initAttnHeads) = ([2, 1], 4, 2)
    (c.contextDim, c.normNumGroups) = (8, 4)
    return c
  }
  /// Latents `[B, 4, n, h, w]` of clips `[B, 3, n, 4 h, 4 w]`.
  public static var imageAutoencoder: ImageAutoencoderConfig {
    var c = ImageAutoencoderConfig()
    (c.channels, c.channelMult, c.numResBlocks, c.normNumGroups) = (4, [1, 1, 2], 1, 4)
    return c
  }
  /// Two frames of 2 x 2 patches; one text layer, then two fusion layers. In a vocabulary of 20
  /// words, 11 is [CLS].
  public static var videoText: VideoTextConfig {
    var c = VideoTextConfig()
    (c.embedDim, c.maxTxtL) = (6, 8)
    (c.visionEncoder.imgSize, c.visionEncoder.numFrames, c.visionEncoder.patchSize) = (16, 2, 8)
    (c.visionEncoder.dModel, c.visionEncoder.depth, c.visionEncoder.numHeads) = (8, 1, 2)
    (c.visionEncoder.mlpRatio, c.visionEncoder.attnPoolNumHeads) = (2, 2)
    (c.visionEncoder.clipEmbedDim, c.visionEncoder.initValues) = (8, 1)
    (c.textEncoder.vocabSize, c.textEncoder.hiddenSize, c.textEncoder.numHiddenLayers) = (20, 8, 3)
    (c.textEncoder.numAttentionHeads, c.textEncoder.intermediateSize) = (2, 12)
    (c.textEncoder.maxPositionEmbeddings, c.textEncoder.fusionLayer) = (12, 1)
    c.textEncoder.encoderWidth = 8
    return c
  }
}
