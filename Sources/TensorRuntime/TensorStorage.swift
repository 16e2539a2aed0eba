internal import CKernels
import Glibc
internal import Synchronization

/// The memory of tensors: a block of a pool, a block of its own, or memory of another owner (a
/// mapped file), which is never written. A holder writes elements only after it has made sure that
/// it is the only one (`Tensor.makeUnique`). This makes sharing between tasks sound.
@safe final class TensorStorage: @unchecked Sendable {
  let pointer: UnsafeMutableRawPointer
  let byteCount: Int
  let isReadOnly: Bool
  private let origin: Origin
  /// Whether the elements are zero without having been written yet. Gradients at the start of a
  /// step are: the first product then overwrites them instead of adding to them.
  private let isCleared = Atomic<Bool>(false)
  private let settling = Mutex(())
  /// Of `i8` elements: one for each row.
  let scales: Tensor?
  /// The elements as packed panels, for a weight (`Workspace.linear`).
  let panels = PanelCache()
  private enum Origin {
    case pool(BufferPool, capacity: Int)
    case own
    case borrowed(any AnyObject & Sendable)
  }

  init(byteCount: Int, from pool: BufferPool) {
    let (pointer, capacity) = unsafe pool.take(byteCount)
    unsafe (self.pointer, self.byteCount, isReadOnly, origin) = unsafe (
      pointer, byteCount, false, .pool(pool, capacity: capacity)
    )
    scales = nil
  }
  init(byteCount: Int) {
    unsafe pointer = unsafe MemoryLimit.block(max(byteCount, 64))
    (self.byteCount, isReadOnly, origin, scales) = (byteCount, false, .own, nil)
  }
  init(
    borrowing pointer: UnsafeRawPointer, byteCount: Int, owner: any AnyObject & Sendable,
    scales: Tensor? = nil
  ) {
    unsafe self.pointer = unsafe UnsafeMutableRawPointer(mutating: pointer)
    (self.byteCount, isReadOnly, origin) = (byteCount, true, .borrowed(owner))
    self.scales = scales
  }

  /// Marks every element as zero; the zeros are written when the elements are first read.
  func clear() { isCleared.store(true, ordering: .releasing) }
  /// Whether the elements were cleared and not read since. The caller must then overwrite them.
  /// `keeps`: leaves them so (in a plan).
  func takeCleared(keeps: Bool) -> Bool {
    keeps
      ? isCleared.load(ordering: .acquiring)
      : isCleared.exchange(false, ordering: .acquiringAndReleasing)
  }
  /// Writes the zeros that `clear` left out.
  @inline(__always) func settle() { if isCleared.load(ordering: .acquiring) { writeZeros() } }
  private func writeZeros() {
    settling.withLock { _ in
      if !isCleared.load(ordering: .acquiring) { return }
      unsafe pointer.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
      isCleared.store(false, ordering: .releasing)
    }
  }

  var pool: BufferPool? { if case .pool(let p, _) = origin { p } else { nil } }

  deinit {
    switch origin {
    case .pool(let pool, let capacity): unsafe pool.give(pointer, byteCount, capacity: capacity)
    case .own: unsafe free(pointer)
    case .borrowed: break
    }
  }
}
