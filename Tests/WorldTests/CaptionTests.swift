import TensorRuntime
import Testing
import World

@Suite struct CaptionTests {
  private func descriptions(_ settings: SceneSettings) -> [SceneDescription] {
    let sampler = SceneSampler(settings, seed: 11)
    return (0..<600).map { sampler.training($0).description }
  }

  @Test func vocabularyHasTheRecipesWords() {
    let standard = CaptionGrammar.vocabulary()
    let harder = CaptionGrammar.vocabulary(.harder)
    #expect(
      standard.count == 66
        && Array(standard.prefix(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    #expect(Set(standard).count == 66)
    #expect(harder.count == 78 && Array(harder.prefix(66)) == standard)
    // Written from world.md 1.4, not from the program's tables.
    let words = """
      a small little tiny large big huge red green blue yellow purple violet orange cyan turquoise \
      white circle disc square box triangle
      star cross plus ring hoop standing still at rest not moving going to the left drifting right \
      up rising upwards down falling downwards
      growing getting bigger shrinking smaller turning rotating spinning bouncing and of above \
      over below under beneath
      """
    #expect(Set(words.split { $0.isWhitespace }.map(String.init)) == Set(standard.dropFirst(5)))
  }

  @Test(arguments: [SceneSettings.standard, .harder]) func everyCaptionIsReadBack(
    _ settings: SceneSettings
  ) throws {
    let vocabulary = Set(CaptionGrammar.vocabulary(settings))
    var longest = 0
    for description in Set(descriptions(settings)) {
      let captions = CaptionGrammar.allCaptions(description)
      // Pairs and triples have up to hundreds; every 7th still meets every synonym in every place.
      for caption in captions.enumerated().filter({ captions.count < 60 || $0.offset % 7 == 0 })
        .map(\.element)
      {
        #expect(try CaptionGrammar.parse(caption) == description, "\(caption)")
        let words = caption.split(separator: " ").map(String.init)
        #expect(vocabulary.isSuperset(of: words))
        if description.objects.count < 3 { longest = max(longest, words.count) }
      }
      #expect(Set(captions).count == captions.count)
      #expect(captions[0] == CaptionGrammar.plainCaption(description))
    }
    #expect(longest == 10)  // world.md 1.4
  }

  @Test func synonymsAreDrawnEvenly() {
    let description = SceneDescription(
      ObjectDescription(.purple, .ring, size: .small, motion: .bouncing))
    var counts: [String: Int] = [:]
    var stream = RandomStream(seed: 1, .caption)
    for _ in 0..<2400 {
      counts[CaptionGrammar.caption(description, drawing: &stream), default: 0] += 1
    }
    // 3 · 2 · 2 · 2 captions, 100 draws each on average, standard deviation 10.
    #expect(counts.count == 24 && counts.values.allSatisfy { (60...140).contains($0) })
  }

  @Test func wordsAreThoseOfTheGrammar() throws {
    let one = SceneDescription(ObjectDescription(.red, .circle, size: .large, motion: .left))
    #expect(CaptionGrammar.plainCaption(one) == "a large red circle moving left")
    let three = [
      ObjectDescription(.red, .circle), ObjectDescription(.blue, .star),
      ObjectDescription(.green, .ring),
    ]
    #expect(
      CaptionGrammar.plainCaption(SceneDescription(three, relation: .above))
        == "a red circle above a blue star and a green ring")
    let alike = SceneDescription([
      ObjectDescription(.purple, .cross), ObjectDescription(.purple, .cross),
    ])
    #expect(try CaptionGrammar.parse("Two violet pluses.") == alike)
    let bouncing = SceneDescription(ObjectDescription(.orange, .square, motion: .bouncing))
    #expect(try CaptionGrammar.parse("an orange box going up and down") == bouncing)
  }

  @Test(arguments: [
    ("", CaptionError.incomplete(wanted: "\"a\"")),
    ("a red", .incomplete(wanted: "a shape")),
    ("a red circle", .incomplete(wanted: "a motion or a relation")),
    ("a small red circle", .incomplete(wanted: "a motion")),
    ("a pink circle rising", .unexpected(word: "pink", position: 2, wanted: "a colour")),
    (
      "a red circle rising fast",
      .unexpected(word: "fast", position: 5, wanted: "the end of the caption")
    ),
    (
      "two red circle",
      .unexpected(word: "circle", position: 3, wanted: "the name of several shapes")
    ),
    (
      "a red circle above a small blue star",
      .unexpected(word: "small", position: 6, wanted: "a colour")
    ),
  ])
  func otherTextsAreRefused(_ caption: String, _ error: CaptionError) {
    #expect(throws: error) { try CaptionGrammar.parse(caption) }
  }

  @Test func promptsDescribeTheHeldOutScenes() throws {
    let sampler = SceneSampler(.harder, seed: 12)
    let prompts = sampler.heldOutPrompts(count: 100)
    #expect(Array(sampler.heldOutPrompts(count: 120).prefix(100)) == prompts)
    for (i, prompt) in prompts.enumerated() {
      #expect(prompt.description == sampler.heldOut(i).description && prompt.description.isHeldOut)
      #expect(try Prompt(prompt.caption) == prompt)
    }
    #expect(Set(prompts.map(\.caption)).count > 90)
  }
}
