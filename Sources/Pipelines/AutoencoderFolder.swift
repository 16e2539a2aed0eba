import Files
public import Models

/// An autoencoder's directory: of clips (HunyuanVideo), or of single frames (Stable Diffusion), as
/// its `config.json` says.
public struct AutoencoderFolder: Sendable {
  public let path: String
  public init(_ path: String) { self.path = path }

  private func isOfFrames() throws -> Bool {
    try JSONValue(contentsOf: "\(path)/config.json")["ch_mult"] != nil
  }
  public func geometry() throws -> any ClipGeometry {
    if try isOfFrames() { return try ModelFolder.config(path, as: ImageAutoencoderConfig.self) }
    return try ModelFolder.config(path, as: AutoencoderConfig.self)
  }
  private func weights() throws -> WeightHolder {
    try WeightHolder.opening(path, stripping: ["vae."])
  }
  public func decoder(chunk: Int = 0, checkpointing: Bool = false) throws -> LatentDecoder {
    let source = try weights().source
    let network: LatentDecoder.Network =
      try isOfFrames()
      ? .frames(try ImageAutoencoderDecoder(try ModelFolder.config(path), from: source))
      : .clips(try AutoencoderDecoder(try ModelFolder.config(path), from: source))
    return LatentDecoder(network, chunk: chunk, checkpointing: checkpointing)
  }
  public func encoder() throws -> LatentEncoder {
    let source = try weights().source
    return LatentEncoder(
      try isOfFrames()
        ? .frames(try ImageAutoencoderEncoder(try ModelFolder.config(path), from: source))
        : .clips(try AutoencoderEncoder(try ModelFolder.config(path), from: source)))
  }
}
