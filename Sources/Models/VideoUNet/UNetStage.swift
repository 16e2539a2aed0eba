import Layers
import TensorRuntime

/// One entry of `input_blocks`, `middle_block` or `output_blocks`: some of a residual block, a
/// transformer in space, one in time, a second residual block, and a convolution that changes the
/// resolution (videocrafter.md 2.5).
struct UNetStage: Layer {
  var residual: UNetResidualBlock?
  var spatial, temporal: SpaceTimeTransformer?
  var second: UNetResidualBlock?
  var resample: Convolution?

  struct Saved: Sendable {
    var residual: Kept<UNetResidualBlock.Saved>?
    var spatial, temporal: Kept<SpaceTimeTransformer.Saved>?
    var second: Kept<UNetResidualBlock.Saved>?
    var resample: Convolution.Saved?
  }
  /// What a part keeps for backward: everything, or its input, from which backward makes the rest.
  enum Kept<All: Sendable>: Sendable {
    case all(All)
    case input(Tensor)
  }
  /// What all stages read: SiLU(emb) and the text.
  struct Condition: Sendable {
    let active: Tensor, text: Tensor
    let checkpointing: Bool
  }
  /// The gradients of both, where they are wanted.
  struct ConditionGradients { var active: Tensor?, text: Tensor? }

  /// R(input → output) S T at `level`, named from `name`; transformers where the level has them, or
  /// if `isMiddle`.
  init(
    _ name: String, _ input: Int, _ output: Int, level: Int, isMiddle: Bool = false,
    _ c: VideoUNetConfig, from source: ParameterSource
  ) throws {
    residual = try UNetResidualBlock("\(name).0", input, output, c, from: source)
    if isMiddle || c.hasTransformers(atLevel: level) {
      let heads = output / c.numHeadChannels
      spatial = try SpaceTimeTransformer(
        "\(name).1", .space, width: output, heads: heads, c, from: source)
      temporal = try SpaceTimeTransformer(
        "\(name).2", .time, width: output, heads: heads, c, from: source)
    }
    if isMiddle { second = try UNetResidualBlock("\(name).3", output, output, c, from: source) }
  }
  /// A convolution with stride 2 alone.
  init(downsampling name: String, _ width: Int, from source: ParameterSource) throws {
    resample = try .image("\(name).0.op", width, width, kernel: 3, stride: 2, from: source)
  }
  /// Adds a convolution of the twice repeated pixels, which is the last part of the stage.
  mutating func addUpsampling(_ name: String, _ width: Int, from source: ParameterSource) throws {
    let place = spatial == nil ? 1 : 3
    resample = try .image(
      "\(name).\(place).conv", width, width, kernel: 3, upsampling: 2, from: source)
  }

  func forward(_ x: Tensor, _ c: Condition, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    var h = x
    var s = Saved()
    func kept<All>(_ all: All, _ input: Tensor) -> Kept<All> {
      c.checkpointing ? .input(input) : .all(all)
    }
    if let residual {
      let (y, saved) = residual.forward(h, c.active, in: work)
      (s.residual, h) = (kept(saved, h), y)
    }
    if let spatial {
      let (y, saved) = spatial.forward(h, context: c.text, in: work)
      (s.spatial, h) = (kept(saved, h), y)
    }
    if let temporal {
      let (y, saved) = temporal.forward(h, context: nil, in: work)
      (s.temporal, h) = (kept(saved, h), y)
    }
    if let second {
      let (y, saved) = second.forward(h, c.active, in: work)
      (s.second, h) = (kept(saved, h), y)
    }
    if let resample { (h, s.resample) = resample.forward(h, in: work) }
    return (h, s)
  }
  mutating func backward(
    _ dy: Tensor, _ s: Saved, _ c: Condition, addingTo d: inout ConditionGradients,
    in work: borrowing Workspace
  ) -> Tensor {
    var dh = dy
    var none: Tensor?
    if let saved = s.resample { dh = resample!.backward(dh, saved, in: work) }
    if let kept = s.second {
      let saved = Self.all(kept) { second!.forward($0, c.active, in: work).saved }
      dh = second!.backward(dh, saved, addingTo: &d.active, in: work)
    }
    if let kept = s.temporal {
      let saved = Self.all(kept) { temporal!.forward($0, context: nil, in: work).saved }
      dh = temporal!.backward(dh, saved, addingTo: &none, in: work)
    }
    if let kept = s.spatial {
      let saved = Self.all(kept) { spatial!.forward($0, context: c.text, in: work).saved }
      dh = spatial!.backward(dh, saved, addingTo: &d.text, in: work)
    }
    if let kept = s.residual {
      let saved = Self.all(kept) { residual!.forward($0, c.active, in: work).saved }
      dh = residual!.backward(dh, saved, addingTo: &d.active, in: work)
    }
    return dh
  }
  private static func all<All>(_ kept: Kept<All>, _ again: (Tensor) -> All) -> All {
    switch kept {
    case .all(let all): all
    case .input(let x): again(x)
    }
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try residual.forEachParameter(body)
    try spatial.forEachParameter(body)
    try temporal.forEachParameter(body)
    try second.forEachParameter(body)
    try resample.forEachParameter(body)
  }
  mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows {
    try residual?.forEachAdaptable(body)
    try spatial?.forEachAdaptable(body)
    try temporal?.forEachAdaptable(body)
    try second?.forEachAdaptable(body)
    try resample?.asAdaptable(body)
  }
}
