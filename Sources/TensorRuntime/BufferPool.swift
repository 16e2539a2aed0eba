import Glibc
internal import Synchronization

/// Recycled memory: 64-byte aligned blocks in size classes, four for each octave. A block returns
/// to its class when the last tensor on it is released, and leaves the pool only with the pool.
public final class BufferPool: Sendable {
  private struct Contents: ~Copyable {
    var free: [[UnsafeMutableRawPointer]] = Array(repeating: [], count: 256)
    var statistics = Statistics()
    var live = 0
    /// Addresses of the blocks obtained from the system.
    var obtained: [UnsafeMutableRawPointer] = []
    /// In a plan: blocks of each class that cost nothing because the planned pool has them already;
    /// and the bytes used of all other blocks.
    var held: [Int] = [], used: [UnsafeMutableRawPointer: Int] = [:],
      mapped: [UnsafeMutableRawPointer: Int] = [:]
    /// In a plan: bytes of all blocks so far, and the bytes last reported to `MemoryLimit`.
    var total = 0, asked = 0
  }
  // While a pointer is in `free` it is owned by the pool, otherwise by exactly one TensorStorage.
  private nonisolated(unsafe) var contents = Contents()
  private let lock = Mutex(())

  /// Statistics since the pool was made. Bytes are those of whole size classes.
  public struct Statistics: Sendable {
    /// Blocks obtained from the system. Constant in the steady state of a training step.
    public var allocations = 0
    /// Bytes obtained from the system.
    public var bytes = 0
    /// Largest number of bytes in use at once.
    public var peakBytes = 0
    /// Copies made because a shared tensor was written to.
    public var copies = 0
  }

  private let isPlan: Bool
  public init() { isPlan = false }
  /// A pool for `MemoryPlan`, whose blocks take no memory until they are written.
  init(planningFor pool: BufferPool?) {
    isPlan = true
    contents.held =
      pool.map { p in p.lock.withLock { _ in p.contents.free.map(\.count) } }
      ?? Array(repeating: 0, count: 256)
  }
  /// Bytes of a plan's blocks that were used at some time, without the blocks that cost nothing.
  var touched: Int { lock.withLock { _ in contents.used.values.reduce(0, +) } }

  public var statistics: Statistics { lock.withLock { _ in contents.statistics } }
  func countCopy() { lock.withLock { _ in contents.statistics.copies += 1 } }
  /// Resets the peak, so that the next reading covers only what follows.
  public func resetPeak() { lock.withLock { _ in contents.statistics.peakBytes = contents.live } }

  /// The smallest class that holds `bytes`. Classes are a quarter of an octave apart.
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
      if let p = contents.free[index].popLast() {
        if isPlan, let most = contents.used[p] { contents.used[p] = max(most, bytes) }
        return p
      }
      if isPlan { return map(bytes, index, capacity) }
      contents.statistics.allocations += 1
      contents.statistics.bytes += capacity
      return nil
    }
    return (recycled ?? obtain(capacity), capacity)
  }

  /// A block from the system. Large blocks begin at different cache lines of a page. The system's
  /// own all begin at the same line; rows of several tensors that are used together (a product, its
  /// activation, the input of that) would then share their low address bits, which costs up to a
  /// fifth of a product with an activation (`Documentation/notes/performance.md`).
  private func obtain(_ capacity: Int) -> UnsafeMutableRawPointer {
    let colours = capacity < 1 << 16 ? 1 : 64
    let start = MemoryLimit.block(capacity + (colours - 1) * 64)
    let colour = lock.withLock { _ in
      contents.obtained.append(start)
      return contents.obtained.count * 17 % colours
    }
    return start + colour * 64
  }

  /// A block of a plan: only address space, no memory.
  private func map(_ bytes: Int, _ index: Int, _ capacity: Int) -> UnsafeMutableRawPointer {
    if contents.held[index] == 0 { contents.total += bytes }
    if contents.total >= contents.asked + MemoryLimit.large {
      contents.asked = contents.total
      MemoryLimit.check(contents.total)
    }
    guard
      let p = mmap(
        nil, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      p != MAP_FAILED
    else { MemoryLimit.refuse(contents.total) }
    contents.mapped[p] = capacity
    if contents.held[index] > 0 { contents.held[index] -= 1 } else { contents.used[p] = bytes }
    return p
  }

  func give(_ pointer: UnsafeMutableRawPointer, capacity: Int) {
    lock.withLock { _ in
      contents.live -= capacity
      contents.free[Self.sizeClass(capacity).index].append(pointer)
    }
  }

  deinit {
    for (p, capacity) in contents.mapped { munmap(p, capacity) }
    for start in contents.obtained { free(start) }
  }
}
