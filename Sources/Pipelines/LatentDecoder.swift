public import Models
public import TensorRuntime

/// The frozen decoder that turns latents into the frames that the rewards see: z / s, decoding (in
/// groups of latents when chunked), clamp(x/2 + 1/2, 0, 1), frames first. Scaled latents `[B, C, n,
/// h, w]` to frames `[B, T, 3, H, W]`.
public struct LatentDecoder: Sendable {
  public private(set) var decoder: AutoencoderDecoder
  /// 1 / s. Latents are multiplied by the scaling factor s when they enter training.
  public let scalingFactor: Double
  public var tiling: Tiling?
  /// Latent frames decoded together; 0: the whole clip (algorithm.md 6.17).
  public var chunk = 0
  public var checkpointing = false

  public struct Saved: Sendable {
    let chunks: [(frames: Int, saved: AutoencoderDecoder.Saved)], raw: Tensor
  }

  public init(
    _ decoder: AutoencoderDecoder, scalingFactor: Double, tiling: Tiling? = nil, chunk: Int = 0,
    checkpointing: Bool = false
  ) {
    (self.decoder, self.scalingFactor, self.tiling, self.chunk, self.checkpointing) = (
      decoder, scalingFactor, tiling, chunk, checkpointing
    )
  }
  private func ranges(_ n: Int) -> [Range<Int>] {
    chunk <= 0 || chunk >= n
      ? [0..<n] : stride(from: 0, to: n, by: chunk).map { $0..<min($0 + chunk, n) }
  }
  /// `[T, 3, H, W]` of the clip that latents `[C, n, h, w]` decode to.
  public func clipShape(of latent: [Int]) -> [Int] {
    let c = decoder.config
    let frames = ranges(latent[1]).reduce(0) {
      $0 + ($1.count - 1) * c.temporalCompressionRatio + 1
    }
    return [
      frames, 3, latent[2] * c.spatialCompressionRatio, latent[3] * c.spatialCompressionRatio,
    ]
  }
  public func forward(_ z: Tensor, in work: borrowing Workspace) -> (frames: Tensor, saved: Saved) {
    let unscaled = work.scaled(z, by: 1 / scalingFactor)
    var parts: [Tensor] = []
    var saved: [(frames: Int, saved: AutoencoderDecoder.Saved)] = []
    for r in ranges(z.shape[2]) {
      let (y, s) = decoder.forward(
        work.narrowed(unscaled, axis: 2, r), tiling: tiling, checkpointing: checkpointing, in: work)
      parts.append(y)
      saved.append((y.shape[2], s))
    }
    let raw = parts.count == 1 ? parts[0] : work.concatenated(parts, axis: 2)
    let unit = work.affineClamp(raw, alpha: 0.5, beta: 0.5, to: 0...1)
    return (work.permuted(unit, [0, 2, 1, 3, 4]), Saved(chunks: saved, raw: raw))
  }
  public func callAsFunction(_ z: Tensor, in work: borrowing Workspace) -> Tensor {
    forward(z, in: work).frames
  }
  /// The frames of samples that are shown or judged. A value that is not finite is an error instead
  /// of a black clip. `first` is the number of the first sample.
  public func samples(_ z: Tensor, first: Int = 0, in work: borrowing Workspace)
    throws(NonFiniteSample) -> Tensor
  {
    func check(_ x: Tensor, _ what: String) throws(NonFiniteSample) {
      for i in 0..<x.shape[0] where !work.isFinite(x[row: i]) {
        throw NonFiniteSample(what: what, index: first + i)
      }
    }
    try check(z, "the latent")
    let (frames, saved) = forward(z, in: work)
    try check(saved.raw, "the decoded clip")
    return frames
  }

  /// Gradient with respect to the scaled latents.
  public mutating func backward(_ dFrames: Tensor, _ s: Saved, in work: borrowing Workspace)
    -> Tensor
  {
    let dUnit = work.permuted(dFrames, [0, 2, 1, 3, 4])
    let dRaw = work.affineClampBackward(dUnit, x: s.raw, alpha: 0.5, beta: 0.5, to: 0...1)
    var parts: [Tensor] = []
    var start = 0
    for (frames, saved) in s.chunks {
      parts.append(
        decoder.backward(work.narrowed(dRaw, axis: 2, start..<start + frames), saved, in: work))
      start += frames
    }
    let dz = parts.count == 1 ? parts[0] : work.concatenated(parts, axis: 2)
    return work.scaled(dz, by: 1 / scalingFactor)
  }
}

/// A sample that contains NaN or infinity (exit status 3).
public struct NonFiniteSample: Error, CustomStringConvertible {
  let what: String, index: Int
  public var description: String {
    """
    \(what) of sample \(index) is not finite: sampling: lower the guidance or the shift, or look \
    at the weights with pisces doctor
    """
  }
}
