import Layers
import TensorRuntime

/// A level of the autoencoder: residual blocks, then the convolution to the next level, strided in
/// the encoder and upsampling in the decoder; the last level has none (algorithm.md 6.15).
struct AutoencoderLevel: Layer {
  var residuals: [ResidualBlock]
  var resampler: Convolution?
  /// Whether a row and a column of zeros follow the last before `resampler`: Stable Diffusion's
  /// encoder pads at one side only (videocrafter.md 3).
  var padsEnd = false

  struct Saved: SavedTensors {
    var residuals: [ResidualBlock.Saved], resampler: Convolution.Saved?
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      residuals.forEachTensor(body)
      resampler.forEachTensor(body)
    }
  }

  /// With `keeping` false the residual blocks keep nothing for backward.
  func forward(_ x: Tensor, keeping: Bool = true, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    var h = x
    var saved: [ResidualBlock.Saved] = []
    for r in residuals {
      var (y, s) = r.forward(h, in: work)
      h = y
      if keeping {
        work.narrow(&s)
        saved.append(s)
      }
    }
    guard let resampler else { return (h, Saved(residuals: saved, resampler: nil)) }
    let (y, s) = resampler.forward(padsEnd ? work.withZerosAtEnd(h) : h, in: work)
    return (y, Saved(residuals: saved, resampler: s))
  }
  mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    var dh = dy
    if let saved = s.resampler {
      dh = resampler!.backward(dy, saved, in: work)
      if padsEnd { dh = work.withoutEnd(dh) }
    }
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

extension Workspace {
  /// x `[B, C, T, H, W]` with a row and a column of zeros after the last.
  fileprivate func withZerosAtEnd(_ x: Tensor) -> Tensor {
    let s = x.shape
    var y = zeros(Shape(s[0], s[1], s[2], s[3] + 1, s[4] + 1), x.type)
    placeBlock(x, into: &y, row: 0, column: 0)
    return y
  }
  /// Its mirror: without the last row and column.
  fileprivate func withoutEnd(_ d: Tensor) -> Tensor {
    narrowed(narrowed(d, axis: 3, 0..<d.shape[3] - 1), axis: 4, 0..<d.shape[4] - 1)
  }
}
