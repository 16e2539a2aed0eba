public import Layers
public import Models
public import TensorRuntime

/// The frozen decoder that turns latents into the frames that the rewards see: z / s, decoding,
/// clamp(x/2 + 1/2, 0, 1), frames first. Scaled latents `[B, C, n, h, w]` to frames `[B, T, 3, H,
/// W]`.
public struct LatentDecoder: Sendable {
  /// An autoencoder of clips, or of single frames.
  public enum Network: Sendable {
    case clips(AutoencoderDecoder)
    case frames(ImageAutoencoderDecoder)
  }
  private var network: Network
  /// 1 / s. Latents are multiplied by the scaling factor s when they enter training.
  public let scalingFactor: Double
  public let geometry: any ClipGeometry
  public var tiling: Tiling?
  /// Latent frames decoded together; 0: the whole clip (algorithm.md 6.17).
  public var chunk = 0
  public var checkpointing = false

  public struct Saved: Sendable {
    let parts: Parts, raw: Tensor
    /// Shape of the latents, and the latent frames that were decoded; nil: all.
    let input: Shape, frames: [Int]?
  }
  enum Parts: Sendable {
    case clips([(frames: Int, saved: AutoencoderDecoder.Saved)])
    case strips([(frames: Int, saved: AutoencoderDecoder.StripsSaved)])
    case frames(ImageAutoencoderDecoder.Saved)
  }

  /// `scalingFactor`: the autoencoder's own when nil.
  public init(
    _ network: Network, scalingFactor: Double? = nil, tiling: Tiling? = nil, chunk: Int = 0,
    checkpointing: Bool = false
  ) {
    self.network = network
    geometry =
      switch network {
      case .clips(let decoder): decoder.config
      case .frames(let decoder): decoder.config
      }
    self.scalingFactor = scalingFactor ?? geometry.scalingFactor
    (self.tiling, self.chunk, self.checkpointing) = (tiling, chunk, checkpointing)
  }
  /// Whether a latent frame can be decoded without the others.
  public var decodesSingleFrames: Bool {
    if case .frames = network { true } else { false }
  }
  private func ranges(_ n: Int) -> [Range<Int>] {
    chunk <= 0 || chunk >= n
      ? [0..<n] : stride(from: 0, to: n, by: chunk).map { $0..<min($0 + chunk, n) }
  }
  /// `[T, 3, H, W]` of the clip that latents `[C, n, h, w]` decode to.
  public func clipShape(of latent: [Int]) -> [Int] {
    let c = geometry
    let frames = ranges(latent[1]).reduce(0) { $0 + c.frames(latents: $1.count) }
    return [
      frames, 3, latent[2] * c.spatialCompressionRatio, latent[3] * c.spatialCompressionRatio,
    ]
  }
  /// `frames`: the latent frames that are decoded, for a decoder of single frames; nil: all. Rows
  /// of latents that are not cut into tiles are shared by the processes of `share`, each of which
  /// gets all frames.
  public func forward(
    _ z: Tensor, frames: [Int]? = nil, sharing share: RowShare = .whole,
    in work: borrowing Workspace
  ) -> (frames: Tensor, saved: Saved) {
    precondition(frames == nil || decodesSingleFrames, "single frames of a decoder of clips")
    let chosen = frames.map { Self.frames($0, of: z, in: work) } ?? z
    let unscaled = work.scaled(chosen, by: 1 / scalingFactor)
    let (raw, parts) = decode(unscaled, sharing: share, in: work)
    let unit = work.affineClamp(raw, alpha: 0.5, beta: 0.5, to: 0...1)
    return (
      work.permuted(unit, [0, 2, 1, 3, 4]),
      Saved(parts: parts, raw: raw, input: z.shape, frames: frames)
    )
  }
  /// Video `[B, 3, T, H, W]` in about [-1, 1].
  private func decode(_ z: Tensor, sharing share: RowShare, in work: borrowing Workspace) -> (
    raw: Tensor, parts: Parts
  ) {
    func chunks<Saved>(_ pass: (Tensor) -> (y: Tensor, saved: Saved)) -> (
      video: Tensor, saved: [(frames: Int, saved: Saved)]
    ) {
      let parts = ranges(z.shape[2]).map { pass(work.narrowed(z, axis: 2, $0)) }
      return (
        parts.count == 1 ? parts[0].y : work.concatenated(parts.map(\.y), axis: 2),
        parts.map { ($0.y.shape[2], $0.saved) }
      )
    }
    switch network {
    case .clips(let decoder)
    where tiling == nil && AutoencoderDecoder.isShared(rows: z.shape[3], by: share):
      let (video, saved) = chunks {
        decoder.forward($0, checkpointing: checkpointing, sharing: share, in: work)
      }
      return (video, .strips(saved))
    case .clips(let decoder):
      let (video, saved) = chunks {
        decoder.forward($0, tiling: tiling, checkpointing: checkpointing, in: work)
      }
      return (video, .clips(saved))
    case .frames(let decoder):
      let (y, s) = decoder.forward(
        ClipFrames.images(z, in: work), checkpointing: checkpointing, in: work)
      return (ClipFrames.clip(y, of: z.shape, in: work), .frames(s))
    }
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
    let dz = work.scaled(decodeBackward(dRaw, s, in: work), by: 1 / scalingFactor)
    guard let frames = s.frames else { return dz }
    var all = work.zeros(s.input, dz.type)
    for (i, frame) in frames.enumerated() {
      work.place(
        work.narrowed(dz, axis: 2, i..<i + 1), into: &all, axis: 2, at: frame, accumulate: true)
    }
    return all
  }
  private mutating func decodeBackward(_ dRaw: Tensor, _ s: Saved, in work: borrowing Workspace)
    -> Tensor
  {
    func chunks<Saved>(
      _ list: [(frames: Int, saved: Saved)], _ backward: (Tensor, Saved) -> Tensor
    ) -> Tensor {
      var parts: [Tensor] = []
      var start = 0
      for (frames, saved) in list {
        parts.append(backward(work.narrowed(dRaw, axis: 2, start..<start + frames), saved))
        start += frames
      }
      return parts.count == 1 ? parts[0] : work.concatenated(parts, axis: 2)
    }
    switch (network, s.parts) {
    case (.clips(var decoder), .clips(let list)):
      let dz = chunks(list) { decoder.backward($0, $1, in: work) }
      network = .clips(decoder)
      return dz
    case (.clips(let decoder), .strips(let list)):
      return chunks(list) { decoder.backward($0, $1, in: work) }
    case (.frames(var decoder), .frames(let saved)):
      let dz = decoder.backward(ClipFrames.images(dRaw, in: work), saved, in: work)
      network = .frames(decoder)
      return ClipFrames.clip(dz, of: dRaw.shape, in: work)
    default: preconditionFailure("what another network saved")
    }
  }

  /// Some frames of `[B, C, T, H, W]`.
  private static func frames(_ list: [Int], of z: Tensor, in work: borrowing Workspace) -> Tensor {
    work.concatenated(list.map { work.narrowed(z, axis: 2, $0..<$0 + 1) }, axis: 2)
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
