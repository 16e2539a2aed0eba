public import TensorRuntime

/// Clips side by side: a row for each prompt, with its frames before on the left and after on the
/// right.
public enum ClipSheet {
  /// Clips `[T, 3, H, W]` in rows; every `frameStep`-th frame, pixels enlarged `scale` times.
  public static func picture(_ rows: [[Tensor]], frameStep: Int = 2, scale: Int = 2) -> PNGImage {
    let first = rows[0][0].shape
    let (t, h, w) = (first[0], first[2], first[3])
    let frames = Array(stride(from: 0, to: t, by: frameStep))
    let gap = 4
    let gutter = 16
    let block = frames.count * (w * scale + gap) - gap
    let columns = rows.map(\.count).max() ?? 1
    let width = columns * block + (columns - 1) * gutter
    let height = rows.count * (h * scale + gap) - gap
    var out = [UInt8](repeating: 255, count: width * height * 3)
    for (r, row) in rows.enumerated() {
      for (c, clip) in row.enumerated() {
        let x = clip.floats
        for (f, frame) in frames.enumerated() {
          let left = c * (block + gutter) + f * (w * scale + gap)
          let top = r * (h * scale + gap)
          for i in 0..<h * scale {
            for j in 0..<w * scale {
              let at = ((top + i) * width + left + j) * 3
              for k in 0..<3 {
                out[at + k] = byte(x[((frame * 3 + k) * h + i / scale) * w + j / scale])
              }
            }
          }
        }
      }
    }
    return PNGImage(width: width, height: height, pixels: out)
  }
  /// The frames of one clip `[T, 3, H, W]` side by side, pixel for pixel.
  public static func strip(_ clip: Tensor) -> PNGImage {
    let (t, h, w) = (clip.shape[0], clip.shape[2], clip.shape[3])
    let x = clip.floats
    var out = [UInt8](repeating: 0, count: t * h * w * 3)
    for f in 0..<t {
      for k in 0..<3 {
        for i in 0..<h {
          for j in 0..<w {
            out[((i * t + f) * w + j) * 3 + k] = byte(x[((f * 3 + k) * h + i) * w + j])
          }
        }
      }
    }
    return PNGImage(width: t * w, height: h, pixels: out)
  }
  /// The same as one clip `[T, 3, H', W']` for a GIF, in which each cell plays.
  public static func movie(_ rows: [[Tensor]], scale: Int = 2) -> Tensor {
    let first = rows[0][0].shape
    let (t, h, w) = (first[0], first[2], first[3])
    let gap = 4
    let gutter = 12
    let columns = rows.map(\.count).max() ?? 1
    let height = rows.count * (h * scale + gap) - gap
    let width = columns * (w * scale + gutter) - gutter
    // Even sides, which video encoders require.
    let (eh, ew) = (height + height % 2, width + width % 2)
    var out = [Float](repeating: 1, count: t * 3 * eh * ew)
    for (r, row) in rows.enumerated() {
      for (c, clip) in row.enumerated() {
        let x = clip.floats
        for f in 0..<t {
          for k in 0..<3 {
            for i in 0..<h * scale {
              for j in 0..<w * scale {
                out[
                  ((f * 3 + k) * eh + r * (h * scale + gap) + i) * ew + c * (w * scale + gutter) + j
                ] = x[((f * 3 + k) * h + i / scale) * w + j / scale]
              }
            }
          }
        }
      }
    }
    return Tensor(out, Shape(t, 3, eh, ew))
  }
  private static func byte(_ x: Float) -> UInt8 { UInt8(min(max(x, 0), 1) * 255 + 0.5) }
}
