internal import Glibc

extension ShapeKind {
  /// Signed distance from the outline at unit radius, negative inside, at (x, y) with y down
  /// (world.md 1.2).
  ///
  /// Near corners this is the largest distance from the line of an edge, not the Euclidean
  /// distance. The coverage `clamp(½ − d)` of an edge needs this one, and it is cheaper.
  @inline(__always) func distance(_ x: Float, _ y: Float) -> Float {
    switch self {
    case .circle: return (x * x + y * y).squareRoot() - 1
    case .square: return max(abs(x), abs(y)) - 0.88
    case .triangle:
      let side = 0.8660254 * abs(x) - 0.5 * y
      return max(y, side) - 0.62
    case .star:
      // Mirror the plane twice to the half tip that points up, so that |angle to the nearest tip| ≤
      // 36°.
      var (px, py) = (abs(x), -y)
      let first = max(Star.mirrorX * px - Star.mirrorY * py, 0)
      px -= 2 * first * Star.mirrorX
      py += 2 * first * Star.mirrorY
      let second = max(-Star.mirrorX * px - Star.mirrorY * py, 0)
      px += 2 * second * Star.mirrorX
      py += 2 * second * Star.mirrorY
      return Star.normalX * abs(px) + Star.normalY * (py - Star.tip)
    case .cross:
      let (ax, ay) = (abs(x), abs(y))
      return min(max(ax - 1.12, ay - 0.38), max(ay - 1.12, ax - 0.38))
    case .ring: return abs((x * x + y * y).squareRoot() - 0.78) - 0.27
    }
  }

  /// Half the side of a box around the shape at unit radius at any angle: the distance of the
  /// farthest corner.
  var reach: Double {
    switch self {
    case .circle: 1
    case .square: 0.88 * 2.0.squareRoot()
    case .triangle: 1.24
    case .star: 1.25
    case .cross: 1.183
    case .ring: 1.05
    }
  }
  /// The extent with which the recipe plans paths: 1.2 r, 1.25 r for the star.
  var layoutExtent: Double { self == .star ? 1.25 : 1.2 }

  /// Area at unit radius, from a rendering at r = 10: Σ coverage / 100.
  var unitArea: Double { Self.unitAreas[Int(rawValue)] }
  private static let unitAreas: [Double] = allCases.map { shape in
    var sum = 0.0
    for y in -16..<16 {
      for x in -16..<16 {
        sum += Double(
          min(max(0.5 - 10 * shape.distance((Float(x) + 0.5) / 10, (Float(y) + 0.5) / 10), 0), 1))
      }
    }
    return sum / 100
  }

  /// The star's geometry: tip (0, 1.25), notch .52 (sin 36°, cos 36°), y up.
  private enum Star {
    static let tip: Float = 1.25
    static let mirrorX: Float = 0.809017  // cos 36°
    static let mirrorY: Float = 0.58778525  // sin 36°
    static let edge = SIMD2<Float>(0.52 * mirrorY, 0.52 * mirrorX - tip)
    static let normalX = -edge.y / (edge * edge).sum().squareRoot()
    static let normalY = edge.x / (edge * edge).sum().squareRoot()
  }
}
