public import Layers
public import TensorRuntime

/// InternVideo2's video transformer (arXiv:2403.15377; algorithm.md 1): pre-norm blocks with RMS
/// norm, q and k normalised over all channels, LayerScale, full attention over all tokens, no final
/// norm; attention pooling and projection.
public struct VideoEncoder: Layer {
  public let config: VideoEncoderConfig
  public var patchEmbedding: PatchEmbedding
  public var classToken: Parameter  // [1, 1, D]
  public var positions: Parameter  // [1, 1 + frames · grid², D], for any number of frames
  public var imagePositions: Parameter?  // the same for a single frame
  public var blocks: [VideoEncoderBlock]
  public var pooling: AttentionPooling
  public var projection: Linear

  public struct Output: Sendable {
    /// `[B, M, D]`: M = 1 + times · grid², token 0 is CLS, then frames, rows, columns.
    public let tokens: Tensor
    /// `[B, clip_embed_dim]` and `[B, embed_dim]`; the projection is not normalised.
    public let pooled, projected: Tensor
  }
  public struct Saved: Sendable {
    let patches: PatchEmbedding.Saved
    let blocks: [Kept<VideoEncoderBlock.Saved, [Tensor]>]
    let pooling: AttentionPooling.Saved, projection: Linear.Saved
    let times: Int, rows: SequenceRows
  }

  public init(_ config: VideoEncoderConfig, embedDim: Int, from source: ParameterSource) throws {
    let prefix = "vision_encoder."
    let d = config.dModel
    self.config = config
    patchEmbedding = try PatchEmbedding(
      "\(prefix)patch_embed.proj", channels: 3, width: d,
      patch: SIMD3(config.tubeletSize, config.patchSize, config.patchSize), from: source)
    classToken = try source("\(prefix)cls_token", Shape(1, 1, d), .normal(deviation: 0.02))
    let (times, grid) = (config.times(config.numFrames), config.grid)
    positions = try source.table(
      "\(prefix)pos_embed", Shape(1, 1 + times * config.patchesPerFrame, d),
      .table { PositionTable.sineCosine(width: d, frames: times, side: grid) })
    imagePositions = try source.optional(
      "\(prefix)img_pos_embed", Shape(1, 1 + config.patchesPerFrame, d),
      .table { PositionTable.sineCosine(width: d, frames: 1, side: grid) })
    blocks = try (0..<config.depth).map {
      try VideoEncoderBlock("\(prefix)blocks.\($0)", config, from: source)
    }
    pooling = try AttentionPooling("\(prefix)clip_projector", config, from: source)
    projection = try Linear("vision_proj", config.clipEmbedDim, embedDim, from: source)
  }

  /// pixels `[B, T, 3, H, W]`, normalised, H = W = img_size. With `checkpointing` only block inputs
  /// are kept for backward. Processes that share the rows of the blocks all give the same pixels,
  /// and all get the whole output; the parameters must be frozen then.
  public func forward(
    _ pixels: Tensor, checkpointing: Bool = false, sharing share: RowShare = .whole,
    in work: borrowing Workspace
  ) -> (output: Output, saved: Saved) {
    precondition(
      share.strips == 1 || trainableParameters().isEmpty, "a trained video encoder is not shared")
    let (input, patches) = embedded(pixels, in: work)
    let rows = rows(input, share)
    var strips = rows.image.map { work.rows(input, $0) }
    let keeping = Keeping(checkpointing: checkpointing)
    var saved: [Kept<VideoEncoderBlock.Saved, [Tensor]>] = []
    for block in blocks {
      let (y, kept) = keeping.run(strips, in: work) {
        block.forward($0, rows, in: work)
      } plain: {
        block($0, rows, in: work)
      }
      saved.append(kept)
      strips = y
    }
    let x = rows.share.collected(work.joined(strips), rows: rows.counts, in: work)
    let (pooled, poolSaved) = pooling.forward(x, in: work)
    let (projected, projSaved) = projection.forward(pooled, in: work)
    return (
      Output(tokens: x, pooled: pooled, projected: projected),
      Saved(
        patches: patches, blocks: saved, pooling: poolSaved, projection: projSaved,
        times: config.times(pixels.shape[1]), rows: rows)
    )
  }
  /// The strips of tokens x `[B, M, D]`. One if there are fewer heads or tokens than strips.
  private func rows(_ x: Tensor, _ share: RowShare) -> SequenceRows {
    SequenceRows(x.shape[1], share.strips <= min(config.numHeads, x.shape[1]) ? share : .whole)
  }

  /// Only the output. Nothing is kept for backward.
  public func callAsFunction(_ pixels: Tensor, in work: borrowing Workspace) -> Output {
    var x = embedded(pixels, in: work).x
    for block in blocks { x = block(x, in: work) }
    let pooled = pooling.forward(x, in: work).y
    return Output(tokens: x, pooled: pooled, projected: projection(pooled, in: work))
  }
  /// Patches, [CLS] and positions: the input of the first block.
  private func embedded(_ pixels: Tensor, in work: borrowing Workspace) -> (
    x: Tensor, patches: PatchEmbedding.Saved
  ) {
    let (b, d, times) = (pixels.shape[0], config.dModel, config.times(pixels.shape[1]))
    precondition(
      pixels.shape[1] % config.tubeletSize == 0 && pixels.shape[3] == config.imgSize
        && pixels.shape[4] == config.imgSize,
      "pixels \(pixels.shape) for img_size \(config.imgSize)")
    let (patches, saved) = patchEmbedding.forward(
      work.permuted(pixels, [0, 2, 1, 3, 4]), in: work)
    let cls = work.repeated(work.widened(classToken.value).reshaped(Shape(1, d)), b)
    var x = work.concatenated([cls, patches], axis: 1)
    work.addToEach(positionTable(times, in: work), to: &x)
    return (x, saved)
  }

  /// Gradient of the pixels from the gradients of the tokens and of the projected feature, of which
  /// either may be absent. With `wantsPixels` false only parameter gradients are computed, and the
  /// result is nil.
  public mutating func backward(
    dTokens: Tensor?, dProjected: Tensor?, _ saved: Saved, wantsPixels: Bool = true,
    in work: borrowing Workspace
  ) -> Tensor? {
    var dx = dTokens
    if let dProjected {
      let fromPooling = pooling.backward(
        projection.backward(dProjected, saved.projection, in: work), saved.pooling, in: work)
      if dx == nil { dx = fromPooling } else { work.add(fromPooling, to: &dx!) }
    }
    if dx == nil { return nil }
    let rows = saved.rows
    var strips = rows.image.map { work.rows(dx!, $0) }
    dx = nil
    for i in blocks.indices.reversed() {
      let s = saved.blocks[i].all(in: work) { blocks[i].forward($0, rows, in: work).saved }
      strips = blocks[i].backward(strips, s, rows, in: work)
    }
    let dInput = rows.share.collected(work.joined(strips), rows: rows.counts, in: work)
    return backwardEmbedding(dInput, saved, wantsPixels: wantsPixels, in: work)
  }
  /// The inverse of `embedded`.
  private mutating func backwardEmbedding(
    _ dx: Tensor, _ saved: Saved, wantsPixels: Bool, in work: borrowing Workspace
  ) -> Tensor? {
    backwardPositions(dx, times: saved.times, in: work)
    if classToken.isTrainable {
      work.addSumOfEach(work.narrowed(dx, axis: 1, 0..<1), to: &classToken.gradient)
    }
    let dPatches = work.narrowed(dx, axis: 1, 1..<dx.shape[1])
    if !wantsPixels {
      patchEmbedding.backwardParameters(dPatches, saved.patches, in: work)
      return nil
    }
    return work.permuted(
      patchEmbedding.backward(dPatches, saved.patches, in: work), [0, 2, 1, 3, 4])
  }

  /// The table for `times` time positions. A single position has its own table; other counts are
  /// interpolated.
  private func positionTable(_ times: Int, in work: borrowing Workspace) -> Tensor {
    if times == 1 {
      guard let imagePositions else {
        preconditionFailure("vision_encoder.img_pos_embed is needed for a clip of one frame")
      }
      return work.widened(imagePositions.value)
    }
    let table = work.widened(positions.value)
    if table.shape[1] == 1 + times * config.patchesPerFrame { return table }
    return PositionTable.interpolated(
      table, fromSide: storedSide, toFrames: times, toSide: config.grid, in: work)
  }
  private mutating func backwardPositions(_ dx: Tensor, times: Int, in work: borrowing Workspace) {
    if times == 1 {
      if imagePositions != nil { work.addSumOfEach(dx, to: &imagePositions!.gradient) }
      return
    }
    guard positions.isTrainable else { return }
    if positions.value.shape[1] == dx.shape[1] {
      return work.addSumOfEach(dx, to: &positions.gradient)
    }
    var sum: Tensor? = work.zeros(Shape(1, dx.shape[1], config.dModel), dx.type)
    work.addSumOfEach(dx, to: &sum)
    let d = PositionTable.interpolatedBackward(
      sum!, source: positions.value.shape, fromSide: storedSide, toFrames: times,
      toSide: config.grid, in: work)
    work.add(d, to: &positions.gradient)
  }
  /// Side of the stored table's grid: the configuration's, or that of a 4-frame table (the
  /// published checkpoint) if the configuration's does not divide the number of rows.
  private var storedSide: Int {
    let rows = positions.value.shape[1] - 1
    if rows % config.patchesPerFrame == 0 { return config.grid }
    return Int(Double(rows / 4).squareRoot().rounded())
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try patchEmbedding.forEachParameter(body)
    try body(&classToken)
    try body(&positions)
    if imagePositions != nil { try body(&imagePositions!) }
    try blocks.forEachParameter(body)
    try pooling.forEachParameter(body)
    try projection.forEachParameter(body)
  }
}
