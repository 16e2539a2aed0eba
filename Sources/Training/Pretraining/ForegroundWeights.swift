public import TensorRuntime

/// Weights for a reconstruction loss: `weight` where a pixel, or a neighbour of it, differs from
/// the clip's median colour by more than a threshold in some channel; 1 elsewhere (world.md 3.2).
public enum ForegroundWeights {
  /// clips `[B, T, 3, H, W]` to weights of the same shape.
  public static func compute(
    _ clips: Tensor, weight: Float, threshold: Float = 0.25, in work: borrowing Workspace
  ) -> Tensor {
    let (b, t, h, w) = (clips.shape[0], clips.shape[1], clips.shape[3], clips.shape[4])
    let plane = h * w
    var out = work.tensor(clips.shape)
    clips.withSpan(of: Float.self) { x in
      out.withMutableSpan(of: Float.self) { y in
        var near = [Bool](repeating: false, count: plane)
        for i in 0..<b {
          let median = (0..<3).map { c in
            Self.median(x, clip: i * t * 3 * plane, channel: c, frames: t, plane: plane)
          }
          for f in 0..<t {
            let base = (i * t + f) * 3 * plane
            for p in 0..<plane { near[p] = false }
            for p in 0..<plane
            where (0..<3).contains(where: { abs(x[base + $0 * plane + p] - median[$0]) > threshold }
            ) {
              let (row, column) = (p / w, p % w)
              for r in max(row - 1, 0)...min(row + 1, h - 1) {
                for c in max(column - 1, 0)...min(column + 1, w - 1) { near[r * w + c] = true }
              }
            }
            for c in 0..<3 { for p in 0..<plane { y[base + c * plane + p] = near[p] ? weight : 1 } }
          }
        }
      }
    }
    return out
  }
  /// The median of a channel over all frames, to 1/512.
  private static func median(_ x: Span<Float>, clip: Int, channel: Int, frames: Int, plane: Int)
    -> Float
  {
    var histogram = [Int](repeating: 0, count: 512)
    for f in 0..<frames {
      let base = clip + (f * 3 + channel) * plane
      for p in 0..<plane { histogram[min(max(Int(x[base + p] * 512), 0), 511)] += 1 }
    }
    var seen = 0
    for (bin, n) in histogram.enumerated() {
      seen += n
      if 2 * seen >= frames * plane { return (Float(bin) + 0.5) / 512 }
    }
    return 0
  }
}
