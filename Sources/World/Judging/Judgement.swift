/// How well a clip, as read by the oracle, matches a description (world.md 2.8).
public struct Judgement: Sendable {
  /// The dimensions in which a clip can be right or wrong.
  public enum Dimension: Int, CaseIterable, Sendable {
    case colour, shape, size, motion, count, multi, relation
  }

  private var scores = SIMD8<Double>.zero
  private var present: UInt8 = 0
  public let quality: Quality

  /// 0 or 1. For colour and shape of several objects it is the share that is right. nil if the
  /// description does not contain the dimension.
  public private(set) subscript(dimension: Dimension) -> Double? {
    get { present >> dimension.rawValue & 1 == 1 ? scores[dimension.rawValue] : nil }
    set {
      scores[dimension.rawValue] = newValue ?? 0
      present =
        newValue == nil ? present & ~(1 << dimension.rawValue) : present | 1 << dimension.rawValue
    }
  }
  /// Mean over the dimensions the description has.
  public var semantic: Double { scores.sum() / Double(present.nonzeroBitCount) }
  /// Whether every dimension is right.
  public var isAllRight: Bool { Dimension.allCases.allSatisfy { self[$0] ?? 1 == 1 } }

  public init(_ reading: Reading, against description: SceneDescription) {
    quality = reading.quality
    self[.count] = reading.count == description.objects.count ? 1 : 0
    if description.objects.count == 1 {
      judge(description.objects[0], reading.objects.first)
    } else {
      judge(description, Assignment(description, reading.objects))
    }
  }

  /// A single object is compared with the largest one seen.
  private mutating func judge(_ named: ObjectDescription, _ seen: SeenObject?) {
    self[.colour] = seen?.colour == named.colour ? 1 : 0
    self[.shape] = seen?.shape == named.shape ? 1 : 0
    if let size = named.size { self[.size] = seen?.size == size ? 1 : 0 }
    if let motion = named.motion { self[.motion] = seen?.motion == motion ? 1 : 0 }
  }

  private mutating func judge(_ description: SceneDescription, _ assignment: Assignment) {
    let n = Double(description.objects.count)
    self[.colour] = Double(assignment.coloursRight) / n
    self[.shape] = Double(assignment.shapesRight) / n
    self[.multi] = assignment.shapesRight == description.objects.count ? 1 : 0
    if description.relation != nil { self[.relation] = assignment.isRelationRight ? 1 : 0 }
  }
}

/// Assigns named objects to seen ones. A named object can only be assigned to an object of its own
/// colour. Of all assignments the one with the most correct colours counts, then the one with the
/// most correct shapes, then the one with the correct relation.
private struct Assignment {
  private(set) var coloursRight = 0, shapesRight = 0, isRelationRight = false

  init(_ description: SceneDescription, _ seen: [SeenObject]) { search(description, seen, []) }

  private mutating func search(
    _ description: SceneDescription, _ seen: [SeenObject], _ chosen: [Int?]
  ) {
    guard chosen.count < description.objects.count else {
      return consider(description, seen, chosen)
    }
    let named = description.objects[chosen.count]
    for k in seen.indices where seen[k].colour == named.colour && !chosen.contains(k) {
      search(description, seen, chosen + [k])
    }
    search(description, seen, chosen + [nil])
  }

  private mutating func consider(
    _ description: SceneDescription, _ seen: [SeenObject], _ chosen: [Int?]
  ) {
    let objects = chosen.map { $0.map { seen[$0] } }
    let colours = objects.count { $0 != nil }
    let shapes = zip(description.objects, objects).count { $0.shape == $1?.shape }
    let relation = objects.dropFirst().allSatisfy { other in
      guard let first = objects[0], let other else { return false }
      let d = first.centre - other.centre
      return Relation(dx: d.x, dy: d.y) == description.relation
    }
    if (colours, shapes, relation ? 1 : 0) > (coloursRight, shapesRight, isRelationRight ? 1 : 0) {
      (coloursRight, shapesRight, isRelationRight) = (colours, shapes, relation)
    }
  }
}
