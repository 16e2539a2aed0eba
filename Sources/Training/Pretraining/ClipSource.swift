import Files
public import TensorRuntime
public import World

/// The source of training clips: the endless stream of the world, or the user's clips, held in
/// memory. Clip i of a source depends only on the source and i.
public enum ClipSource: Sendable {
  case world(SceneSampler, Renderer)
  /// The user's clips, `[T, 3, H, W]` each, with captions.
  case clips([Tensor], captions: [String])

  /// Clips `indices` as `[B, T, 3, H, W]` in [0, 1]. Sources of a fixed size repeat.
  public func clips(_ indices: [Int], in work: borrowing Workspace) -> Tensor {
    switch self {
    case .world(let sampler, let renderer):
      renderer.render(indices.map { sampler.training($0) }, in: work)
    case .clips(let list, _): work.stacked(indices.map { list[$0 % list.count] })
    }
  }
  /// Captions of clips. Those of the world are worded anew for each clip; the user's are as given.
  public func captions(_ indices: [Int], drawing stream: inout RandomStream) -> [String] {
    switch self {
    case .world(let sampler, _):
      indices.map { CaptionGrammar.caption(sampler.training($0).description, drawing: &stream) }
    case .clips(_, let captions): indices.map { captions[$0 % captions.count] }
    }
  }
  /// Captions of which a share `noise` is wrong in one attribute, as captions from the web often
  /// are. Without noise no random number is drawn.
  public func captions(_ indices: [Int], noise: Double, drawing stream: inout RandomStream)
    -> [String]
  {
    var captions = captions(indices, drawing: &stream)
    guard noise > 0, let swapped = swappedCaptions(indices, drawing: &stream) else {
      return captions
    }
    for i in indices.indices where stream.uniform() < noise { captions[i] = swapped[i] }
    return captions
  }
  /// Refuses noise for the user's clips: they have no description in which an attribute can be
  /// changed.
  public func check(noise: Double) throws {
    if noise > 0, case .clips = self {
      throw ConfigurationError(
        "captions of your own clips cannot be made wrong", "caption_noise",
        "set it to 0, or train on the world")
    }
  }
  /// Captions with one attribute changed; nil if the clips have no description.
  public func swappedCaptions(_ indices: [Int], drawing stream: inout RandomStream) -> [String]? {
    guard case .world(let sampler, _) = self else { return nil }
    return indices.map {
      CaptionGrammar.caption(
        sampler.training($0).description.swapped(drawing: &stream).description, drawing: &stream)
    }
  }
  /// Clips in which one object has a shape between the one its caption names and another; `shares`
  /// gives the blend. nil if the clips have no description.
  public func malformed(
    _ indices: [Int], shares: Range<Double>, drawing stream: inout RandomStream,
    in work: borrowing Workspace
  ) -> (clips: Tensor, captions: [String])? {
    guard case .world(let sampler, let renderer) = self else { return nil }
    let scenes = indices.map { index in
      var scene = sampler.training(index)
      let k = stream.below(scene.objects.count)
      let others = ShapeKind.allCases.filter { $0 != scene.objects[k].shape }
      scene.objects[k].blend = .init(
        others[stream.below(others.count)], share: stream.uniform(shares))
      return scene
    }
    return (
      renderer.render(scenes, in: work),
      scenes.map { CaptionGrammar.caption($0.description, drawing: &stream) }
    )
  }
  /// A key that is the same for two clips that show the same thing.
  public func identities(_ indices: [Int]) -> [String] {
    switch self {
    case .world(let sampler, _):
      indices.map { CaptionGrammar.plainCaption(sampler.training($0).description) }
    case .clips(_, let captions): indices.map { captions[$0 % captions.count] }
    }
  }
  /// Frames, height, width of a clip.
  public var canvas: (frames: Int, height: Int, width: Int) {
    switch self {
    case .world(_, let r): (r.canvas.frames, r.canvas.height, r.canvas.width)
    case .clips(let list, _): (list[0].shape[0], list[0].shape[2], list[0].shape[3])
    }
  }
}
