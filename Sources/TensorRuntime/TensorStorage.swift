internal import CKernels
import Glibc
internal import Synchronization

/// The memory of tensors: a block of a pool, a block of its own, or memory of another owner (a
/// mapped file), which is never written. A holder writes elements only after it has made sure that
/// it is the only one (`Tensor.makeUnique`). This makes sharing between tasks sound.
@safe final class TensorStorage: @unchecked Sendable {
  /// Where the elements are; nowhere while they are `isCleared` and their memory is the pool's.
  private(set) var pointer: UnsafeMutableRawPointer
  let byteCount: Int
  let isReadOnly: Bool
  private let origin: Origin
  /// The length of the block, if it is the pool's.
  private var capacity = 0
  /// Whether the elements are zero without having been written. Gradients at the start of a step
  /// are: they take memory when backward comes to them, and the first product overwrites them
  /// instead of adding to them.
  private let cleared: Atomic<Bool>
  private let settling = Mutex(())
  /// Of `i8` elements: one for each row.
  let scales: Tensor?
  /// The elements as packed panels, for a weight (`Workspace.linear`).
  let panels = PanelCache()
  private enum Origin {
    case pool(BufferPool)
    case own
    case borrowed(any AnyObject & Sendable)
  }

  init(byteCount: Int, from pool: BufferPool, lasting: Bool = false) {
    unsafe (pointer, capacity) = unsafe pool.take(byteCount, lasting: lasting)
    (self.byteCount, isReadOnly, origin, scales) = (byteCount, false, .pool(pool), nil)
    cleared = Atomic(false)
  }
  /// Zeros that take no memory yet.
  init(clearedByteCount byteCount: Int, from pool: BufferPool) {
    unsafe pointer = unsafe Self.nowhere
    (self.byteCount, isReadOnly, origin, scales) = (byteCount, false, .pool(pool), nil)
    cleared = Atomic(true)
  }
  init(byteCount: Int) {
    unsafe pointer = unsafe MemoryLimit.block(max(byteCount, 64))
    (self.byteCount, isReadOnly, origin, scales) = (byteCount, false, .own, nil)
    cleared = Atomic(false)
  }
  init(
    borrowing pointer: UnsafeRawPointer, byteCount: Int, owner: any AnyObject & Sendable,
    scales: Tensor? = nil
  ) {
    unsafe self.pointer = unsafe UnsafeMutableRawPointer(mutating: pointer)
    (self.byteCount, isReadOnly, origin) = (byteCount, true, .borrowed(owner))
    self.scales = scales
    cleared = Atomic(false)
  }
  private static var nowhere: UnsafeMutableRawPointer {
    unsafe UnsafeMutableRawPointer(bitPattern: 64)!
  }

  /// Makes every element zero. The only holder does so; the memory goes back to the pool, and the
  /// zeros are written to new memory when the elements are first read.
  func clear() {
    if isCleared { return }
    returnMemory()
    cleared.store(true, ordering: .releasing)
  }
  var isCleared: Bool { cleared.load(ordering: .acquiring) }
  /// Whether the elements were cleared and not read since. They then have memory that is not set:
  /// the caller must overwrite all of them.
  func takeCleared() -> Bool { isCleared && settle(writing: false) }
  /// Writes the zeros that `clear` left out.
  @inline(__always) func settle() { if isCleared { _ = settle(writing: true) } }
  private func settle(writing: Bool) -> Bool {
    settling.withLock { _ in
      if !isCleared { return false }
      if case .pool(let pool) = origin { unsafe (pointer, capacity) = unsafe pool.take(byteCount) }
      if writing {
        unsafe pointer.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
      }
      cleared.store(false, ordering: .releasing)
      return true
    }
  }

  var pool: BufferPool? { if case .pool(let p) = origin { p } else { nil } }
  /// The block that it holds of a pool.
  var block: (pointer: UnsafeMutableRawPointer, capacity: Int) { unsafe (pointer, capacity) }

  private func returnMemory() {
    if case .pool(let pool) = origin { unsafe pool.give(pointer, byteCount, capacity: capacity) }
  }
  deinit {
    switch origin {
    case .pool: if !isCleared { returnMemory() }
    case .own: unsafe free(pointer)
    case .borrowed: break
    }
  }
}
