public import TensorRuntime

/// A weight with its checkpoint name. The gradient is only ever added to; a frozen parameter has
/// none.
public struct Parameter: Sendable {
  public let name: String
  public var value: Tensor
  public var gradient: Tensor?

  public init(_ name: String, _ value: Tensor) { (self.name, self.value) = (name, value) }

  public var isTrainable: Bool { gradient != nil }

  /// Gives the parameter a gradient of zeros. Storage types (bf16, f16) become f32 first: they are
  /// never trained.
  public mutating func makeTrainable(in work: borrowing Workspace) {
    value = work.widened(value)
    gradient = work.zeros(value.shape, value.type)
  }
  public mutating func freeze() { gradient = nil }
  public mutating func zeroGradient(in work: borrowing Workspace) {
    if gradient != nil { work.fill(&gradient!, with: 0) }
  }
}

/// Something with parameters. A layer also has a pair `forward`, `backward` of its own shape:
/// `forward` returns what `backward` reads, so one layer can run many times before any backward.
public protocol Layer: Sendable {
  /// Visits every parameter in declaration order: the order of checkpoints, optimiser state and
  /// sums over parameters.
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows
}

extension Layer {
  /// Reads every parameter, in order.
  public func readParameters(_ body: (Parameter) throws -> Void) rethrows {
    var copy = self
    try copy.forEachParameter { try body($0) }
  }
  public func trainableParameters() -> [Parameter] {
    var list: [Parameter] = []
    readParameters { if $0.isTrainable { list.append($0) } }
    return list
  }
  public var parameterCount: Int {
    var n = 0
    readParameters { n += $0.value.count }
    return n
  }
  public mutating func makeTrainable(
    in work: borrowing Workspace, where wanted: (String) -> Bool = { _ in true }
  ) {
    forEachParameter { p in
      if wanted(p.name) { p.makeTrainable(in: work) }
    }
  }
  public mutating func freeze() { forEachParameter { $0.freeze() } }
  public mutating func zeroGradients(in work: borrowing Workspace) {
    forEachParameter { $0.zeroGradient(in: work) }
  }
}

extension Array: Layer where Element: Layer {
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    for i in indices { try self[i].forEachParameter(body) }
  }
}
extension Optional: Layer where Wrapped: Layer {
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try self?.forEachParameter(body)
  }
}
