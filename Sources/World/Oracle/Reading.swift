/// What the oracle saw in a clip.
public struct Reading: Sendable {
  /// Objects large enough to be named, largest first.
  public var objects: [SeenObject]
  /// Number of objects large enough to be counted.
  public var count: Int
  public var quality: Quality
}

/// One object as seen. Lengths in units (the picture's shorter side has 32), positions from the
/// middle, y down.
public struct SeenObject: Sendable {
  public var colour: Colour
  public var shape: ShapeKind
  /// Mean over frames of the soft IoU with the shape's template, in [0,1].
  public var fit: Double
  public var size: SizeClass
  public var motion: Motion
  /// Means over the frames in which it is present.
  public var radius: Double
  public var centre: SIMD2<Double>
  /// Mean area over all frames, square units.
  public var area: Double
  /// Its position in each frame; nil where it is absent.
  public var path: [Sighting?]
  /// Share of frames in which the best-fitting shape is `shape`.
  public var identity: Double
  /// Share of frames in which it is present.
  public var presence: Double

  public struct Sighting: Sendable {
    public var centre: SIMD2<Double>, radius: Double, angle: Double
  }
}

/// How good a clip looks, whatever it shows: six dimensions in [0,1] (world.md 2.7).
public struct Quality: Sendable {
  public enum Dimension: Int, CaseIterable, Sendable {
    case flicker, image, consistency, smoothness, background, purity
  }
  private var values = SIMD8<Double>.zero

  public subscript(dimension: Dimension) -> Double {
    get { values[dimension.rawValue] }
    set { values[dimension.rawValue] = min(max(newValue, 0), 1) }
  }
  public var mean: Double { values.sum() / Double(Dimension.allCases.count) }
}
