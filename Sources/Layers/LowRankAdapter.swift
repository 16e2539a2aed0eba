public import TensorRuntime

/// The trainable low-rank part of an adapted layer: W + s B A (Hu et al. 2021, arXiv:2106.09685,
/// eq. 3), s = α / r. B starts at zero, so the adapted layer starts unchanged.
///
/// Shapes: W `[out, in, k...]`; A `[r, in, k...]` and B `[out, r, 1...]`, which are multiplied as
/// matrices `[out, r]` and `[r, in k...]`.
public struct LowRankAdapter: Layer {
  public var a: Parameter
  public var b: Parameter
  /// α / r.
  public var scale: Double
  public var rank: Int { a.value.shape[0] }
  public var isTrainable: Bool { a.isTrainable || b.isTrainable }

  public init(a: Parameter, b: Parameter, scale: Double) {
    precondition(
      a.value.shape[0] == b.value.shape[1],
      "\(a.name): ranks \(a.value.shape), \(b.value.shape) differ")
    (self.a, self.b, self.scale) = (a, b, scale)
  }
  /// For a weight of shape `weight`. `module` is the adapted layer's name; parameters are
  /// `module.lora_A.weight`, `module.lora_B.weight`.
  public init(
    _ module: String, weight: Shape, rank: Int, alpha: Double, from source: ParameterSource
  ) throws {
    let kernel = weight.dims.dropFirst(2)
    let input = weight.count / weight[0]
    self.init(
      a: try source(
        "\(module).lora_A.weight", Shape([rank, weight[1]] + kernel), .fanIn(input)),
      b: try source(
        "\(module).lora_B.weight", Shape([weight[0], rank] + kernel.map { _ in 1 }), .zeros),
      scale: alpha / Double(rank))
  }
  /// A `[rank, in k...]` and B `[out, rank]`.
  private func matrices(in work: borrowing Workspace) -> (a: Tensor, b: Tensor) {
    (
      work.widened(a.value).reshaped(Shape(rank, a.value.count / rank)),
      work.widened(b.value).reshaped(Shape(b.value.shape[0], rank))
    )
  }

  /// s B A, the change of the weight, `[out, in k...]`.
  public func delta(in work: borrowing Workspace) -> Tensor {
    let (a, b) = matrices(in: work)
    return work.matmul(b, a, alpha: scale)
  }
  /// W + s B A, of W's shape.
  public func adding(to weight: Tensor, in work: borrowing Workspace) -> Tensor {
    var w = delta(in: work).reshaped(weight.shape)
    work.add(work.widened(weight), to: &w)
    return w
  }
  /// Adds s Bᵀ dW to A's gradient and s dW Aᵀ to B's, dW the gradient of the merged weight.
  public mutating func backward(_ dWeight: Tensor, in work: borrowing Workspace) {
    let d = dWeight.reshaped(Shape(dWeight.shape[0], dWeight.count / dWeight.shape[0]))
    let (wideA, wideB) = matrices(in: work)
    let da = work.matmul(wideB, d, transposeA: true, alpha: scale)
    let db = work.matmul(d, wideA, transposeB: true, alpha: scale)
    work.add(da.reshaped(a.value.shape), to: &a.gradient)
    work.add(db.reshaped(b.value.shape), to: &b.gradient)
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&a)
    try body(&b)
  }
}

/// A layer whose weight takes a low-rank adapter.
public protocol AdaptableLayer: Layer {
  var weight: Parameter { get set }
  var adapter: LowRankAdapter? { get set }
}
extension Linear: AdaptableLayer {}
extension Convolution: AdaptableLayer {}

extension AdaptableLayer {
  /// The layer's name: that of its weight without `.weight`.
  public var module: String { String(weight.name.dropLast(".weight".count)) }

  /// Adds a trainable adapter of a rank that the weight can have.
  public mutating func attachAdapter(
    rank: Int, alpha: Double, from source: ParameterSource, in work: borrowing Workspace
  ) throws {
    var new = try LowRankAdapter(
      module, weight: weight.value.shape, rank: rank, alpha: alpha, from: source)
    new.makeTrainable(in: work)
    adapter = new
  }
  /// W ← W + s B A. The adapter is removed.
  public mutating func mergeAdapter(in work: borrowing Workspace) {
    guard let adapter else { return }
    var w = work.widened(weight.value)
    work.add(adapter.delta(in: work).reshaped(w.shape), to: &w)
    (weight.value, self.adapter) = (w, nil)
  }
  /// Calls `body` with this layer as one of any kind.
  public mutating func asAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows {
    var layer: any AdaptableLayer = self
    try body(&layer)
    self = layer as! Self
  }
}
