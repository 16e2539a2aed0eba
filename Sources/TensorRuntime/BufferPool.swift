internal import Synchronization

/// Recycled memory: 64-byte aligned blocks in size classes of four per octave. A block goes back to its class when the
/// last tensor on it is released, and leaves the pool only with the pool itself.
public final class BufferPool: Sendable {
  private struct Contents: ~Copyable {
    var free: [[UnsafeMutableRawPointer]] = Array(repeating: [], count: 256)
    var statistics = Statistics()
    var live = 0
  }
  // The pointers are owned by the pool while they are in `free`, by one TensorStorage otherwise.
  private nonisolated(unsafe) var contents = Contents()
  private let lock = Mutex(())

  /// What the pool has done since it was made. Bytes are those of whole size classes.
  public struct Statistics: Sendable {
    /// Blocks obtained from the system; constant in the steady state of a training step.
    public var allocations = 0
    /// Bytes obtained from the system.
    public var bytes = 0
    /// The most bytes in use at once.
    public var peakBytes = 0
    /// Copies made because a shared tensor was written to.
    public var copies = 0
  }

  public init() {}

  public var statistics: Statistics { lock.withLock { _ in contents.statistics } }
  func countCopy() { lock.withLock { _ in contents.statistics.copies += 1 } }
  /// Forgets the peak, so that the next reading is that of what follows.
  public func resetPeak() { lock.withLock { _ in contents.statistics.peakBytes = contents.live } }

  /// The smallest class, its bytes a quarter-octave step, that holds `bytes`.
  static func sizeClass(_ bytes: Int) -> (index: Int, bytes: Int) {
    let n = max(bytes, 64)
    let octave = Int.bitWidth - 1 - (n - 1).leadingZeroBitCount  // 2^octave < n <= 2^(octave+1)
    let base = 1 << octave
    let quarter = (n - base + base / 4 - 1) / (base / 4)  // 1...4
    return (octave * 4 + quarter - 1, base + quarter * (base / 4))
  }

  func take(_ bytes: Int) -> (pointer: UnsafeMutableRawPointer, capacity: Int) {
    let (index, capacity) = Self.sizeClass(bytes)
    let recycled: UnsafeMutableRawPointer? = lock.withLock { _ in
      contents.live += capacity
      contents.statistics.peakBytes = max(contents.statistics.peakBytes, contents.live)
      if let p = contents.free[index].popLast() { return p }
      contents.statistics.allocations += 1
      contents.statistics.bytes += capacity
      return nil
    }
    return (recycled ?? UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 64), capacity)
  }

  func give(_ pointer: UnsafeMutableRawPointer, capacity: Int) {
    lock.withLock { _ in
      contents.live -= capacity
      contents.free[Self.sizeClass(capacity).index].append(pointer)
    }
  }

  deinit {
    for list in contents.free { for pointer in list { pointer.deallocate() } }
  }
}
