/// How well each of the six shapes fits a blob (world.md 2.4): the soft IoU, Σmin/Σmax, of its
/// coverage and a template with the same centre and area. The best of 12 angles over the shape's
/// period counts.
struct ShapeFit {
  /// For each shape the best score in [0,1] and its angle in radians, refined by a parabola through
  /// the neighbouring angles.
  private(set) var score = Array(repeating: 0.0, count: ShapeKind.allCases.count)
  private(set) var angle = Array(repeating: 0.0, count: ShapeKind.allCases.count)

  static let angleCount = 12

  /// The shape that fits best.
  var best: ShapeKind { Self.best(score) }
  static func best(_ score: [Double]) -> ShapeKind {
    ShapeKind.allCases.max { score[Int($0.rawValue)] < score[Int($1.rawValue)] }!
  }

  /// `mask` `[H,W]` is the coverage of the blob, and 0 elsewhere.
  init(_ blob: Blob, mask: [Float], height: Int, width: Int, template: inout CoverageMask) {
    for shape in ShapeKind.allCases {
      let radius = (blob.mass / shape.unitArea).squareRoot()
      func fit(_ angle: Double) -> Double {
        template.draw(
          shape, centre: blob.centre, radius: radius, angle: angle, height: height, width: width)
        return template.softIoU(mask, sum: blob.mass, width: width)
      }
      guard let period = shape.period else {
        score[Int(shape.rawValue)] = fit(0)
        continue
      }
      let step = period / Double(Self.angleCount)
      let fits = (0..<Self.angleCount).map { fit(Double($0) * step) }
      let i = fits.indices.max { fits[$0] < fits[$1] }!
      let (before, at, after) = (
        fits[(i + fits.count - 1) % fits.count], fits[i], fits[(i + 1) % fits.count]
      )
      let bend = before - 2 * at + after
      score[Int(shape.rawValue)] = at
      angle[Int(shape.rawValue)] =
        (Double(i) + (bend < 0 ? 0.5 * (before - after) / bend : 0)) * step
    }
  }
}

extension CoverageMask {
  /// Σmin/Σmax of this coverage and of `mask` (row-major, of the whole picture, with sum `sum`).
  func softIoU(_ mask: [Float], sum: Double, width: Int) -> Double {
    var least: Float = 0
    var own: Float = 0
    var k = 0
    for y in rows {
      var i = y * width + columns.lowerBound
      for _ in columns {
        least += min(values[k], mask[i])
        own += values[k]
        k += 1
        i += 1
      }
    }
    // Σmax = Σa + Σb − Σmin.
    let union = Double(own) + sum - Double(least)
    return union > 0 ? Double(least) / union : 0
  }
}
