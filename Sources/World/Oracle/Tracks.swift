/// One object through the clip: its blob in each frame, if it has one.
struct Track {
  let colour: Colour
  /// Index into the blobs of the frame; nil if there is none.
  private(set) var blob: [Int?]
  /// Mean over all frames of the blob's area, in square units.
  private(set) var area = 0.0
  private var last = SIMD2<Double>.zero

  private init(_ colour: Colour, frames: Int) {
    (self.colour, blob) = (colour, Array(repeating: nil, count: frames))
  }

  private mutating func append(_ t: Int, _ index: Int, _ found: Blob, unitArea: Double) {
    blob[t] = index
    area += Double(found.area) / unitArea / Double(blob.count)
    last = found.centre
  }

  /// Every colour as one object, even if it has several pieces.
  static func byColour(_ blobs: borrowing Blobs, _ labels: borrowing PixelLabels) -> [Track] {
    let unitArea = labels.scale * labels.scale
    return Colour.allCases.map { colour in
      let k = Int(colour.rawValue)
      var track = Track(colour, frames: labels.frames)
      for t in 0..<labels.frames where blobs.blobs[t][k].count > 0 {
        track.append(t, k, blobs.blobs[t][k], unitArea: unitArea)
      }
      return track
    }
  }

  /// Connected components. Each is joined to the nearest one of the same colour in the frame
  /// before, nearest pairs first.
  static func linking(_ blobs: borrowing Blobs, _ labels: borrowing PixelLabels) -> [Track] {
    let unitArea = labels.scale * labels.scale
    // 8 units is twice the distance that the fastest object moves in a frame. Specks below 3 square
    // units are not followed.
    let farthest = 8 * labels.scale
    let speck = 3 * unitArea
    var tracks: [Track] = []
    for t in 0..<labels.frames {
      let found = blobs.blobs[t]
      var free = found.indices.filter { Double(found[$0].area) >= speck }
      var links: [(distance: Double, track: Int, blob: Int)] = []
      for k in tracks.indices {
        for b in free where found[b].colour == tracks[k].colour {
          let step = found[b].centre - tracks[k].last
          let distance = (step * step).sum().squareRoot()
          if distance < farthest { links.append((distance, k, b)) }
        }
      }
      links.sort { ($0.distance, $0.track, $0.blob) < ($1.distance, $1.track, $1.blob) }
      for link in links where tracks[link.track].blob[t] == nil && free.contains(link.blob) {
        tracks[link.track].append(t, link.blob, found[link.blob], unitArea: unitArea)
        free.removeAll { $0 == link.blob }
      }
      for b in free {
        var track = Track(found[b].colour, frames: labels.frames)
        track.append(t, b, found[b], unitArea: unitArea)
        tracks.append(track)
      }
    }
    return tracks
  }
}
