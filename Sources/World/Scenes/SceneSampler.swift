internal import TensorRuntime

/// Draws scenes. Scene i of a stream depends only on (seed, settings, i).
public struct SceneSampler: Sendable {
  public let settings: SceneSettings
  public let seed: UInt64

  public init(_ settings: SceneSettings = .standard, seed: UInt64) {
    (self.settings, self.seed) = (settings, seed)
  }

  /// Scene `index` of the training stream, which has no held-out combination.
  public func training(_ index: Int) -> Scene { scene(index, heldOut: false) }
  /// Scene `index` of the held-out stream, which has only held-out combinations.
  public func heldOut(_ index: Int) -> Scene { scene(index, heldOut: true) }

  private func scene(_ index: Int, heldOut: Bool) -> Scene {
    var stream = RandomStream(seed: seed, .world, step: heldOut ? 1 : 0, sample: index)
    // The content of a scene is drawn again until it belongs to the right set: five draws on
    // average for a held-out scene. The kind of scene is drawn once, so both sets have the same
    // shares of kinds.
    let kind = Kind(stream.uniform(), settings)
    var description = self.description(kind, &stream)
    while description.isHeldOut != heldOut { description = self.description(kind, &stream) }
    let objects =
      description.objects.count == 1
      ? [single(&description, &stream)] : several(description, &stream)
    return Scene(objects: objects, background: background(&stream), description: description)
  }

  // MARK: what is shown

  private enum Kind {
    case single, pair, group, triple
    init(_ u: Double, _ settings: SceneSettings) {
      let bounds = (
        settings.pairShare, settings.pairShare + settings.groupShare,
        settings.pairShare + settings.groupShare + settings.tripleShare
      )
      self = u < bounds.0 ? .pair : u < bounds.1 ? .group : u < bounds.2 ? .triple : .single
    }
  }

  private func description(_ kind: Kind, _ stream: inout RandomStream) -> SceneDescription {
    switch kind {
    case .single:
      var object = look(&stream)
      repeat {
        object.motion = stream.choose(Motion.allCases)
      } while !object.shape.admits(object.motion!)
      return SceneDescription(object)
    case .group:
      return SceneDescription(Array(repeating: look(&stream), count: 2 + stream.below(2)))
    case .pair, .triple:
      let equalColours = stream.uniform() < settings.equalColourShare
      var objects: [ObjectDescription] = []
      while objects.count < (kind == .pair ? 2 : 3) {
        let next = look(&stream)
        let clashes = objects.contains { $0 == next || !equalColours && $0.colour == next.colour }
        if !clashes { objects.append(next) }
      }
      return SceneDescription(objects, relation: stream.choose(Relation.allCases))
    }
  }
  private func look(_ stream: inout RandomStream) -> ObjectDescription {
    ObjectDescription(stream.choose(Colour.allCases), stream.choose(ShapeKind.allCases))
  }

  // MARK: where it is (world.md 1.3; units, from the middle)

  /// Draws the object's geometry. If its size may be named, it is added to the description in 60 %
  /// of the cases.
  private func single(_ description: inout SceneDescription, _ stream: inout RandomStream)
    -> ShapeObject
  {
    let shape = description.objects[0].shape
    let motion = description.objects[0].motion!
    var object = ShapeObject(
      shape: shape, colour: description.objects[0].colour,
      rgb: jittered(description.objects[0].colour, &stream), motion: motion, radius: (0, 0))
    if motion.admitsSize {
      let size = stream.choose(SizeClass.allCases)
      object.size = size
      if stream.uniform() < 0.6 { description.objects[0].size = size }
    }
    let radius = stream.uniform(object.size?.radius ?? 6..<7.8)
    object.radius = (radius, radius)
    switch motion {
    case .growing, .shrinking:
      let small = stream.uniform(3.8..<4.4)
      let large = stream.uniform(7..<8)
      object.radius = motion == .growing ? (small, large) : (large, small)
    case .turning:
      // 11-14° for each frame of 9. The whole rotation is the same for any number of frames.
      object.turn = 8 * stream.uniform(11..<14) * .pi / 180
      object.angle = stream.uniform(0..<90) * .pi / 180
    default: break
    }
    let extent = shape.layoutExtent * max(object.radius.first, object.radius.last)
    var slack = SIMD2(repeating: min(6, 15.5 - extent))
    switch motion {
    case .left, .right, .up, .down:
      let distance = stream.uniform(8..<max(8.5, min(13, 30 - 2 * extent)))
      object.travel = distance * motion.direction
      slack *= SIMD2(1, 1) - motion.direction * motion.direction
    case .bouncing:
      object.travel = SIMD2(0, stream.uniform(4..<5))
      slack.y = min(6, 15.5 - extent - object.travel.y)
    default: break
    }
    object.centre = slack * SIMD2(stream.uniform(-1..<1), stream.uniform(-1..<1))
    return object
  }

  private func several(_ description: SceneDescription, _ stream: inout RandomStream)
    -> [ShapeObject]
  {
    let relation = description.relation ?? stream.choose(Relation.allCases)
    // Objects of one colour must not touch, because they would become one object. Their radii are
    // smaller and their distances larger.
    let apart = description.hasEqualColours
    let triple = description.objects.count == 3
    let half = triple ? stream.uniform(6.8..<7.6) : stream.uniform(apart ? 7.2..<8.8 : 6.8..<8.8)
    let along = stream.uniform(triple ? -0.5..<0.5 : -1..<1)
    let across = stream.uniform(triple ? -0.5..<0.5 : -3..<3)
    let offset = triple ? stream.uniform(6.7..<7.2) : stream.uniform(-2.5..<2.5)
    let flip: Double = stream.below(2) == 0 ? 1 : -1
    // (along, across) the axis of the relation. With three objects the first stands alone, and the
    // others are opposite, one on each side.
    let places: [SIMD2<Double>] =
      triple
      ? [SIMD2(-half, 0), SIMD2(half, flip * offset), SIMD2(half, -flip * offset)]
      : [SIMD2(-half, offset), SIMD2(half, -offset)]
    return zip(description.objects, places).map { object, place in
      let axis = relation.direction
      let centre =
        -axis * place.x + SIMD2(abs(axis.y), abs(axis.x)) * (place.y + across) + SIMD2(
          abs(axis.x), abs(axis.y)) * along
      let radius = stream.uniform(triple ? 3.8..<4.5 : apart ? 4.2..<5 : 4.3..<5.6)
      return ShapeObject(
        shape: object.shape, colour: object.colour, rgb: jittered(object.colour, &stream),
        centre: centre, radius: (radius, radius))
    }
  }

  private func jittered(_ colour: Colour, _ stream: inout RandomStream) -> SIMD3<Float> {
    let jitter = SIMD3(
      Float(stream.uniform(-0.04..<0.04)), Float(stream.uniform(-0.04..<0.04)),
      Float(stream.uniform(-0.04..<0.04)))
    return (colour.rgb + jitter).clamped(lowerBound: .zero, upperBound: .one)
  }
  private func background(_ stream: inout RandomStream) -> Background {
    Background(
      level: stream.uniform(0.15..<0.35), amplitudes: settings.texture,
      frequency: stream.uniform(0.15..<0.65),
      direction: stream.uniform(0..<2 * .pi), phase: stream.uniform(0..<2 * .pi))
  }
}

extension Motion {
  /// Unit vector of a straight motion, y down.
  var direction: SIMD2<Double> {
    switch self {
    case .left: SIMD2(-1, 0)
    case .right: SIMD2(1, 0)
    case .up: SIMD2(0, -1)
    case .down: SIMD2(0, 1)
    default: .zero
    }
  }
}

extension Relation {
  /// From the second object towards the first.
  var direction: SIMD2<Double> {
    switch self {
    case .leftOf: SIMD2(-1, 0)
    case .rightOf: SIMD2(1, 0)
    case .above: SIMD2(0, -1)
    case .below: SIMD2(0, 1)
    }
  }
}
