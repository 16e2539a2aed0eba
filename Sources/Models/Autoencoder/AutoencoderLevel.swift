import Layers
import TensorRuntime

/// A level of the autoencoder: residual blocks, then the convolution to the next level, strided in
/// the encoder and upsampling in the decoder; the last level has none (algorithm.md 6.15).
struct AutoencoderLevel: Layer {
  var residuals: [ResidualBlock]
  var resampler: Convolution?

  struct Saved: Sendable { let residuals: [ResidualBlock.Saved], resampler: Convolution.Saved? }

  func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    var h = x
    var saved: [ResidualBlock.Saved] = []
    for r in residuals {
      let (y, s) = r.forward(h, in: work)
      saved.append(s)
      h = y
    }
    guard let resampler else { return (h, Saved(residuals: saved, resampler: nil)) }
    let (y, s) = resampler.forward(h, in: work)
    return (y, Saved(residuals: saved, resampler: s))
  }
  mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    var dh = dy
    if let saved = s.resampler { dh = resampler!.backward(dy, saved, in: work) }
    for i in residuals.indices.reversed() {
      dh = residuals[i].backward(dh, s.residuals[i], in: work)
    }
    return dh
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try residuals.forEachParameter(body)
    try resampler.forEachParameter(body)
  }
}
