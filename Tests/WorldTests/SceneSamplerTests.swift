import TensorRuntime
import Testing
import World

@Suite struct SceneSamplerTests {
  @Test func aSceneDependsOnSeedAndIndexAlone() {
    let sampler = SceneSampler(.harder, seed: 5)
    let forwards = (0..<50).map { sampler.training($0) }
    let backwards = (0..<50).reversed().map { index in
      _ = sampler.heldOut(index)
      return sampler.training(index)
    }
    #expect(forwards == backwards.reversed())
    #expect(SceneSampler(.harder, seed: 6).training(0) != forwards[0])
    #expect(Set(forwards).count == 50)
  }

  @Test(arguments: [SceneSettings.standard, .harder]) func trainingAndHeldOutNeverMeet(
    _ settings: SceneSettings
  ) {
    let sampler = SceneSampler(settings, seed: 1)
    let training = (0..<4000).map { sampler.training($0).description }
    let heldOut = (0..<4000).map { sampler.heldOut($0).description }
    #expect(training.allSatisfy { !$0.isHeldOut })
    #expect(heldOut.allSatisfy { $0.isHeldOut })
    // Naming a size, or saying a relation from the other side, does not make another combination.
    func bare(_ description: SceneDescription) -> SceneDescription {
      var bare = description
      for i in bare.objects.indices { bare.objects[i].size = nil }
      if bare.objects.count == 2, let relation = bare.relation,
        relation == .rightOf || relation == .below
      {
        bare = SceneDescription(bare.objects.reversed(), relation: relation.mirrored)
      }
      return bare
    }
    #expect(Set(training.map(bare)).isDisjoint(with: heldOut.map(bare)))
  }

  @Test func aFifthIsHeldOut() {
    var singles: [SceneDescription] = []
    var pairs: [SceneDescription] = []
    for colour in Colour.allCases {
      for shape in ShapeKind.allCases {
        for motion in Motion.allCases where shape.admits(motion) {
          singles.append(SceneDescription(ObjectDescription(colour, shape, motion: motion)))
        }
        for other in Colour.allCases where other != colour {
          for second in ShapeKind.allCases {
            for relation in Relation.allCases {
              pairs.append(
                SceneDescription(
                  [ObjectDescription(colour, shape), ObjectDescription(other, second)],
                  relation: relation))
            }
          }
        }
      }
    }
    #expect(singles.count == 416)  // world.md 1.4
    // Binomial standard deviations: .020 of 416, .006 of 4,032 unordered pairs; three of each.
    #expect(abs(Double(singles.count { $0.isHeldOut }) / 416 - 0.2) < 0.06)
    #expect(abs(Double(pairs.count { $0.isHeldOut }) / Double(pairs.count) - 0.2) < 0.02)
    // Every attribute is met in training: what is held out is the combination.
    let seen = singles.filter { !$0.isHeldOut }.map { $0.objects[0] }
    let unseen = singles.filter(\.isHeldOut).map { $0.objects[0] }
    for objects in [seen, unseen] {
      #expect(
        Set(objects.map(\.colour)).count == 8 && Set(objects.map(\.shape)).count == 6
          && Set(objects.map(\.motion)).count == 9)
    }
    // The rule is part of what trained weights mean: these values may never change.
    #expect(
      singles.prefix(40).enumerated().filter { $0.element.isHeldOut }.map(\.offset) == [
        6, 10, 15, 31, 35, 38,
      ])
  }

  @Test func sharesAreThoseOfTheRecipe() {
    let sampler = SceneSampler(seed: 2)
    let n = 4000
    let scenes = (0..<n).map { sampler.training($0) }
    let singles = scenes.filter { $0.objects.count == 1 }
    // Three binomial standard deviations of 4,000 are .023, of some 1,700 nameable ones .036.
    #expect(abs(Double(n - singles.count) / Double(n) - 0.35) < 0.023)
    let nameable = singles.filter { $0.objects[0].motion.admitsSize }
    #expect(
      abs(
        Double(nameable.count { $0.description.objects[0].size != nil }) / Double(nameable.count)
          - 0.6) < 0.036)
    #expect(
      singles.allSatisfy {
        $0.objects[0].motion.admitsSize || $0.description.objects[0].size == nil
      })
    #expect(scenes.allSatisfy { !$0.description.hasEqualColours })
  }

  @Test func objectsStayInThePicture() {
    let sampler = SceneSampler(seed: 3)
    for i in 0..<2000 {
      let scene = sampler.training(i)
      guard scene.objects.count == 1 else { continue }
      let object = scene.objects[0]
      let extent =
        (object.shape == .star ? 1.25 : 1.2) * max(object.radius.first, object.radius.last)
      let path = object.motion == .bouncing ? object.travel : object.travel / 2
      #expect(abs(object.centre.x) + abs(path.x) + extent <= 16)
      #expect(abs(object.centre.y) + abs(path.y) + extent <= 16)
    }
  }

  @Test func theHarderSettingShowsEverything() {
    let sampler = SceneSampler(.harder, seed: 4)
    let scenes = (0..<1000).map { sampler.heldOut($0).description }
    #expect(scenes.contains { $0.objects.count == 3 && $0.relation != nil })
    #expect(scenes.contains { $0.isGroup && $0.objects.count == 2 })
    #expect(scenes.contains { $0.isGroup && $0.objects.count == 3 })
    #expect(scenes.contains { $0.objects.count == 2 && $0.relation != nil && $0.hasEqualColours })
    #expect(scenes.contains { $0.objects.count == 1 })
  }
}
