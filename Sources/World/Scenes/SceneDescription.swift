/// The part of a description about one object.
public struct ObjectDescription: Hashable, Sendable {
  public var colour: Colour
  public var shape: ShapeKind
  /// nil if the caption does not name a size.
  public var size: SizeClass?
  /// nil for one of several objects. These stand still, and captions do not say so.
  public var motion: Motion?

  public init(_ colour: Colour, _ shape: ShapeKind, size: SizeClass? = nil, motion: Motion? = nil) {
    (self.colour, self.shape, self.size, self.motion) = (colour, shape, size, motion)
  }
}

/// The content of a caption: one object and its motion; two or three objects, the first in a
/// relation to each of the others; or, without a relation, two or three equal objects ("two red
/// circles").
public struct SceneDescription: Hashable, Sendable {
  public var objects: [ObjectDescription]
  public var relation: Relation?

  public init(_ objects: [ObjectDescription], relation: Relation? = nil) {
    precondition(
      (1...3).contains(objects.count), "a scene has one to three objects, not \(objects.count)")
    precondition(objects.count > 1 || relation == nil, "one object has no relation")
    precondition(
      relation != nil || objects.allSatisfy { $0 == objects[0] },
      "objects without a relation are alike")
    (self.objects, self.relation) = (objects, relation)
  }
  public init(_ object: ObjectDescription) { self.init([object]) }

  /// Whether the objects are several of one kind, described by their number.
  public var isGroup: Bool { objects.count > 1 && relation == nil }
  /// Whether two objects have the same colour, so that only connected components separate them.
  public var hasEqualColours: Bool { Set(objects.map(\.colour)).count < objects.count }
}
