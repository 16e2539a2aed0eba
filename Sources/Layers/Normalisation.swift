public import TensorRuntime

/// Layer normalisation over the last axis (Ba, Kiros, Hinton 2016, arXiv:1607.06450, eq. 4). With
/// `affine: false` it has no γ and β.
public struct LayerNorm: Layer {
  public var scale: Parameter?
  public var shift: Parameter?
  public let epsilon: Double

  public struct Saved: SavedTensors {
    var x: Tensor
    let statistics: Workspace.RowStatistics
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) { x.forEachTensor(body) }
  }

  public init(_ name: String, _ channels: Int, epsilon: Double, from source: ParameterSource) throws
  {
    scale = try source("\(name).weight", Shape(channels), .ones)
    shift = try source("\(name).bias", Shape(channels), .zeros)
    self.epsilon = epsilon
  }
  /// Without parameters.
  public init(epsilon: Double) { (scale, shift, self.epsilon) = (nil, nil, epsilon) }

  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    let (y, statistics) = work.layerNorm(
      x, scale: scale?.value, shift: shift?.value, epsilon: epsilon)
    return (y, Saved(x: x, statistics: statistics))
  }
  public func callAsFunction(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    forward(x, in: work).y
  }
  /// What `forward` gave, for a backward pass that does not keep it.
  public func again(_ s: Saved, in work: borrowing Workspace) -> Tensor {
    self(work.widened(s.x), in: work)
  }
  /// dx plus `side`, the gradient of the path around the norm. `rectified`: x was ReLU(h), and the
  /// result is the gradient of h.
  public mutating func backward(
    _ dy: Tensor, _ saved: Saved, rectified: Bool = false, adding side: Tensor? = nil,
    in work: borrowing Workspace
  ) -> Tensor {
    guard scale != nil else {
      var none: Tensor?
      var nothing: Tensor?
      return work.layerNormBackward(
        dy, x: saved.x, rectified: rectified, scale: nil, statistics: saved.statistics,
        adding: side, addingTo: &none, &nothing)
    }
    return work.layerNormBackward(
      dy, x: saved.x, rectified: rectified, scale: scale!.value, statistics: saved.statistics,
      adding: side, addingTo: &scale!.gradient, &shift!.gradient)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    if scale != nil { try body(&scale!) }
    if shift != nil { try body(&shift!) }
  }
}

/// Root-mean-square normalisation over the last axis (Zhang, Sennrich 2019, arXiv:1910.07467, eq.
/// 4).
public struct RMSNorm: Layer {
  public var scale: Parameter
  public let epsilon: Double

  public struct Saved: SavedTensors {
    var x: Tensor
    let rstd: Tensor
    public var shape: Shape { x.shape }
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) { x.forEachTensor(body) }
  }

  public init(_ name: String, _ channels: Int, epsilon: Double, from source: ParameterSource) throws
  {
    scale = try source("\(name).weight", Shape(channels), .ones)
    self.epsilon = epsilon
  }
  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    let (y, rstd) = work.rmsNorm(x, scale: scale.value, epsilon: epsilon)
    return (y, Saved(x: x, rstd: rstd))
  }
  /// dx plus `side`, the gradient of the path around the norm.
  public mutating func backward(
    _ dy: Tensor, _ saved: Saved, adding side: Tensor? = nil, in work: borrowing Workspace
  ) -> Tensor {
    work.rmsNormBackward(
      dy, x: saved.x, scale: scale.value, rstd: saved.rstd, adding: side, addingTo: &scale.gradient)
  }
  /// Normalises queries or keys for each head, with γ `[dim]`, and applies rotary positions. Reads
  /// columns of x `[B, N, ...]` and writes rows of y `[B, M, heads * dim]` (`Workspace.headNorm`).
  public func forwardHeads(
    _ x: Tensor, column: Int = 0, heads: Int = 1, rotation: Workspace.Rotation? = nil,
    into y: inout Tensor, row: Int = 0, in work: borrowing Workspace
  ) -> Saved {
    Saved(
      x: x,
      rstd: work.headNorm(
        x, column: column, heads: heads, scale: scale.value, epsilon: epsilon, rotation: rotation,
        into: &y, row: row))
  }
  /// Reads the same rows of dy and writes the same columns of dx.
  public mutating func backwardHeads(
    _ dy: Tensor, row: Int = 0, _ s: Saved, column: Int = 0, heads: Int = 1,
    rotation: Workspace.Rotation? = nil, into dx: inout Tensor, in work: borrowing Workspace
  ) {
    work.headNormBackward(
      dy, row: row, x: s.x, column: column, heads: heads, scale: scale.value, rstd: s.rstd,
      rotation: rotation, into: &dx, addingTo: &scale.gradient)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&scale)
  }
}

/// Group normalisation of `[B, C, ...]` (Wu, He 2018, arXiv:1803.08494), optionally followed by
/// SiLU in the same pass; `eachFrame`: of every frame of `[B, C, T, ...]` by itself.
public struct GroupNorm: Layer {
  public var scale: Parameter
  public var shift: Parameter
  public let groups: Int, epsilon: Double, silu: Bool, eachFrame: Bool

  public struct Saved: SavedTensors {
    var x: Tensor
    let statistics: Workspace.RowStatistics
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) { x.forEachTensor(body) }
  }

  public init(
    _ name: String, _ channels: Int, groups: Int, epsilon: Double, silu: Bool,
    eachFrame: Bool = false, from source: ParameterSource
  ) throws {
    scale = try source("\(name).weight", Shape(channels), .ones)
    shift = try source("\(name).bias", Shape(channels), .zeros)
    (self.groups, self.epsilon, self.silu) = (groups, epsilon, silu)
    self.eachFrame = eachFrame
  }
  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    let (y, statistics) = work.groupNorm(
      x, groups: groups, scale: scale.value, shift: shift.value, epsilon: epsilon, silu: silu,
      eachFrame: eachFrame)
    return (y, Saved(x: x, statistics: statistics))
  }
  /// What `forward` gave, for a backward pass that does not keep it.
  public func again(_ s: Saved, in work: borrowing Workspace) -> Tensor {
    work.groupNorm(
      s.x, s.statistics, groups: groups, scale: scale.value, shift: shift.value, silu: silu,
      eachFrame: eachFrame)
  }
  /// The norm in a form that a convolution applies as it reads x.
  func pending(_ x: Tensor, in work: borrowing Workspace) -> (
    norm: Workspace.PendingNorm, saved: Saved
  ) {
    let statistics = work.groupStatistics(
      x, groups: groups, epsilon: epsilon, eachFrame: eachFrame)
    let norm = work.pendingNorm(
      x, statistics, groups: groups, scale: scale.value, shift: shift.value, silu: silu,
      eachFrame: eachFrame)
    return (norm, Saved(x: x, statistics: statistics))
  }
  public mutating func backward(
    _ dy: consuming Tensor, _ saved: Saved, in work: borrowing Workspace
  ) -> Tensor { backward(dy, saved, adding: nil, in: work) }
  /// dx plus `side`, the gradient of the path around the norm.
  public mutating func backward(
    _ dy: consuming Tensor, _ saved: Saved, adding side: Tensor?, in work: borrowing Workspace
  ) -> Tensor {
    work.groupNormBackward(
      dy, x: saved.x, groups: groups, scale: scale.value, shift: shift.value, epsilon: epsilon,
      silu: silu, eachFrame: eachFrame, statistics: saved.statistics, adding: side,
      addingTo: &scale.gradient, &shift.gradient)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try body(&scale)
    try body(&shift)
  }
}
