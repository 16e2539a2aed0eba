import TensorRuntime
import Testing
import World

/// Oracle: a clip rendered from the truth, judged against the swapped description.
@Suite struct AttributeSwapTests {
  /// The dimension that must be wrong, and those that may be wrong with it.
  private func expected(_ attribute: SwappedAttribute, _ description: SceneDescription) -> (
    Judgement.Dimension, Set<Judgement.Dimension>
  ) {
    let several = description.objects.count > 1
    switch attribute {
    case .colour: return (.colour, several ? [.colour, .shape, .multi, .relation] : [.colour])
    case .shape, .binding: return (.shape, several ? [.shape, .multi] : [.shape])
    case .motion: return (.motion, [.motion])
    case .size: return (.size, [.size])
    case .relation: return (.relation, [.relation])
    case .count: return (.count, [.count, .colour, .shape, .multi])
    }
  }

  @Test(arguments: [SceneSettings.standard, .harder]) func everySwapIsWrongInItsAttribute(
    _ settings: SceneSettings
  ) {
    let sampler = SceneSampler(settings, seed: 21)
    let renderer = Renderer()
    let oracle = Oracle(settings)
    let work = Workspace()
    var tried: [SwappedAttribute: Int] = [:]
    for i in 0..<250 {
      let scene = sampler.training(i)
      let reading = oracle.read(renderer.render(scene, in: work))
      var stream = RandomStream(seed: 22, .caption, sample: i)
      for attribute in scene.description.swappable {
        let swapped = scene.description.swapped(attribute, drawing: &stream)
        let judgement = Judgement(reading, against: swapped)
        let wrong = Set(Judgement.Dimension.allCases.filter { judgement[$0] ?? 1 < 1 })
        let (must, may) = expected(attribute, scene.description)
        #expect(
          wrong.contains(must) && wrong.isSubset(of: may),
          "\(attribute): \(CaptionGrammar.plainCaption(swapped)) on \(i): \(wrong)")
        #expect(
          changes(scene.description, swapped) == [attribute],
          "\(CaptionGrammar.plainCaption(swapped))")
        tried[attribute, default: 0] += 1
      }
    }
    let wanted = SwappedAttribute.allCases.filter { $0 != .count || settings == .harder }
    #expect(wanted.allSatisfy { tried[$0] ?? 0 >= 10 }, "\(tried)")
  }

  /// Which attributes differ, by comparing field by field.
  private func changes(_ a: SceneDescription, _ b: SceneDescription) -> Set<SwappedAttribute> {
    if a.objects.count != b.objects.count { return a.objects[0] == b.objects[0] ? [.count] : [] }
    var changes: Set<SwappedAttribute> = []
    if a.relation != b.relation { changes.insert(.relation) }
    if a.objects.map(\.colour) != b.objects.map(\.colour) { changes.insert(.colour) }
    if a.objects.map(\.motion) != b.objects.map(\.motion) { changes.insert(.motion) }
    if a.objects.map(\.size) != b.objects.map(\.size) { changes.insert(.size) }
    let (before, after) = (a.objects.map(\.shape), b.objects.map(\.shape))
    let rearranged =
      before.sorted { $0.rawValue < $1.rawValue } == after.sorted { $0.rawValue < $1.rawValue }
    if before != after { changes.insert(rearranged ? .binding : .shape) }
    return changes
  }

  @Test func theFreeSwapDrawsEveryAttribute() {
    let description = SceneDescription(
      [ObjectDescription(.red, .circle), ObjectDescription(.blue, .star)], relation: .above)
    var stream = RandomStream(seed: 1, .caption)
    var seen: Set<SwappedAttribute> = []
    for _ in 0..<100 { seen.insert(description.swapped(drawing: &stream).attribute) }
    #expect(seen == [.colour, .shape, .relation, .binding])
  }
}
