import Diffusion
import Files
import Layers
import Models
import TensorRuntime
import TestSupport

/// VideoCrafter2's parts (specification: videocrafter.md).
extension GoldenTests {
  static let shortVideoKinds: [String: Evaluator] = [
    "videocrafter.unet": { g in try unet(g) }
  ]

  private static func scales(_ g: GoldenCase, _ name: String) throws -> [Double]? {
    g.has("input.\(name)") ? try g.input(name).doubles : nil
  }
  private static func unet(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: VideoUNetConfig = try g.decode()
    var model = try VideoUNet(config, from: g.source())
    model.makeTrainable(in: work)
    let condition = VideoUNet.Condition(
      text: try g.input("text_embeds"), fps: try g.input("fps").floats,
      guidance: try scales(g, "guidance_scale"), motion: try scales(g, "motion_scale"))
    // Some cases recompute their parts, so that both paths are held to the reference.
    let (noise, saved) = model.forward(
      try g.input("latents"), times: try g.input("timestep").floats, condition,
      checkpointing: config.channelMult.last! > 1, in: work)
    let d = model.backward(try g.gradOutput("noise")!, saved, wantsInputs: true, in: work)
    var all = g.gradients(of: model)
    all["output.noise"] = noise
    all["output.embedding"] = saved.vector
    all["grad.input.latents"] = d.latents
    all["grad.input.text_embeds"] = d.text
    return all
  }
}
