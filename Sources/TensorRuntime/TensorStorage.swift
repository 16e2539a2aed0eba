internal import CKernels
import Glibc
internal import Synchronization

/// The memory of tensors: a block of a pool, a block of its own, or memory of another owner (a
/// mapped file), which is never written. A holder writes elements only after it has made sure that
/// it is the only one (`Tensor.makeUnique`). This makes sharing between tasks sound.
final class TensorStorage: @unchecked Sendable {
  let pointer: UnsafeMutableRawPointer
  let byteCount: Int
  let isReadOnly: Bool
  private let origin: Origin
  /// Whether the elements are zero without having been written yet. Gradients at the start of a
  /// step are: the first product then overwrites them instead of adding to them.
  private let isCleared = Atomic<Bool>(false)
  /// Panels of a weight, packed for products (`Workspace.linear`) and kept until the elements
  /// change.
  private let panels = Mutex<[PackedPanels]>([])
  private enum Origin {
    case pool(BufferPool, capacity: Int)
    case own
    case borrowed(any AnyObject & Sendable)
  }

  /// In a plan, pools that a step makes for itself also take their memory from the plan.
  init(byteCount: Int, from pool: BufferPool) {
    let pool = MemoryPlan.current?.pool(for: pool) ?? pool
    let (pointer, capacity) = pool.take(byteCount)
    (self.pointer, self.byteCount, isReadOnly, origin) = (
      pointer, byteCount, false, .pool(pool, capacity: capacity)
    )
  }
  init(byteCount: Int) {
    if let plan = MemoryPlan.current {
      let (pointer, capacity) = plan.pool.take(byteCount)
      (self.pointer, self.byteCount, isReadOnly, origin) = (
        pointer, byteCount, false, .pool(plan.pool, capacity: capacity)
      )
      return
    }
    pointer = MemoryLimit.block(max(byteCount, 64))
    (self.byteCount, isReadOnly, origin) = (byteCount, false, .own)
  }
  init(borrowing pointer: UnsafeRawPointer, byteCount: Int, owner: any AnyObject & Sendable) {
    self.pointer = UnsafeMutableRawPointer(mutating: pointer)
    (self.byteCount, isReadOnly, origin) = (byteCount, true, .borrowed(owner))
  }

  /// Marks every element as zero; the zeros are written when the elements are first read.
  func clear() { isCleared.store(true, ordering: .releasing) }
  /// Whether the elements were cleared and not read since. The caller must then overwrite them.
  func takeCleared() -> Bool {
    MemoryPlan.current == nil
      ? isCleared.exchange(false, ordering: .acquiringAndReleasing)
      : isCleared.load(ordering: .acquiring)
  }
  /// Writes the zeros that `clear` left out.
  @inline(__always) func settle() { if isCleared.load(ordering: .acquiring) { writeZeros() } }
  private func writeZeros() {
    if MemoryPlan.current != nil { return }
    panels.withLock { _ in
      if !isCleared.load(ordering: .acquiring) { return }
      check(pk_fill(PK_F32, byteCount / 4, 0, pointer))
      for i in byteCount / 4 * 4..<byteCount {
        pointer.storeBytes(of: 0, toByteOffset: i, as: UInt8.self)
      }
      isCleared.store(false, ordering: .releasing)
    }
  }
  /// The panels with the key `key`; `make` makes them if they are not there yet.
  func packed(_ key: PackedPanels.Key, byteCount: Int, make: () -> Tensor) -> Tensor {
    panels.withLock { list in
      if let found = list.first(where: { $0.key == key }) { return found.value }
      if let plan = MemoryPlan.current {
        plan.panels[.init(storage: ObjectIdentifier(self), key: key)] = byteCount
        return Tensor(uninitialized: Shape(1), type: .f32)
      }
      let value = make()
      list.append(PackedPanels(key: key, value: value))
      return value
    }
  }
  /// Must be called before elements are written.
  func forgetPanels() { panels.withLock { if !$0.isEmpty { $0 = [] } } }

  var pool: BufferPool? { if case .pool(let p, _) = origin { p } else { nil } }

  deinit {
    switch origin {
    case .pool(let pool, let capacity): pool.give(pointer, capacity: capacity)
    case .own: free(pointer)
    case .borrowed: break
    }
  }
}

/// A matrix packed as the right operand of products: `pk_gemm_pack`.
struct PackedPanels: Sendable {
  struct Key: Hashable, Sendable {
    let offset, rows, columns: Int, isTransposed: Bool
    /// `pk_gemm_layout`.
    let layout: Int32
  }
  let key: Key, value: Tensor
}
