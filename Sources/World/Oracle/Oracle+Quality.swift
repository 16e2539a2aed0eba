extension Oracle {
  /// The six quality dimensions (world.md 2.7). Image, consistency and smoothness are those of the
  /// largest object. In a clip without objects these three and purity are 0.
  func quality(
    _ objects: [SeenObject], _ tracks: [Track], _ blobs: borrowing Blobs,
    _ labels: borrowing PixelLabels
  ) -> Quality {
    var quality = Quality()
    let outside = Outside(tracks, blobs, labels)
    quality[.flicker] = outside.change.map { 1 - $0 / 0.05 } ?? 0
    // The mean distance of two clean waves from their median is about .7 of the sum of their
    // amplitudes (.035 for the recipe's waves).
    quality[.background] =
      outside.deviation.map { 1 - max($0 - 0.7 * settings.texture.sum(), 0) / 0.1 } ?? 0
    guard let largest = objects.first else { return quality }
    quality[.image] = (largest.fit - 0.5) / 0.45
    quality[.consistency] = (largest.identity + largest.presence) / 2
    quality[.smoothness] = largest.smoothness
    var residual = 0.0
    var count = 0
    for track in tracks {
      for t in 0..<labels.frames {
        guard let k = track.blob[t] else { continue }
        residual += blobs.blobs[t][k].residual
        count += blobs.blobs[t][k].count
      }
    }
    quality[.purity] = 1 - (residual / Double(max(count, 1))).squareRoot() / 0.3
    return quality
  }
}

/// The pixels that do not belong to an object and are not within two units (a 5×5 box at 32×32) of
/// one.
private struct Outside {
  /// Mean absolute change between frames, over channels and over pixels that are outside in both;
  /// nil if there are none.
  private(set) var change: Double?
  /// Mean absolute distance from the median of the background.
  private(set) var deviation: Double?

  init(_ tracks: [Track], _ blobs: borrowing Blobs, _ labels: borrowing PixelLabels) {
    let plane = labels.planeCount
    var near: [Bool] = []
    var before: [Bool] = []
    var change = 0.0
    var changed = 0
    var deviation = 0.0
    var counted = 0
    for t in 0..<labels.frames {
      swap(&near, &before)
      if labels.repeats[t] { near = before } else { near = Self.near(tracks, blobs, labels, t) }
      for channel in 0..<3 {
        let start = (3 * t + channel) * plane
        let level = labels.background[channel]
        var steps: Float = 0
        var distances: Float = 0
        for i in 0..<plane where !near[i] {
          distances += abs(labels.pixels[start + i] - level)
          counted += 1
          if t > 0 && !before[i] {
            steps += abs(labels.pixels[start + i] - labels.pixels[start + i - 3 * plane])
            changed += 1
          }
        }
        change += Double(steps)
        deviation += Double(distances)
      }
    }
    self.change = changed > 0 ? change / Double(changed) : nil
    self.deviation = counted > 0 ? deviation / Double(counted) : nil
  }

  /// Whether each pixel of a frame is in or near an object.
  private static func near(
    _ tracks: [Track], _ blobs: borrowing Blobs, _ labels: borrowing PixelLabels, _ t: Int
  ) -> [Bool] {
    let (height, width) = (labels.height, labels.width)
    let margin = Int((2 * labels.scale).rounded())
    let ids = tracks.compactMap { $0.blob[t].map { Int32($0) } }
    var near = Array(repeating: false, count: height * width)
    for y in 0..<height {
      for x in 0..<width where ids.contains(blobs.index[t * height * width + y * width + x]) {
        for i in y * width + max(x - margin, 0)...y * width + min(x + margin, width - 1) {
          near[i] = true
        }
      }
    }
    let across = near
    for y in 0..<height {
      for x in 0..<width where across[y * width + x] {
        for ny in max(y - margin, 0)...min(y + margin, height - 1) { near[ny * width + x] = true }
      }
    }
    return near
  }
}
