public import TensorRuntime

/// Reads clips from their pixels alone, with nothing trained: the objects with their colours,
/// shapes and sizes, their motions and relations, and the quality of the picture. Every clip has a
/// finite reading.
public struct Oracle: Sendable {
  public let settings: SceneSettings

  /// The settings say whether a colour is one object (the recipe) or each of its connected
  /// components is one, and how much texture a clean background may have.
  public init(_ settings: SceneSettings = .standard) { self.settings = settings }

  /// Reads one clip, `[T,3,H,W]`, values in [0,1] (others are clamped).
  public func read(_ clip: Tensor) -> Reading {
    let labels = PixelLabels(clip)
    let blobs = Blobs(labels, components: !settings.coloursDiffer)
    let tracks =
      (settings.coloursDiffer ? Track.byColour(blobs, labels) : Track.linking(blobs, labels)).filter
    { $0.area > 8 }
    // The two largest of one colour each, or the four largest components: one more than any scene
    // has.
    let order = tracks.indices.sorted { (-tracks[$0].area, $0) < (-tracks[$1].area, $1) }
    let kept = order.prefix(settings.coloursDiffer ? 2 : 4).map { tracks[$0] }
    let objects = kept.map { SeenObject($0, blobs, labels) }
    return Reading(
      objects: objects, count: tracks.count { $0.area > 12 },
      quality: quality(objects, kept, blobs, labels))
  }
}
