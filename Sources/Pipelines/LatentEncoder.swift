public import Models
public import TensorRuntime

/// The frozen encoder that turns clips into latents: the posterior's mean.
public struct LatentEncoder: Sendable {
  /// An autoencoder of clips, or of single frames.
  public enum Network: Sendable {
    case clips(AutoencoderEncoder)
    case frames(ImageAutoencoderEncoder)
  }
  private let network: Network
  public let geometry: any ClipGeometry

  public init(_ network: Network) {
    self.network = network
    geometry =
      switch network {
      case .clips(let encoder): encoder.config
      case .frames(let encoder): encoder.config
      }
  }
  /// Channels of the first level, of which there are as many planes as pixels of a clip.
  public var firstChannels: Int {
    switch network {
    case .clips(let encoder): encoder.config.blockOutChannels[0]
    case .frames(let encoder): encoder.config.levelChannels[0]
    }
  }
  /// Clips `[B, T, 3, H, W]` in [0, 1] to latents `[B, C, n, h, w]`, not scaled.
  public func callAsFunction(_ clips: Tensor, in work: borrowing Workspace) -> Tensor {
    let x = PixelRange.centered(clips, in: work)
    switch network {
    case .clips(let encoder):
      return LatentPosterior(encoder.forward(x, in: work).y, in: work).mean
    case .frames(let encoder):
      let moments = encoder(ClipFrames.images(x, in: work), in: work)
      return ClipFrames.clip(LatentPosterior(moments, in: work).mean, of: x.shape, in: work)
    }
  }
}
