public import Layers
public import TensorRuntime

/// emb = MLP(a) + MLP(s(fps)), a = s(t) plus projections of the guidance and motion embeddings
/// (videocrafter.md 2.3), `[B, 4 mc]`.
public struct UNetEmbedding: Layer {
  public var time, fps: FeedForward
  public var guidance, motion, combine: Linear?

  public struct Saved: Sendable {
    let time, fps: FeedForward.Saved
    let guidance: Linear.Saved?, motion: Linear.Saved?, combine: Linear.Saved?
  }

  init(_ c: VideoUNetConfig, from source: ParameterSource) throws {
    let (mc, width) = (c.modelChannels, c.embeddingWidth)
    func network(_ name: String) throws -> FeedForward {
      try FeedForward(
        "\(name).0", "\(name).2", width: mc, hidden: width, output: width, activation: .silu,
        from: source)
    }
    time = try network("time_embed")
    fps = try network("fps_embedding")
    // A fresh projection changes nothing (D-46).
    guidance = try c.timeCondProjDim.map {
      try Linear("time_cond_proj", $0, mc, bias: false, initial: .zeros, from: source)
    }
    guard let motionWidth = c.motionCondProjDim else { return }
    motion = try Linear("motion_cond_proj", motionWidth, mc, bias: false, from: source)
    combine = try Linear("combine_proj", 2 * mc, mc, bias: false, from: source)
  }

  /// Without guidance a = s(t); without motion scales those of motion are 0.
  func forward(
    times: [Float], fps rates: [Float], guidance scales: [Double]?, motion motions: [Double]?,
    type: ElementType, in work: borrowing Workspace
  ) -> (y: Tensor, saved: Saved) {
    let mc = time.up.inputWidth
    var a = SinusoidalEmbedding.embed(times, width: mc, type: type)
    var gs: Linear.Saved?
    var ms: Linear.Saved?
    var cs: Linear.Saved?
    if let guidance, let scales {
      var g: Tensor
      (g, gs) = guidance.forward(
        ScaleEmbedding.embed(scales, width: guidance.inputWidth, type: type), in: work)
      if let motion, let combine {
        let still = motions ?? scales.map { _ in 0 }
        let (m, saved) = motion.forward(
          ScaleEmbedding.embed(still, width: motion.inputWidth, type: type), in: work)
        ms = saved
        (g, cs) = combine.forward(work.concatenated([g, m], axis: 1), in: work)
      }
      work.add(g, to: &a)
    }
    var (y, ts) = time.forward(a, in: work)
    let (f, fs) = fps.forward(SinusoidalEmbedding.embed(rates, width: mc, type: type), in: work)
    work.add(f, to: &y)
    return (y, Saved(time: ts, fps: fs, guidance: gs, motion: ms, combine: cs))
  }
  mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) {
    _ = fps.backward(dy, s.fps, in: work)
    let da = time.backward(dy, s.time, in: work)
    guard let gs = s.guidance else { return }
    guard let ms = s.motion, let cs = s.combine else {
      return guidance!.backwardParameters(da, gs, in: work)
    }
    let mc = time.up.inputWidth
    let dBoth = combine!.backward(da, cs, in: work)
    guidance!.backwardParameters(work.narrowed(dBoth, axis: 1, 0..<mc), gs, in: work)
    motion!.backwardParameters(work.narrowed(dBoth, axis: 1, mc..<2 * mc), ms, in: work)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try time.forEachParameter(body)
    try fps.forEachParameter(body)
    try guidance.forEachParameter(body)
    try motion.forEachParameter(body)
    try combine.forEachParameter(body)
  }
  mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows {
    for network in [\UNetEmbedding.time, \UNetEmbedding.fps] {
      try self[keyPath: network].up.asAdaptable(body)
      try self[keyPath: network].down.asAdaptable(body)
    }
    try guidance?.asAdaptable(body)
    try motion?.asAdaptable(body)
    try combine?.asAdaptable(body)
  }
}
