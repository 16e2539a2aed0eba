internal import Glibc

/// One object of a scene, with everything needed to draw it. Lengths are in units: the shorter side
/// of any picture has 32. Positions are relative to the middle of the picture, x to the right, y
/// down. Time runs from 0 to 1 over the clip.
public struct ShapeObject: Hashable, Sendable {
  public var shape: ShapeKind
  /// Draws a malformed object, with a shape between `shape` and another. Captions and descriptions
  /// do not mention it.
  public var blend: Blend?
  public struct Blend: Hashable, Sendable {
    public var shape: ShapeKind, share: Double
    public init(_ shape: ShapeKind, share: Double) { (self.shape, self.share) = (shape, share) }
  }
  public var colour: Colour
  /// The colour as drawn: the named one with its jitter.
  public var rgb: SIMD3<Float>
  /// The size class of its radius; nil for growing, shrinking and turning objects, and for one of
  /// several objects.
  public var size: SizeClass?
  public var motion: Motion
  /// Centre of the path.
  public var centre: SIMD2<Double>
  /// Radius at the first and at the last frame.
  public var radius: (first: Double, last: Double) {
    get { (radii.x, radii.y) }
    set { radii = SIMD2(newValue.first, newValue.last) }
  }
  private var radii: SIMD2<Double>
  /// Straight path: displacement over the clip. Bouncing: amplitude in y.
  public var travel: SIMD2<Double>
  /// Angle at the first frame and rotation over the clip, in radians, clockwise in the picture.
  public var angle: Double, turn: Double

  public init(
    shape: ShapeKind, colour: Colour, rgb: SIMD3<Float>? = nil, size: SizeClass? = nil,
    motion: Motion = .still, centre: SIMD2<Double> = .zero,
    radius: (first: Double, last: Double), travel: SIMD2<Double> = .zero, angle: Double = 0,
    turn: Double = 0
  ) {
    (self.shape, self.colour, self.rgb, self.size, self.motion) = (
      shape, colour, rgb ?? colour.rgb, size, motion
    )
    (self.centre, self.radii, self.travel, self.angle, self.turn) = (
      centre, SIMD2(radius.first, radius.last), travel, angle, turn
    )
  }

  /// The object's position at `time` in [0,1].
  func pose(at time: Double) -> Pose {
    let path = motion == .bouncing ? travel * cos(2 * .pi * time) : travel * (time - 0.5)
    return Pose(
      centre: centre + path, radius: radii.x + (radii.y - radii.x) * time,
      angle: angle + turn * time)
  }
  struct Pose: Hashable {
    var centre: SIMD2<Double>, radius: Double, angle: Double
  }
}

/// A grey level with two crossed waves, constant over the clip (world.md 1.3). Levels in [0,1],
/// lengths in units.
public struct Background: Hashable, Sendable {
  public var level: Double
  public var amplitudes: SIMD2<Double>
  /// Radians per unit, direction and phase of the first wave. The second is 1.7 times finer,
  /// perpendicular, and has no phase.
  public var frequency: Double, direction: Double, phase: Double

  public init(
    level: Double, amplitudes: SIMD2<Double> = .zero, frequency: Double = 0, direction: Double = 0,
    phase: Double = 0
  ) {
    (self.level, self.amplitudes, self.frequency, self.direction, self.phase) = (
      level, amplitudes, frequency, direction, phase
    )
  }
}

/// A clip before it is drawn, independent of resolution and number of frames.
public struct Scene: Hashable, Sendable {
  /// The first object lies on top and is named first in captions.
  public var objects: [ShapeObject]
  public var background: Background
  /// The description in captions of this scene.
  public var description: SceneDescription

  public init(objects: [ShapeObject], background: Background, description: SceneDescription) {
    precondition(
      objects.count == description.objects.count,
      "\(objects.count) objects, \(description.objects.count) described")
    (self.objects, self.background, self.description) = (objects, background, description)
  }
}

/// The size of a clip. Frame t of T shows the scene at time t / (T − 1).
public struct Canvas: Hashable, Sendable {
  public let height: Int, width: Int, frames: Int

  /// At least 5 frames, so that turning and bouncing differ from a jump, and at least 16 pixels on
  /// each side.
  public init(height: Int = 32, width: Int = 32, frames: Int = 9) {
    precondition(
      frames >= 5 && height >= 16 && width >= 16,
      "a clip of \(frames) frames of \(height)×\(width) is too small")
    (self.height, self.width, self.frames) = (height, width, frames)
  }
  /// Pixels per unit of length.
  public var scale: Double { Double(min(height, width)) / 32 }
}
