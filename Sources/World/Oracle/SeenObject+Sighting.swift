internal import Glibc

extension SeenObject {
  /// Reads one object from its track. An object is present in a frame if its area exceeds 6 square
  /// units.
  init(_ track: Track, _ blobs: borrowing Blobs, _ labels: borrowing PixelLabels) {
    let (height, width, scale) = (labels.height, labels.width, labels.scale)
    let middle = SIMD2(Double(width), Double(height)) / 2
    var mask: [Float] = []
    var template = CoverageMask()
    var fits: [ShapeFit?] = []
    var found: [Blob?] = []
    for t in 0..<labels.frames {
      guard let k = track.blob[t], Double(blobs.blobs[t][k].area) > 6 * scale * scale else {
        fits.append(nil)
        found.append(nil)
        continue
      }
      let blob = blobs.blobs[t][k]
      found.append(blob)
      if labels.repeats[t], let last = fits[t - 1], track.blob[t - 1] == k {
        fits.append(last)
      } else {
        blobs.mask(of: k, blob, frame: t, labels, into: &mask)
        fits.append(ShapeFit(blob, mask: mask, height: height, width: width, template: &template))
      }
    }
    let seen = fits.compactMap { $0 }
    let score = ShapeKind.allCases.map { shape in
      seen.reduce(0) { $0 + $1.score[Int(shape.rawValue)] } / Double(max(seen.count, 1))
    }
    let shape = ShapeFit.best(score)
    let s = Int(shape.rawValue)
    path = zip(found, fits).map { blob, fit in
      guard let blob, let fit else { return nil }
      return Sighting(
        centre: (blob.centre - middle) / scale,
        radius: (blob.mass / shape.unitArea).squareRoot() / scale, angle: fit.angle[s])
    }
    let sightings = path.compactMap { $0 }
    let n = Double(max(sightings.count, 1))
    (self.colour, self.shape, fit, area) = (track.colour, shape, score[s], track.area)
    radius = sightings.reduce(0) { $0 + $1.radius } / n
    centre = sightings.reduce(.zero) { $0 + $1.centre } / n
    size = radius > SizeClass.boundary ? .large : .small
    motion = Self.motion(sightings, period: shape.period)
    identity = Double(seen.count { $0.best == shape }) / Double(labels.frames)
    presence = Double(seen.count) / Double(labels.frames)
  }

  /// The motion of an object, tested in the order of world.md 2.5. Thresholds are in units and
  /// degrees.
  static func motion(_ path: [Sighting], period: Double?) -> Motion {
    guard let first = path.first, let last = path.last, path.count > 2 else { return .still }
    let net = last.centre - first.centre
    if max(abs(net.x), abs(net.y)) > 4 {
      return abs(net.x) >= abs(net.y) ? (net.x < 0 ? .left : .right) : (net.y < 0 ? .up : .down)
    }
    let n = path.count
    let growth = (path[n - 1].radius + path[n - 2].radius) / (path[0].radius + path[1].radius)
    if growth > 1.25 { return .growing }
    if growth < 0.8 { return .shrinking }
    func range(_ axis: Int) -> Double {
      path.map { $0.centre[axis] }.max()! - path.map { $0.centre[axis] }.min()!
    }
    if range(1) > 4 && range(0) < 4 && abs(net.y) < 3 { return .bouncing }
    if let period {
      let turn = zip(path, path.dropFirst()).reduce(0) {
        $0 + remainder($1.1.angle - $1.0.angle, period)
      }
      if abs(turn) > 35 * .pi / 180 { return .turning }
    }
    return .still
  }

  /// 1 − (mean of |second differences| of x, y and radius, summed) / 2.5 units; 0 if it is never
  /// seen in three consecutive frames.
  var smoothness: Double {
    var sum = 0.0
    var count = 0.0
    for t in path.indices.dropLast(2) {
      guard let a = path[t], let b = path[t + 1], let c = path[t + 2] else { continue }
      let bend = a.centre - 2 * b.centre + c.centre
      sum += abs(bend.x) + abs(bend.y) + abs(a.radius - 2 * b.radius + c.radius)
      count += 1
    }
    return count > 0 ? 1 - sum / count / 2.5 : 0
  }
}

extension Blobs {
  /// The coverage of one blob in its frame, `[H,W]`, 0 elsewhere.
  func mask(
    of k: Int, _ blob: Blob, frame t: Int, _ labels: borrowing PixelLabels, into mask: inout [Float]
  ) {
    let start = t * labels.planeCount
    mask = Array(repeating: 0, count: labels.planeCount)
    for y in blob.rows {
      for i in y * labels.width + blob.columns.lowerBound..<y * labels.width
        + blob.columns.upperBound where index[start + i] == k
      {
        mask[i] = labels.coverage[start + i]
      }
    }
  }
}
