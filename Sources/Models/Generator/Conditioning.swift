public import Layers
import TensorRuntime

/// Linear, SiLU, Linear on one vector for each sample: sinusoids of times or guidance, or a pooled
/// text vector.
typealias ConditioningMLP = FeedForward

extension FeedForward {
  static func conditioning(_ name: String, input: Int, width: Int, from source: ParameterSource)
    throws -> FeedForward
  {
    try FeedForward(
      "\(name).linear_1", "\(name).linear_2", width: input, hidden: width, output: width,
      activation: .silu, initial: .normal(deviation: 0.02), from: source)
  }
}

/// vec = MLP_time(e(t)) + MLP_vector(pooled) + MLP_guidance(e(guidance)), with 256 sinusoids
/// (algorithm.md 6.3).
public struct ConditioningVector: Layer {
  public var time, text: FeedForward
  public var guidance: FeedForward?

  public struct Saved: Sendable { let time, text: FeedForward.Saved, guidance: FeedForward.Saved? }

  init(_ name: String, _ c: TransformerConfig, from source: ParameterSource) throws {
    time = try .conditioning("\(name).timestep_embedder", input: 256, width: c.width, from: source)
    guidance =
      c.guidanceEmbeds
      ? try .conditioning("\(name).guidance_embedder", input: 256, width: c.width, from: source)
      : nil
    text = try .conditioning(
      "\(name).text_embedder", input: c.pooledProjectionDim, width: c.width, from: source)
  }
  func forward(times: [Float], pooled: Tensor, guidance g: [Float]?, in work: borrowing Workspace)
    -> (y: Tensor, saved: Saved)
  {
    var (y, ts) = time.forward(
      SinusoidalEmbedding.embed(times, width: 256, type: pooled.type), in: work)
    let (p, ps) = text.forward(pooled, in: work)
    work.add(p, to: &y)
    guard let guidance else { return (y, Saved(time: ts, text: ps, guidance: nil)) }
    guard let g else {
      preconditionFailure("this model embeds guidance: a value per sample is needed")
    }
    let (e, gs) = guidance.forward(
      SinusoidalEmbedding.embed(g, width: 256, type: pooled.type), in: work)
    work.add(e, to: &y)
    return (y, Saved(time: ts, text: ps, guidance: gs))
  }
  /// Gradient of the pooled vector.
  mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    _ = time.backward(dy, s.time, in: work)
    if let saved = s.guidance { _ = guidance!.backward(dy, saved, in: work) }
    return text.backward(dy, s.text, in: work)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try time.forEachParameter(body)
    try guidance.forEachParameter(body)
    try text.forEachParameter(body)
  }
}

/// The chunks (shift, scale, gate, ...) of one modulation matrix for each sample: Linear(SiLU(vec))
/// `[B, n D]`.
struct Modulation: Layer {
  var linear: Linear
  let chunks: Int

  struct Saved: Sendable {
    let linear: Linear.Saved
    let values: Tensor
  }
  init(_ name: String, width: Int, chunks: Int, from source: ParameterSource) throws {
    linear = try Linear("\(name).linear", width, chunks * width, initial: .zeros, from: source)
    self.chunks = chunks
  }
  func forward(_ active: Tensor, in work: borrowing Workspace) -> Saved {
    let (y, s) = linear.forward(active, in: work)
    return Saved(linear: s, values: y)
  }
  func chunk(_ s: Saved, _ i: Int) -> Workspace.Chunk { Workspace.Chunk(s.values, i, of: chunks) }

  struct NormSaved: SavedTensors {
    var x: Tensor
    let statistics: Workspace.RowStatistics
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) { x.forEachTensor(body) }
  }
  static let epsilon = 1e-6

  /// LN(x) (1 + chunk `scale`) + chunk `shift`: x `[B, N, D]`.
  func norm(_ x: Tensor, _ s: Saved, scale: Int, shift: Int, in work: borrowing Workspace) -> (
    y: Tensor, saved: NormSaved
  ) {
    let (y, statistics) = work.adaptiveLayerNorm(
      x, scale: chunk(s, scale), shift: chunk(s, shift), epsilon: Self.epsilon)
    return (y, NormSaved(x: x, statistics: statistics))
  }
  /// dx plus `side`, the gradient of the path around the norm. Adds to the gradient of the chunks.
  func normBackward(
    _ dy: Tensor, _ n: NormSaved, _ s: Saved, scale: Int, shift: Int, adding side: Tensor? = nil,
    addingTo dChunks: inout Tensor?, in work: borrowing Workspace
  ) -> Tensor {
    work.adaptiveLayerNormBackward(
      dy, x: n.x, scale: chunk(s, scale), statistics: n.statistics, adding: side, scaleIndex: scale,
      shiftIndex: shift, of: chunks, addingTo: &dChunks)
  }
  /// x + chunk `index` ⊙ h, and the gradient of h.
  func gate(_ x: Tensor, _ s: Saved, _ index: Int, _ h: Tensor, in work: borrowing Workspace)
    -> Tensor
  { work.gate(x, chunk(s, index), h) }
  func gateBackward(
    _ dy: Tensor, _ s: Saved, _ index: Int, h: Tensor, addingTo dChunks: inout Tensor?,
    in work: borrowing Workspace
  ) -> Tensor {
    work.gateBackward(dy, chunk(s, index), h: h, index: index, of: chunks, addingTo: &dChunks)
  }
  /// Zeros for the gradient of the chunks; nil if conditioning is not trained.
  func gradient(_ s: Saved, wanted: Bool, in work: borrowing Workspace) -> Tensor? {
    wanted ? work.zeros(s.values.shape, s.values.type) : nil
  }
  /// Adds to the gradient of SiLU(vec).
  mutating func backward(
    _ dValues: Tensor?, _ s: Saved, addingTo dActive: inout Tensor?, in work: borrowing Workspace
  ) {
    guard let dValues else { return }
    work.add(linear.backward(dValues, s.linear, in: work), to: &dActive)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try linear.forEachParameter(body)
  }
}
