import Layers
import TensorRuntime

/// The two families of autoencoders that have the same blocks. They differ in the convolutions and
/// in the names of the parts.
enum AutoencoderFamily {
  /// HunyuanVideo's: causal in time; the names of diffusers.
  case video
  /// Stable Diffusion's: each frame by itself, with zeros around; the original names.
  case image

  func convolution(
    _ name: String, _ input: Int, _ output: Int, kernel: Int, from source: ParameterSource
  ) throws -> Convolution {
    switch self {
    case .video: try .causal("\(name).conv", input, output, kernel: kernel, from: source)
    case .image: try .image(name, input, output, kernel: kernel, from: source)
    }
  }

  /// The convolution beside a residual block that changes the number of channels.
  var shortcut: String { self == .video ? "conv_shortcut" : "nin_shortcut" }
  /// The parts of a middle block.
  var middle: (first: String, attention: String, second: String) {
    self == .video ? ("resnets.0", "attentions.0", "resnets.1") : ("block_1", "attn_1", "block_2")
  }
  /// The parts of the attention.
  var attention: (norm: String, query: String, key: String, value: String, out: String) {
    self == .video
      ? ("group_norm", "to_q", "to_k", "to_v", "to_out.0") : ("norm", "q", "k", "v", "proj_out")
  }
  /// Trailing axes of the attention's matrices, which are convolutions of one cell in the original.
  var cellAxes: Int { self == .video ? 0 : 2 }
}
