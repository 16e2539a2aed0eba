/// What an object looks like, apart from its colour. Raw values are part of the held-out rule:
/// never renumber.
public enum ShapeKind: UInt8, CaseIterable, Sendable {
  case circle, square, triangle, star, cross, ring
}

/// One of the eight named colours. Raw values are part of the held-out rule: never renumber.
public enum Colour: UInt8, CaseIterable, Sendable {
  case red, green, blue, yellow, purple, orange, cyan, white

  /// The colour's centre, RGB in [0,1] (world.md 1.3); objects are drawn with each channel jittered
  /// by ±.04.
  public var rgb: SIMD3<Float> {
    switch self {
    case .red: SIMD3(0.9, 0.15, 0.15)
    case .green: SIMD3(0.15, 0.75, 0.2)
    case .blue: SIMD3(0.2, 0.3, 0.95)
    case .yellow: SIMD3(0.95, 0.9, 0.15)
    case .purple: SIMD3(0.65, 0.2, 0.8)
    case .orange: SIMD3(1, 0.55, 0.1)
    case .cyan: SIMD3(0.15, 0.85, 0.9)
    case .white: SIMD3(0.95, 0.95, 0.95)
    }
  }
}

/// The two sizes a caption can name; see `SizeClass.radius`.
public enum SizeClass: UInt8, CaseIterable, Sendable {
  case small, large

  /// Radii in units (pixels at 32×32).
  public var radius: Range<Double> { self == .small ? 4.2..<5 : 6.5..<7.8 }
  /// The mean radius that separates small from large, in units: the middle between the two ranges.
  static let boundary = 5.75
}

/// The motion of a single object over the clip. Raw values are part of the held-out rule: never
/// renumber.
public enum Motion: UInt8, CaseIterable, Sendable {
  case still, left, right, up, down, growing, shrinking, turning, bouncing

  /// Whether a caption may name a size with this motion. An object that changes its size or turns
  /// has no named size.
  public var admitsSize: Bool { self != .growing && self != .shrinking && self != .turning }
  public var isStraight: Bool { self == .left || self == .right || self == .up || self == .down }
}

/// The position of the first object relative to the second. Raw values are part of the held-out
/// rule: never renumber.
public enum Relation: UInt8, CaseIterable, Sendable {
  case leftOf, rightOf, above, below

  /// The relation of the second object to the first.
  public var mirrored: Relation {
    switch self {
    case .leftOf: .rightOf
    case .rightOf: .leftOf
    case .above: .below
    case .below: .above
    }
  }
  /// The relation of a point to another that lies at (−dx, −dy) from it, y down. The larger axis
  /// and its sign decide.
  init(dx: Double, dy: Double) {
    if abs(dx) >= abs(dy) {
      self = dx < 0 ? .leftOf : .rightOf
    } else {
      self = dy < 0 ? .above : .below
    }
  }
}

extension ShapeKind {
  /// The angle after which the shape looks the same, in radians; nil if it looks the same at any
  /// angle (such a shape never turns).
  public var period: Double? {
    switch self {
    case .circle, .ring: nil
    case .square, .cross: .pi / 2
    case .triangle: 2 * .pi / 3
    case .star: 2 * .pi / 5
    }
  }
  public func admits(_ motion: Motion) -> Bool { motion != .turning || period != nil }
}
