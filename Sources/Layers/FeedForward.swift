public import TensorRuntime

/// y = W₂ f(W₁ x + b₁) + b₂.
public struct FeedForward: Layer {
  public var up: Linear
  public var down: Linear
  public let activation: Activation

  public struct Saved: SavedTensors {
    var up: Linear.Saved, hidden: Tensor, down: Linear.Saved
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      up.forEachTensor(body)
      hidden.forEachTensor(body)
      down.forEachTensor(body)
    }
  }

  /// `upName`, `downName` are the checkpoint names of the two linear layers.
  public init(
    _ upName: String, _ downName: String, width: Int, hidden: Int, output: Int? = nil,
    activation: Activation, initial: ParameterSource.Initial? = nil, from source: ParameterSource
  ) throws {
    up = try Linear(upName, width, hidden, initial: initial, from: source)
    down = try Linear(downName, hidden, output ?? width, initial: initial, from: source)
    self.activation = activation
  }
  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    var active = work.tensor(x.shape.replacingLast(with: up.outputWidth), x.type)
    let (hidden, up) = up.forward(x, then: activation, into: &active, in: work)
    let (y, down) = down.forward(active, in: work)
    return (y, Saved(up: up, hidden: hidden, down: down))
  }
  public func callAsFunction(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    down(up(x, then: activation, in: work), in: work)
  }
  public mutating func backward(_ dy: Tensor, _ saved: Saved, in work: borrowing Workspace)
    -> Tensor
  {
    down.backwardParameters(dy, saved.down, in: work)
    return up.backward(
      down.backwardInput(dy, through: activation, at: saved.hidden, in: work), saved.up, in: work)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try up.forEachParameter(body)
    try down.forEachParameter(body)
  }
}

/// y = W₂ (a ⊙ f(b)) + b₂ with [a; b] = W₁ x + b₁ (GEGLU; Shazeer 2020, arXiv:2002.05202, eq. 6).
/// Backward makes a ⊙ f(b) again, and is given x again; only a and b are kept, and their gradients
/// take their place.
public struct GatedFeedForward: Layer {
  public var up: Linear
  public var down: Linear
  public let activation: Activation

  public struct Saved: SavedTensors {
    var up: Linear.Saved, halves: Tensor, down: Linear.Saved
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      up.forEachTensor(body)
      halves.forEachTensor(body)
      down.forEachTensor(body)
    }
  }

  /// `upName`, `downName` are the checkpoint names of the two linear layers.
  public init(
    _ upName: String, _ downName: String, width: Int, hidden: Int, activation: Activation,
    from source: ParameterSource
  ) throws {
    up = try Linear(upName, width, 2 * hidden, from: source)
    down = try Linear(downName, hidden, width, from: source)
    self.activation = activation
  }
  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    var (halves, us) = up.forward(x, in: work)
    let gated = work.gated(activation, halves)
    work.narrow(&halves)
    let (y, ds) = down.forward(consume gated, in: work)
    return (y, Saved(up: us.withoutInput, halves: halves, down: ds.withoutInput))
  }
  public func callAsFunction(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    down(work.gated(activation, up(x, in: work)), in: work)
  }
  public mutating func backward(
    _ dy: Tensor, _ saved: consuming Saved, of x: Tensor, in work: borrowing Workspace
  ) -> Tensor {
    let (us, halves, ds) = (saved.up, work.widened(saved.halves), saved.down)
    _ = consume saved
    let dGated = down.backward(
      dy, down.saved(ds) { work.gated(activation, halves) }, in: work)
    let dHalves = work.gatedBackward(activation, dGated, x: consume halves)
    return up.backward(dHalves, up.saved(us) { x }, in: work)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try up.forEachParameter(body)
    try down.forEachParameter(body)
  }
}
