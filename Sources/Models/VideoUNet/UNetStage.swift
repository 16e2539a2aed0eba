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
    var residual: Kept<UNetResidualBlock.Saved, Tensor>?
    var spatial, temporal: Kept<SpaceTimeTransformer.Saved, Tensor>?
    var second: Kept<UNetResidualBlock.Saved, Tensor>?
    var resample: Convolution.Saved?
  }
  /// What all stages read: SiLU(emb) and the text.
  struct Condition: Sendable { let active: Tensor, text: Tensor }
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

  func forward(_ x: Tensor, _ c: Condition, keeping: Keeping, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    var h = x
    var s = Saved()
    if let residual {
      (h, s.residual) = residual.run(h, c.active, keeping: keeping, in: work)
    }
    if let spatial {
      (h, s.spatial) = spatial.run(h, context: c.text, keeping: keeping, in: work)
    }
    if let temporal {
      (h, s.temporal) = temporal.run(h, context: nil, keeping: keeping, in: work)
    }
    if let second { (h, s.second) = second.run(h, c.active, keeping: keeping, in: work) }
    if let resample {
      (h, s.resample) = resample.forward(h, in: work)
      if keeping != .nothing { work.narrow(&s.resample) }
    }
    return (h, s)
  }
  mutating func backward(
    _ dy: Tensor, _ s: consuming Saved, _ c: Condition, addingTo d: inout ConditionGradients,
    in work: borrowing Workspace
  ) -> Tensor {
    var dh = dy
    var none: Tensor?
    if let saved = s.resample { dh = resample!.backward(dh, saved, in: work) }
    if let saved = s.second.take()?.all(in: work, { second!.forward($0, c.active, in: work).saved })
    {
      dh = second!.backward(dh, consume saved, addingTo: &d.active, in: work)
    }
    if let saved = s.temporal.take()?.all(
      in: work, { temporal!.forward($0, context: nil, in: work).saved })
    {
      dh = temporal!.backward(dh, consume saved, addingTo: &none, in: work)
    }
    if let saved = s.spatial.take()?.all(
      in: work, { spatial!.forward($0, context: c.text, in: work).saved })
    {
      dh = spatial!.backward(dh, consume saved, addingTo: &d.text, in: work)
    }
    if let saved = s.residual.take()?.all(
      in: work, { residual!.forward($0, c.active, in: work).saved })
    {
      dh = residual!.backward(dh, consume saved, addingTo: &d.active, in: work)
    }
    return dh
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
