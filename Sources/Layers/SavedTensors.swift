public import TensorRuntime

/// What a forward pass leaves for backward.
public protocol SavedTensors: Sendable {
  /// Calls `body` with each tensor that grows with the size of a clip. Statistics and the
  /// logarithms of sums are left out.
  mutating func forEachTensor(_ body: (inout Tensor) -> Void)
}
extension Tensor: SavedTensors {
  public mutating func forEachTensor(_ body: (inout Tensor) -> Void) { body(&self) }
}
extension Optional: SavedTensors where Wrapped: SavedTensors {
  public mutating func forEachTensor(_ body: (inout Tensor) -> Void) { self?.forEachTensor(body) }
}
extension Array: SavedTensors where Element: SavedTensors {
  public mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
    for i in indices { self[i].forEachTensor(body) }
  }
}

extension Workspace {
  /// The same in the type of arithmetic, for several operations that read it.
  public func widened<Saved: SavedTensors>(_ saved: Saved) -> Saved {
    var wide = saved
    wide.forEachTensor { $0 = widened($0) }
    return wide
  }
  /// Converts to `Machine.savedType` for the time until backward, whose operations widen what they
  /// read. Products of this type round their operands anyway; norms and activations get rounded
  /// inputs in backward, as in mixed precision training (Micikevicius et al. 2018,
  /// arXiv:1710.03740). A tensor in two places is converted once.
  public func narrow<Saved: SavedTensors>(_ saved: inout Saved) {
    if Machine.savedType == .f32 { return }
    var shared: [(old: Tensor, new: Tensor)] = []
    saved.forEachTensor { x in
      if x.type != .f32 { return }
      if let known = shared.first(where: { $0.old.isSame(as: x) }) {
        x = known.new.reshaped(x.shape)
        return
      }
      let narrow = converted(x, to: .bf16, lasting: true)
      if !x.isOnlyHolder() { shared.append((x, narrow)) }
      x = narrow
    }
  }
}
