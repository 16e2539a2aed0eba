public import TensorRuntime

/// The attribute in which a hard negative differs from the truth.
public enum SwappedAttribute: String, CaseIterable, Sendable {
  case colour, shape, motion, size, relation
  /// Which of two objects has which shape.
  case binding
  /// The number of objects in a group: two or three.
  case count
}

extension SceneDescription {
  /// The attributes that can be changed to make this description wrong.
  public var swappable: [SwappedAttribute] {
    SwappedAttribute.allCases.filter {
      switch $0 {
      case .colour, .shape: true
      case .motion: objects[0].motion != nil
      case .size: objects[0].size != nil
      case .relation: relation != nil
      case .binding: !bindings.isEmpty
      case .count: isGroup
      }
    }
  }

  /// This description with another value of `attribute`, which must be one of `swappable`, and
  /// everything else kept: a caption that is wrong in one attribute only. A new colour is one that
  /// no object has, so it cannot be right by accident. A new motion is one that fits the size and
  /// shape in the caption.
  public func swapped(_ attribute: SwappedAttribute, drawing stream: inout RandomStream)
    -> SceneDescription
  {
    precondition(
      swappable.contains(attribute),
      "\(CaptionGrammar.plainCaption(self)) has no \(attribute) to swap")
    var swapped = self
    let i = stream.below(isGroup ? 1 : objects.count)
    let changed = isGroup ? objects.indices : i..<i + 1
    switch attribute {
    case .colour:
      let colour = stream.choose(
        Colour.allCases.filter { colour in !objects.contains { $0.colour == colour } })
      for j in changed { swapped.objects[j].colour = colour }
    case .shape:
      let shape = stream.choose(
        ShapeKind.allCases.filter {
          $0 != objects[i].shape && $0.admits(objects[i].motion ?? .still)
        })
      for j in changed { swapped.objects[j].shape = shape }
    case .motion:
      let object = objects[0]
      swapped.objects[0].motion = stream.choose(
        Motion.allCases.filter {
          $0 != object.motion && object.shape.admits($0) && (object.size == nil || $0.admitsSize)
        })
    case .size: swapped.objects[0].size = objects[0].size == .small ? .large : .small
    case .relation: swapped.relation = stream.choose(Relation.allCases.filter { $0 != relation })
    case .binding:
      let (a, b) = stream.choose(bindings)
      (swapped.objects[a].shape, swapped.objects[b].shape) = (objects[b].shape, objects[a].shape)
    case .count: swapped = SceneDescription(Array(repeating: objects[0], count: 5 - objects.count))
    }
    return swapped
  }
  /// A description that is wrong in one attribute, which is drawn from those that can be changed.
  public func swapped(drawing stream: inout RandomStream) -> (
    description: SceneDescription, attribute: SwappedAttribute
  ) {
    let attribute = stream.choose(swappable)
    return (swapped(attribute, drawing: &stream), attribute)
  }

  /// Pairs of objects that differ in both colour and shape.
  private var bindings: [(Int, Int)] {
    guard relation != nil else { return [] }
    return objects.indices.flatMap { a in
      objects.indices.filter { b in
        b > a && objects[a].colour != objects[b].colour && objects[a].shape != objects[b].shape
      }.map { (a, $0) }
    }
  }
}
