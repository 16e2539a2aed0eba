import Files
import Layers
import Models
import TensorRuntime
import TestSupport

extension GoldenTests {
  static let imageAutoencoderKinds: [String: Evaluator] = [
    "videocrafter.vae_encode": { g in try encodeImages(g) },
    "videocrafter.vae_decode": { g in try decodeImages(g) },
  ]

  private static func encodeImages(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: ImageAutoencoderConfig = try g.decode()
    var encoder = try ImageAutoencoderEncoder(config, from: g.source())
    encoder.makeTrainable(in: work)
    // One case in two recomputes, so that both paths are held to the reference.
    let (moments, saved) = encoder.forward(
      try g.input("pixels"), checkpointing: config.channels > 2, in: work)
    let dx = encoder.backward(try g.gradOutput("moments")!, saved, in: work)
    let posterior = LatentPosterior(moments, in: work)
    var all = g.gradients(of: encoder)
    all["output.moments"] = moments
    all["output.mean"] = posterior.mean
    all["output.std"] = posterior.deviation(in: work)
    all["output.scaled_sample"] = work.scaled(
      posterior.sample(try g.input("noise"), in: work), by: config.scalingFactor)
    all["grad.input.pixels"] = dx
    return all
  }
  private static func decodeImages(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: ImageAutoencoderConfig = try g.decode()
    var decoder = try ImageAutoencoderDecoder(config, from: g.source())
    decoder.makeTrainable(in: work)
    let (pixels, saved) = decoder.forward(
      try g.input("latents"), checkpointing: config.channels > 2, in: work)
    let dz = decoder.backward(try g.gradOutput("pixels")!, saved, in: work)
    return g.gradients(of: decoder).merging(["output.pixels": pixels, "grad.input.latents": dz]) {
      a, _ in a
    }
  }
}
