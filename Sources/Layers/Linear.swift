public import TensorRuntime

/// y = x Wᵀ + b (+ s (x Aᵀ) Bᵀ with a low-rank adapter; Hu et al. 2021, arXiv:2106.09685, eq. 3).
///
/// Shapes: x `[..., in]`, W `[out, in]`, b `[out]`, y `[..., out]`; A `[r, in]`, B `[out, r]`, s =
/// α / r. A checkpoint may hold W as a convolution of one cell, `[out, in, 1...]`.
public struct Linear: Layer {
  public var weight: Parameter
  public var bias: Parameter?
  public var adapter: LowRankAdapter?

  /// x is kept only for the gradients of W and A. A frozen layer keeps nothing.
  public struct Saved: SavedTensors {
    var x: Tensor?
    var down: Tensor?  // x Aᵀ
    /// Without x, for a caller who makes it again and gives it to `Linear.saved(_:with:)`.
    public var withoutInput: Saved { Saved(x: nil, down: down) }
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      x.forEachTensor(body)
      down.forEachTensor(body)
    }
  }

  public init(
    _ name: String, _ input: Int, _ output: Int, bias: Bool = true,
    initial: ParameterSource.Initial? = nil, weightName: String? = nil, biasName: String? = nil,
    cellAxes: Int = 0, from source: ParameterSource
  ) throws {
    let shape = Shape([output, input] + Array(repeating: 1, count: cellAxes))
    weight = try source(weightName ?? "\(name).weight", shape, initial ?? .fanIn(input))
    self.bias =
      bias
      ? try source(
        biasName ?? "\(name).bias", Shape(output), initial.map { _ in .zeros } ?? .fanIn(input))
      : nil
  }

  public var inputWidth: Int { weight.value.shape[1] }
  public var outputWidth: Int { weight.value.shape[0] }
  private var matrix: Tensor { weight.value.reshaped(Shape(outputWidth, inputWidth)) }

  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    var y = work.linear(x, weight: matrix, bias: bias?.value, frozen: !weight.isTrainable)
    guard let adapter else { return (y, Saved(x: kept(x), down: nil)) }
    let down = work.linear(x, weight: adapter.a.value, bias: nil)
    work.linear(down, weight: adapter.b.value, times: adapter.scale, addingTo: &y)
    return (y, Saved(x: kept(x), down: adapter.isTrainable ? down : nil))
  }
  public func callAsFunction(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    forward(x, in: work).y
  }
  /// y, and f(y) in columns `column...` of `active`.
  public func forward(
    _ x: Tensor, then f: Activation, into active: inout Tensor, at column: Int = 0,
    in work: borrowing Workspace
  ) -> (y: Tensor, saved: Saved) {
    guard let adapter else {
      return (
        work.linear(
          x, weight: matrix, bias: bias?.value, frozen: !weight.isTrainable, then: f,
          into: &active, at: column), Saved(x: kept(x), down: nil)
      )
    }
    var y = work.linear(x, weight: matrix, bias: bias?.value, frozen: !weight.isTrainable)
    let down = work.linear(x, weight: adapter.a.value, bias: nil)
    work.linear(
      down, weight: adapter.b.value, times: adapter.scale, addingTo: &y, then: f, into: &active,
      at: column)
    return (y, Saved(x: kept(x), down: adapter.isTrainable ? down : nil))
  }
  /// f(y) alone.
  public func callAsFunction(_ x: Tensor, then f: Activation, in work: borrowing Workspace)
    -> Tensor
  {
    guard adapter == nil else {
      var active = work.tensor(x.shape.replacingLast(with: outputWidth), x.type)
      _ = forward(x, then: f, into: &active, in: work)
      return active
    }
    return work.linear(
      x, weight: matrix, bias: bias?.value, frozen: !weight.isTrainable, then: f)
  }

  /// Returns dx = dy W + s (dy B) A; adds dyᵀ x to W's gradient, Σ dy to b's, s dyᵀ (x Aᵀ) to B's
  /// and s (dy B)ᵀ x to A's.
  public mutating func backward(_ dy: Tensor, _ saved: Saved, in work: borrowing Workspace)
    -> Tensor
  {
    let low = lowRank(dy, in: work)
    parametersBackward(dy, low, saved, in: work)
    return inputBackward(dy, low, in: work)
  }
  /// As `backward`, with dx added to another gradient.
  public mutating func backward(
    _ dy: Tensor, _ saved: Saved, addingTo dx: inout Tensor, in work: borrowing Workspace
  ) {
    let low = lowRank(dy, in: work)
    parametersBackward(dy, low, saved, in: work)
    work.linearBackwardInput(dy, weight: matrix, frozen: !weight.isTrainable, addingTo: &dx)
    if let adapter { work.linearBackwardInput(low!, weight: adapter.a.value, addingTo: &dx) }
  }
  /// dx alone, or some of its columns.
  public func backwardInput(_ dy: Tensor, columns: Range<Int>? = nil, in work: borrowing Workspace)
    -> Tensor
  { inputBackward(dy, lowRank(dy, in: work), columns: columns, in: work) }
  /// The same through the derivative of f at `before` (where x was f(before)).
  public func backwardInput(
    _ dy: Tensor, columns: Range<Int>? = nil, through f: Activation, at before: Tensor,
    in work: borrowing Workspace
  ) -> Tensor {
    inputBackward(dy, lowRank(dy, in: work), columns: columns, through: f, at: before, in: work)
  }
  /// Only the gradients of the parameters, when nothing below needs dx.
  public mutating func backwardParameters(
    _ dy: Tensor, _ saved: Saved, in work: borrowing Workspace
  ) {
    parametersBackward(
      dy, adapter?.a.isTrainable == true ? lowRank(dy, in: work) : nil, saved, in: work)
  }

  private var keepsInput: Bool { weight.isTrainable || adapter?.a.isTrainable == true }
  private func kept(_ x: Tensor) -> Tensor? { keepsInput ? x : nil }
  /// What `forward` kept, with its input, which is made if it is needed.
  public func saved(_ s: Saved, with input: () -> Tensor) -> Saved {
    keepsInput ? Saved(x: input(), down: s.down) : s
  }
  private func input(_ saved: Saved) -> Tensor {
    guard let x = saved.x else {
      preconditionFailure("\(weight.name) was frozen when it ran forward: its input was not kept")
    }
    return x
  }
  /// s dy B.
  private func lowRank(_ dy: Tensor, in work: borrowing Workspace) -> Tensor? {
    adapter.map { work.linearBackwardInput(dy, weight: $0.b.value, times: $0.scale) }
  }
  private func inputBackward(
    _ dy: Tensor, _ low: Tensor?, columns: Range<Int>? = nil, through f: Activation? = nil,
    at before: Tensor? = nil, in work: borrowing Workspace
  ) -> Tensor {
    guard let adapter else {
      return work.linearBackwardInput(
        dy, weight: matrix, frozen: !weight.isTrainable, columns: columns, through: f,
        at: before)
    }
    var dx = work.linearBackwardInput(
      dy, weight: matrix, frozen: !weight.isTrainable, columns: columns)
    work.linearBackwardInput(
      low!, weight: adapter.a.value, columns: columns, addingTo: &dx, through: f, at: before)
    return dx
  }
  private mutating func parametersBackward(
    _ dy: Tensor, _ low: Tensor?, _ saved: Saved, in work: borrowing Workspace
  ) {
    if weight.isTrainable {
      work.linearBackwardWeight(dy, x: input(saved), addingTo: &weight.gradient)
    }
    if bias != nil { work.addColumnSums(dy, to: &bias!.gradient) }
    if adapter != nil, adapter!.isTrainable {
      work.linearBackwardWeight(
        dy, x: saved.down!, times: adapter!.scale, addingTo: &adapter!.b.gradient)
      if adapter!.a.isTrainable {
        work.linearBackwardWeight(low!, x: input(saved), addingTo: &adapter!.a.gradient)
      }
    }
  }

  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&weight)
    if bias != nil { try body(&bias!) }
    try adapter?.forEachParameter(body)
  }
}
