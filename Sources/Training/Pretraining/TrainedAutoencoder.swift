import Layers
import Models
import Pipelines
import TensorRuntime

/// An autoencoder as `train vae` trains it, of clips or of single frames: pixels `[B, 3, T, H, W]`
/// in [-1, 1] to moments `[B, 2 C, n, h, w]`, and latents to pixels.
protocol TrainedAutoencoder: Layer {
  associatedtype Encoded: Sendable
  associatedtype Decoded: Sendable
  func encode(_ x: Tensor, in work: borrowing Workspace) -> (moments: Tensor, saved: Encoded)
  mutating func encodeBackward(_ d: Tensor, _ s: Encoded, in work: borrowing Workspace)
  func decode(_ z: Tensor, in work: borrowing Workspace) -> (pixels: Tensor, saved: Decoded)
  /// Returns the gradient of the latents.
  mutating func decodeBackward(_ d: Tensor, _ s: Decoded, in work: borrowing Workspace) -> Tensor
  /// For the scaling factor, which export measures.
  var latentEncoder: LatentEncoder { get }
  func write(scalingFactor: Double, to folder: String) throws
}

/// HunyuanVideo's.
struct ClipAutoencoder: TrainedAutoencoder {
  var encoder: AutoencoderEncoder
  var decoder: AutoencoderDecoder

  init(_ config: AutoencoderConfig, from source: ParameterSource) throws {
    encoder = try AutoencoderEncoder(config, from: source)
    decoder = try AutoencoderDecoder(config, from: source)
  }
  func encode(_ x: Tensor, in work: borrowing Workspace) -> (
    moments: Tensor, saved: AutoencoderEncoder.Saved
  ) {
    let (y, s) = encoder.forward(x, in: work)
    return (y, s)
  }
  mutating func encodeBackward(
    _ d: Tensor, _ s: AutoencoderEncoder.Saved, in work: borrowing Workspace
  ) { encoder.backward(d, s, wantsInput: false, in: work) }
  func decode(_ z: Tensor, in work: borrowing Workspace) -> (
    pixels: Tensor, saved: AutoencoderDecoder.Saved
  ) {
    let (y, s) = decoder.forward(z, in: work)
    return (y, s)
  }
  mutating func decodeBackward(
    _ d: Tensor, _ s: AutoencoderDecoder.Saved, in work: borrowing Workspace
  ) -> Tensor { decoder.backward(d, s, in: work) }

  var latentEncoder: LatentEncoder { LatentEncoder(.clips(encoder)) }
  func write(scalingFactor: Double, to folder: String) throws {
    var config = encoder.config
    config.scalingFactor = scalingFactor
    try ModelFolder.write(
      self, config: config, kind: "AutoencoderKLHunyuanVideo",
      weights: "diffusion_pytorch_model.safetensors", to: folder)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try encoder.forEachParameter(body)
    try decoder.forEachParameter(body)
  }
}

/// Stable Diffusion's.
struct FrameAutoencoder: TrainedAutoencoder {
  var encoder: ImageAutoencoderEncoder
  var decoder: ImageAutoencoderDecoder

  init(_ config: ImageAutoencoderConfig, from source: ParameterSource) throws {
    encoder = try ImageAutoencoderEncoder(config, from: source)
    decoder = try ImageAutoencoderDecoder(config, from: source)
  }
  struct Encoded: Sendable { let clip: Shape, saved: ImageAutoencoderEncoder.Saved }
  struct Decoded: Sendable { let clip: Shape, saved: ImageAutoencoderDecoder.Saved }

  func encode(_ x: Tensor, in work: borrowing Workspace) -> (moments: Tensor, saved: Encoded) {
    let (y, s) = encoder.forward(ClipFrames.images(x, in: work), in: work)
    return (ClipFrames.clip(y, of: x.shape, in: work), Encoded(clip: x.shape, saved: s))
  }
  mutating func encodeBackward(_ d: Tensor, _ s: Encoded, in work: borrowing Workspace) {
    encoder.backward(ClipFrames.images(d, in: work), s.saved, wantsInput: false, in: work)
  }
  func decode(_ z: Tensor, in work: borrowing Workspace) -> (pixels: Tensor, saved: Decoded) {
    let (y, s) = decoder.forward(ClipFrames.images(z, in: work), in: work)
    return (ClipFrames.clip(y, of: z.shape, in: work), Decoded(clip: z.shape, saved: s))
  }
  mutating func decodeBackward(_ d: Tensor, _ s: Decoded, in work: borrowing Workspace) -> Tensor {
    ClipFrames.clip(
      decoder.backward(ClipFrames.images(d, in: work), s.saved, in: work), of: s.clip, in: work)
  }

  var latentEncoder: LatentEncoder { LatentEncoder(.frames(encoder)) }
  func write(scalingFactor: Double, to folder: String) throws {
    var config = encoder.config
    config.scalingFactor = scalingFactor
    try ModelFolder.write(
      self, config: config, kind: "AutoencoderKL",
      weights: "diffusion_pytorch_model.safetensors", to: folder)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try encoder.forEachParameter(body)
    try decoder.forEachParameter(body)
  }
}
