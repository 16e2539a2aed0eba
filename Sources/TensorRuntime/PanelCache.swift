internal import Synchronization

/// A weight packed as the right operand of products (`pk_gemm_pack`): each of its packings is made
/// once and kept with the elements until they change.
struct PanelCache: ~Copyable, Sendable {
  /// Which matrix of the storage, and how it is packed.
  struct Key: Hashable, Sendable {
    let offset, rows, columns: Int, isTransposed: Bool
    /// `pk_gemm_layout`.
    let layout: Int32
  }
  /// Not private: Swift 6.3.1 crashes in debug builds on a private type in a noncopyable one.
  struct Packing: Sendable { let key: Key, panels: Tensor }
  private let packings = Mutex<[Packing]>([])

  /// The panels with the key `key`; `make` makes them if they are not there yet.
  func panels(_ key: Key, make: () -> Tensor) -> Tensor {
    packings.withLock { list in
      if let found = list.first(where: { $0.key == key }) { return found.panels }
      let made = make()
      list.append(Packing(key: key, panels: made))
      return made
    }
  }
  func contains(_ key: Key) -> Bool { packings.withLock { $0.contains { $0.key == key } } }
  /// Must be called before elements are written.
  func forget() { packings.withLock { if !$0.isEmpty { $0 = [] } } }
}
