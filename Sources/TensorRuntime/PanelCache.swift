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
  struct Packing: Sendable { let key: Key, panels: Tensor, lease: PanelBudget.Lease }
  private let packings = Mutex<[Packing]>([])

  /// The panels with the key `key`. If they are not there yet, `make` makes them; nil if `budget`
  /// has no room for their `bytes`.
  func panels(
    _ key: Key, within budget: PanelBudget, bytes: Int, make: () -> Tensor
  ) -> Tensor? {
    packings.withLock { list in
      if let found = list.first(where: { $0.key == key }) { return found.panels }
      guard let lease = budget.lease(bytes) else { return nil }
      let made = make()
      list.append(Packing(key: key, panels: made, lease: lease))
      return made
    }
  }
  func contains(_ key: Key) -> Bool { packings.withLock { $0.contains { $0.key == key } } }
  /// Must be called before elements are written.
  func forget() { packings.withLock { if !$0.isEmpty { $0 = [] } } }
}

/// How many bytes of packed weights may be kept. Products of weights for which there is no room
/// pack them anew each time, with the same bits.
public final class PanelBudget: Sendable {
  private let left: Mutex<Int>
  /// Without `bytes` there is no limit.
  public init(bytes: Int = .max) { left = Mutex(bytes) }

  /// Bytes of the budget that are held until it is released.
  final class Lease: Sendable {
    private let budget: PanelBudget, bytes: Int
    fileprivate init(_ budget: PanelBudget, _ bytes: Int) {
      (self.budget, self.bytes) = (budget, bytes)
    }
    deinit { budget.left.withLock { $0 += bytes } }
  }
  func has(_ bytes: Int) -> Bool { left.withLock { bytes <= $0 } }
  func lease(_ bytes: Int) -> Lease? {
    left.withLock {
      if bytes > $0 { return nil }
      $0 -= bytes
      return Lease(self, bytes)
    }
  }
}
