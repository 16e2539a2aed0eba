/// The words of the captions (world.md 1.4). The first phrase of each list is the plain one. All
/// are drawn with equal probability.
protocol Worded: CaseIterable, Sendable {
  var phrases: [String] { get }
}

extension SizeClass: Worded {
  var phrases: [String] {
    self == .small ? ["small", "little", "tiny"] : ["large", "big", "huge"]
  }
}

extension Colour: Worded {
  var phrases: [String] {
    switch self {
    case .red: ["red"]
    case .green: ["green"]
    case .blue: ["blue"]
    case .yellow: ["yellow"]
    case .purple: ["purple", "violet"]
    case .orange: ["orange"]
    case .cyan: ["cyan", "turquoise"]
    case .white: ["white"]
    }
  }
}

extension ShapeKind: Worded {
  var phrases: [String] {
    switch self {
    case .circle: ["circle", "disc"]
    case .square: ["square", "box"]
    case .triangle: ["triangle"]
    case .star: ["star"]
    case .cross: ["cross", "plus"]
    case .ring: ["ring", "hoop"]
    }
  }
  /// Plural names, for groups only.
  var plurals: [String] {
    switch self {
    case .circle: ["circles", "discs"]
    case .square: ["squares", "boxes"]
    case .triangle: ["triangles"]
    case .star: ["stars"]
    case .cross: ["crosses", "pluses"]
    case .ring: ["rings", "hoops"]
    }
  }
}

extension Motion: Worded {
  var phrases: [String] {
    switch self {
    case .still: ["standing still", "at rest", "not moving"]
    case .left: ["moving left", "going to the left", "drifting left"]
    case .right: ["moving right", "going to the right", "drifting right"]
    case .up: ["moving up", "rising", "going upwards"]
    case .down: ["moving down", "falling", "going downwards"]
    case .growing: ["growing", "getting bigger"]
    case .shrinking: ["shrinking", "getting smaller"]
    case .turning: ["turning", "rotating", "spinning"]
    case .bouncing: ["bouncing", "going up and down"]
    }
  }
}

extension Relation: Worded {
  var phrases: [String] {
    switch self {
    case .leftOf: ["left of", "to the left of"]
    case .rightOf: ["right of", "to the right of"]
    case .above: ["above", "over"]
    case .below: ["below", "under", "beneath"]
    }
  }
}

/// The number of objects in a group.
enum GroupSize: Int, Worded {
  case two = 2
  case three = 3
  var phrases: [String] { self == .two ? ["two"] : ["three"] }
}
