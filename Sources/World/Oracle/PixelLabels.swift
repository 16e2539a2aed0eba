internal import TensorRuntime

/// The colour of every pixel of a clip, and its coverage (world.md 2.1, 2.2).
///
/// With b the background, d = pixel − b and u_k = c_k − b: a_k = clamp(⟨d, u_k⟩/‖u_k‖², 0, 1.1) and
/// the residual is ‖d − a_k u_k‖². The label is the colour with the smallest residual, and the
/// coverage is its a_k, at most 1. A pixel with a coverage of at most ¼ has no label.
struct PixelLabels {
  let frames: Int, height: Int, width: Int
  /// Pixels per unit of length.
  let scale: Double
  /// `[T,3,H,W]`, clamped to [0,1]; NaN becomes 0.
  let pixels: [Float]
  /// Median of each channel over the clip.
  let background: SIMD3<Float>
  /// `[T,H,W]`: raw value of the colour, or −1.
  private(set) var label: [Int8]
  private(set) var coverage: [Float]
  /// Squared distance from the line between background and colour.
  private(set) var residual: [Float]
  /// Whether a frame shows exactly what the one before showed.
  private(set) var repeats: [Bool]

  var planeCount: Int { height * width }

  init(_ clip: Tensor) {
    let shape = clip.shape
    precondition(
      shape.rank == 4 && shape[1] == 3 && shape.count > 0, "a clip is [T, 3, H, W], not \(shape)")
    (frames, height, width) = (shape[0], shape[2], shape[3])
    scale = Double(min(height, width)) / 32
    var values = clip.floats
    for i in values.indices { values[i] = values[i] > 0 ? min(values[i], 1) : 0 }
    pixels = values
    let plane = height * width
    label = Array(repeating: -1, count: frames * plane)
    coverage = Array(repeating: 0, count: frames * plane)
    residual = coverage
    repeats = Array(repeating: false, count: frames)
    background = SIMD3(
      Self.median(values, 0, plane, frames), Self.median(values, 1, plane, frames),
      Self.median(values, 2, plane, frames))
    for t in 0..<frames {
      let start = t * 3 * plane
      repeats[t] = t > 0 && values[start..<start + 3 * plane] == values[start - 3 * plane..<start]
      if repeats[t] { repeatFrame(t) } else { labelFrame(t) }
    }
  }

  private mutating func repeatFrame(_ t: Int) {
    for i in t * planeCount..<(t + 1) * planeCount {
      (label[i], coverage[i], residual[i]) = (
        label[i - planeCount], coverage[i - planeCount], residual[i - planeCount]
      )
    }
  }

  private mutating func labelFrame(_ t: Int) {
    let plane = planeCount
    // A colour equal to the background cannot be seen.
    let axes = Colour.allCases.map { $0.rgb - background }
    let lengths = axes.map { ($0 * $0).sum() }
    let inverse = lengths.map { $0 > 1e-3 ? 1 / $0 : 0 }
    // Coverage above ¼ needs ‖d‖ > ‖u_k‖/4 (Cauchy-Schwarz). For most background pixels the search
    // stops here.
    let least = lengths.filter { $0 > 1e-3 }.min()! / 16
    for i in 0..<plane {
      let p = t * 3 * plane + i
      let d = SIMD3(pixels[p], pixels[p + plane], pixels[p + 2 * plane]) - background
      let square = d.x * d.x + d.y * d.y + d.z * d.z
      if square < least { continue }
      var best = Float.infinity
      var bestLabel = 0
      var bestCoverage: Float = 0
      for k in 0..<axes.count {
        let u = axes[k]
        let dot = d.x * u.x + d.y * u.y + d.z * u.z
        let a = min(max(dot * inverse[k], 0), 1.1)
        let distance = square - a * (2 * dot - a * lengths[k])
        if distance < best { (best, bestLabel, bestCoverage) = (distance, k, a) }
      }
      if bestCoverage > 0.25 {
        label[t * plane + i] = Int8(bestLabel)
        coverage[t * plane + i] = min(bestCoverage, 1)
        residual[t * plane + i] = max(best, 0)
      }
    }
  }

  /// Median to 1/4096, by counting.
  private static func median(_ values: [Float], _ channel: Int, _ plane: Int, _ frames: Int)
    -> Float
  {
    var counts = Array(repeating: Int32(0), count: 2049)
    for t in 0..<frames {
      let start = (t * 3 + channel) * plane
      for i in start..<start + plane { counts[Int(values[i] * 2048 + 0.5)] += 1 }
    }
    var left = Int32(frames * plane / 2)
    var bin = 0
    while bin < 2048 && counts[bin] <= left {
      left -= counts[bin]
      bin += 1
    }
    return Float(bin) / 2048
  }
}
