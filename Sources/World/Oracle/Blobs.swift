/// Labelled pixels of one frame that form one object: all of one colour, or one connected component
/// of a colour.
struct Blob {
  let colour: Colour
  /// Pixels of coverage above ½.
  var area = 0
  /// Sums of coverage, and of coverage times position (pixel centres, from the corner).
  var mass = 0.0
  private var moment = SIMD2<Double>.zero
  /// Sum of squared residuals, and number of pixels.
  var residual = 0.0, count = 0
  var rows = Int.max..<Int.max, columns = Int.max..<Int.max

  init(_ colour: Colour) { self.colour = colour }

  var centre: SIMD2<Double> { moment / mass }

  mutating func add(x: Int, y: Int, coverage: Float, residual: Float) {
    let m = Double(coverage)
    if coverage > 0.5 { area += 1 }
    mass += m
    moment += m * SIMD2(Double(x) + 0.5, Double(y) + 0.5)
    self.residual += Double(residual)
    rows = count == 0 ? y..<y + 1 : min(rows.lowerBound, y)..<max(rows.upperBound, y + 1)
    columns = count == 0 ? x..<x + 1 : min(columns.lowerBound, x)..<max(columns.upperBound, x + 1)
    count += 1
  }
}

/// The blobs of every frame of a clip.
struct Blobs {
  /// `[T,H,W]`: index of the pixel's blob in its frame, or −1.
  private(set) var index: [Int32]
  /// By frame.
  private(set) var blobs: [[Blob]] = []

  /// One blob for each colour (the index is the raw value), with or without pixels; or one for each
  /// connected component.
  init(_ labels: borrowing PixelLabels, components: Bool) {
    index = Array(repeating: -1, count: labels.frames * labels.planeCount)
    for t in 0..<labels.frames {
      if labels.repeats[t] {
        let plane = labels.planeCount
        for i in t * plane..<(t + 1) * plane { index[i] = index[i - plane] }
        blobs.append(blobs[t - 1])
      } else {
        blobs.append(components ? connected(labels, t) : byColour(labels, t))
      }
    }
  }

  private mutating func byColour(_ labels: borrowing PixelLabels, _ t: Int) -> [Blob] {
    var blobs = Colour.allCases.map { Blob($0) }
    var i = t * labels.planeCount
    for y in 0..<labels.height {
      for x in 0..<labels.width {
        let label = labels.label[i]
        if label >= 0 {
          index[i] = Int32(label)
          blobs[Int(label)].add(
            x: x, y: y, coverage: labels.coverage[i], residual: labels.residual[i])
        }
        i += 1
      }
    }
    return blobs
  }

  /// Connected components of one label. Diagonal neighbours are connected.
  private mutating func connected(_ labels: borrowing PixelLabels, _ t: Int) -> [Blob] {
    var blobs: [Blob] = []
    var front: [Int] = []
    let (height, width, start) = (labels.height, labels.width, t * labels.planeCount)
    for first in 0..<height * width
    where labels.label[start + first] >= 0 && index[start + first] < 0 {
      let label = labels.label[start + first]
      let id = Int32(blobs.count)
      var blob = Blob(Colour(rawValue: UInt8(label))!)
      index[start + first] = id
      front.append(first)
      while let i = front.popLast() {
        let (y, x) = (i / width, i % width)
        blob.add(
          x: x, y: y, coverage: labels.coverage[start + i], residual: labels.residual[start + i])
        for ny in max(y - 1, 0)...min(y + 1, height - 1) {
          for nx in max(x - 1, 0)...min(x + 1, width - 1) {
            let n = ny * width + nx
            if labels.label[start + n] == label && index[start + n] < 0 {
              index[start + n] = id
              front.append(n)
            }
          }
        }
      }
      blobs.append(blob)
    }
    return blobs
  }
}
