/// Which clips an autoencoder takes, and what latents it makes of them.
public protocol ClipGeometry: Sendable {
  /// Pixels per latent along H and W, and frames per latent after the first.
  var spatialCompressionRatio: Int { get }
  var temporalCompressionRatio: Int { get }
  var latentChannels: Int { get }
  /// Latents are multiplied by it when they enter a generator.
  var scalingFactor: Double { get }
}
extension ClipGeometry {
  /// `[B, C, n, h, w]` of a clip's latents.
  public func latentShape(batch: Int, frames: Int, height: Int, width: Int) -> [Int] {
    [
      batch, latentChannels, (frames - 1) / temporalCompressionRatio + 1,
      height / spatialCompressionRatio, width / spatialCompressionRatio,
    ]
  }
  public func frames(latents n: Int) -> Int { 1 + (n - 1) * temporalCompressionRatio }
}
extension AutoencoderConfig: ClipGeometry {}
/// Each frame by itself.
extension ImageAutoencoderConfig: ClipGeometry {
  public var spatialCompressionRatio: Int { ratio }
  public var temporalCompressionRatio: Int { 1 }
  public var latentChannels: Int { embedDim }
}
