internal import Glibc

/// The coverage of a shape over the pixels of a box around it.
struct CoverageMask {
  private(set) var rows = 0..<0, columns = 0..<0
  /// Row-major over the box. Elements after the box have no meaning.
  private(set) var values: [Float] = []

  /// Centre and radius in pixels, x to the right and y down from the corner. The box is cut at the
  /// edges of the picture. A blend mixes the distances of two shapes.
  mutating func draw(
    _ shape: ShapeKind, centre: SIMD2<Double>, radius: Double, angle: Double,
    blend: ShapeObject.Blend? = nil, height: Int, width: Int
  ) {
    // Two pixels beyond the corners: half a pixel at an edge becomes 1/sin(20°) times as much at
    // the tip of a star.
    let reach = max(shape.reach, blend?.shape.reach ?? 0) * radius + 2
    rows = Self.range(centre.y, reach, height)
    columns = Self.range(centre.x, reach, width)
    let count = rows.count * columns.count
    if values.count < count { values = Array(repeating: 0, count: count) }
    let (c, s) = (Float(cos(angle) / radius), Float(sin(angle) / radius))
    let r = Float(radius)
    let (x0, y0) = (Float(0.5 - centre.x), Float(0.5 - centre.y))
    var k = 0
    for y in rows {
      let dy = Float(y) + y0
      for x in columns {
        let dx = Float(x) + x0
        let (u, v) = (dx * c + dy * s, dy * c - dx * s)
        var d = shape.distance(u, v)
        if let blend { d += Float(blend.share) * (blend.shape.distance(u, v) - d) }
        values[k] = min(max(0.5 - r * d, 0), 1)
        k += 1
      }
    }
  }

  private static func range(_ centre: Double, _ reach: Double, _ count: Int) -> Range<Int> {
    let low = min(max(Int((centre - reach).rounded(.down)), 0), count)
    return low..<max(low, min(Int((centre + reach).rounded(.up)), count))
  }
}
