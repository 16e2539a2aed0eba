internal import TensorRuntime

/// A caption for which a clip is to be generated, and its description.
public struct Prompt: Hashable, Sendable {
  public let caption: String
  public let description: SceneDescription

  /// A user's prompt, in the words of the grammar.
  public init(_ caption: String) throws(CaptionError) {
    description = try CaptionGrammar.parse(caption)
    self.caption = caption
  }
  init(caption: String, description: SceneDescription) {
    (self.caption, self.description) = (caption, description)
  }
}

extension SceneSampler {
  /// `count` captions of held-out combinations, for evaluating a generator. Prompt i depends only
  /// on (seed, settings, i), and describes the scene `heldOut(i)`.
  public func heldOutPrompts(count: Int) -> [Prompt] {
    (0..<count).map { prompt(heldOut($0), $0, step: 1) }
  }
  /// The same for training combinations.
  public func trainingPrompts(count: Int) -> [Prompt] {
    (0..<count).map { prompt(training($0), $0, step: 0) }
  }

  private func prompt(_ scene: Scene, _ index: Int, step: Int) -> Prompt {
    var stream = RandomStream(seed: seed, .caption, step: step, sample: index)
    return Prompt(
      caption: CaptionGrammar.caption(scene.description, drawing: &stream),
      description: scene.description)
  }
}
