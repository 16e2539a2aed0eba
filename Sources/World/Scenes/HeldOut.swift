/// The descriptions that no training set may contain: a fifth of the (colour, shape, motion)
/// triples, of the (colour, shape, colour, shape, relation) tuples and of the (colour, shape,
/// number) groups. A hash decides that is the same in every build and run.
extension SceneDescription {
  /// A pair and its mirror image ("A left of B", "B right of A") are one tuple. A scene with three
  /// objects is held out if one of its two pairs is.
  public var isHeldOut: Bool {
    let first = objects[0]
    guard let relation else {
      return objects.count == 1
        ? Self.isHeldOut(1, [Self.kind(first), Int((first.motion ?? .still).rawValue)])
        : Self.isHeldOut(2, [Self.kind(first), objects.count])
    }
    return objects.dropFirst().contains { second in
      relation == .leftOf || relation == .above
        ? Self.isHeldOut(3, [Self.kind(first), Self.kind(second), Int(relation.rawValue)])
        : Self.isHeldOut(3, [Self.kind(second), Self.kind(first), Int(relation.mirrored.rawValue)])
    }
  }

  private static func kind(_ object: ObjectDescription) -> Int {
    Int(object.colour.rawValue) * 8 + Int(object.shape.rawValue)
  }

  private static func isHeldOut(_ family: UInt64, _ fields: [Int]) -> Bool {
    // The finaliser of splitmix64 (Steele, Lea, Flood 2014) over the packed fields.
    var z = fields.reduce(family) { $0 << 8 | UInt64($1) } &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return (z ^ z >> 31) % 5 == 0
  }
}
