import Files
import Layers
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
  /// A copy of encoder and decoder alone, whatever else the folder holds.
  public func write(to folder: String) throws {
    let source = try weights().source
    func copy(
      _ parts: some Layer, _ config: some Encodable, _ kind: String
    ) throws {
      try ModelFolder.write(
        parts, config: config, kind: kind, weights: "diffusion_pytorch_model.safetensors",
        to: folder)
    }
    if try isOfFrames() {
      let config: ImageAutoencoderConfig = try ModelFolder.config(path)
      let parts = Parts(
        encoder: try ImageAutoencoderEncoder(config, from: source),
        decoder: try ImageAutoencoderDecoder(config, from: source))
      try copy(parts, config, "AutoencoderKL")
    } else {
      let config: AutoencoderConfig = try ModelFolder.config(path)
      let parts = Parts(
        encoder: try AutoencoderEncoder(config, from: source),
        decoder: try AutoencoderDecoder(config, from: source))
      try copy(parts, config, "AutoencoderKLHunyuanVideo")
    }
  }
  private struct Parts<Encoder: Layer, Decoder: Layer>: Layer {
    var encoder: Encoder
    var decoder: Decoder
    mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
      try encoder.forEachParameter(body)
      try decoder.forEachParameter(body)
    }
  }
}
