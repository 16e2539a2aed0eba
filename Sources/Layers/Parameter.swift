public import TensorRuntime

/// A weight with its checkpoint name. Code only adds to the gradient. A frozen parameter has no
/// gradient.
///
/// Copies share one cell until one of them is changed. A model is a value with hundreds of
/// parameters: the code that copies such values is smaller by eight megabytes than with all three
/// in place (Documentation/notes/performance.md, "Size of the program").
public struct Parameter: Sendable {
  private var cell: Cell

  /// Its holder changes it only if it is the only one.
  @safe private final class Cell: @unchecked Sendable {
    let name: String
    var value: Tensor
    var gradient: Tensor?
    init(_ name: String, _ value: Tensor, gradient: Tensor? = nil) {
      (self.name, self.value, self.gradient) = (name, value, gradient)
    }
  }
  private mutating func makeUnique() {
    if !isKnownUniquelyReferenced(&cell) {
      cell = Cell(cell.name, cell.value, gradient: cell.gradient)
    }
  }

  public init(_ name: String, _ value: Tensor) { cell = Cell(name, value) }

  public var name: String { cell.name }
  public var value: Tensor {
    get { cell.value }
    _modify {
      makeUnique()
      yield &cell.value
    }
  }
  public var gradient: Tensor? {
    get { cell.gradient }
    _modify {
      makeUnique()
      yield &cell.gradient
    }
  }

  public var isTrainable: Bool { gradient != nil }

  /// Gives the parameter a gradient of zeros, and its value memory of its own. Values stored in bf16
  /// or f16 become f32 first, because no update is made in these types; not with `keepingStored`,
  /// where f32 masters are updated.
  public mutating func makeTrainable(keepingStored: Bool = false, in work: borrowing Workspace) {
    if !keepingStored || value.type == .i8 { value = work.widened(value) }
    value.makeUnique(in: work)
    gradient = work.zerosOnDemand(value.shape, value.type == .f64 ? .f64 : .f32)
  }
  public mutating func freeze() { gradient = nil }
  public mutating func zeroGradient(in work: borrowing Workspace) {
    if gradient != nil { work.fill(&gradient!, with: 0) }
  }
}

/// A type with parameters. A layer also has a pair `forward` and `backward` with signatures of its
/// own. `forward` returns what `backward` reads, so one layer can run several times before any
/// backward.
public protocol Layer: Sendable {
  /// Visits every parameter in declaration order: the order of checkpoints, optimiser state and
  /// sums over parameters.
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows
}

extension Layer {
  /// Visits every parameter in order, for reading.
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
    keepingStored: Bool = false, in work: borrowing Workspace,
    where wanted: (String) -> Bool = { _ in true }
  ) {
    forEachParameter { p in
      if wanted(p.name) { p.makeTrainable(keepingStored: keepingStored, in: work) }
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
