import Glibc
internal import Synchronization

/// Recycled memory: 64-byte aligned blocks in size classes, four for each octave. A block returns
/// to its class when the last tensor on it is released, and leaves the pool only with the pool. It
/// may serve a tensor of a class that is one or two below its own.
public final class BufferPool: Sendable {
  /// A block of memory. While it is in `free` it is owned by the pool, otherwise by exactly one
  /// TensorStorage.
  private struct Block: Hashable, Sendable {
    private let address: UInt
    init(start: UnsafeMutableRawPointer) { address = UInt(bitPattern: start) }
    var start: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(bitPattern: address)! }
  }
  private struct Contents: ~Copyable {
    var free: [[Block]] = Array(repeating: [], count: 256)
    var statistics = Statistics()
    var live = 0
    /// The blocks obtained from the system, and where their memory begins.
    var obtained: [Block: Block] = [:]
    /// Blocks that are given back return to the system.
    var isRetired = false
    /// In a plan: blocks of each class that cost nothing because the planned pool has them already;
    /// and the bytes used of all other blocks.
    var held: [Int] = [], used: [Block: Int] = [:], mapped: [Block: Int] = [:]
    /// In a plan: bytes of all blocks so far, and the bytes last reported to `MemoryLimit`.
    var total = 0, asked = 0
    mutating func use(_ bytes: Int) {
      live += bytes
      statistics.peakBytes = max(statistics.peakBytes, live)
    }
  }
  private let contents: Mutex<Contents>

  /// Statistics since the pool was made. Bytes are those of whole size classes.
  public struct Statistics: Sendable {
    /// Blocks obtained from the system. Constant in the steady state of a training step.
    public var allocations = 0
    /// Bytes obtained from the system, and not returned to it.
    public var bytes = 0
    /// Largest number of bytes in use at once, each tensor in its own class.
    public var peakBytes = 0
    /// Copies made because a shared tensor was written to.
    public var copies = 0
  }

  private let isPlan: Bool
  /// What products keep of packed weights.
  let panelBudget: PanelBudget
  public init(panelBudget: PanelBudget = PanelBudget()) {
    (isPlan, self.panelBudget) = (false, panelBudget)
    contents = Mutex(Contents())
  }
  /// A pool for `MemoryPlan`, whose blocks take no memory until they are written.
  init(planningFor pool: BufferPool?) {
    (isPlan, panelBudget) = (true, pool?.panelBudget ?? PanelBudget())
    var planned = Contents()
    planned.held =
      pool.map { $0.contents.withLock { $0.free.map(\.count) } } ?? Array(repeating: 0, count: 256)
    contents = Mutex(planned)
  }
  /// Bytes of a plan's blocks that were used at some time, without the blocks that cost nothing.
  var touched: Int { contents.withLock { $0.used.values.reduce(0, +) } }

  public var statistics: Statistics { contents.withLock { $0.statistics } }
  func countCopy() { contents.withLock { $0.statistics.copies += 1 } }
  /// Resets the peak, so that the next reading covers only what follows.
  public func resetPeak() { contents.withLock { $0.statistics.peakBytes = $0.live } }

  /// Bytes that a tensor of `bytes` takes.
  public static func blockBytes(_ bytes: Int) -> Int { sizeClass(bytes).bytes }
  /// The smallest class that holds `bytes`. Classes are a quarter of an octave apart.
  static func sizeClass(_ bytes: Int) -> (index: Int, bytes: Int) {
    let n = max(bytes, 64)
    let octave = Int.bitWidth - 1 - (n - 1).leadingZeroBitCount  // 2^octave < n <= 2^(octave+1)
    let base = 1 << octave
    let quarter = (n - base + base / 4 - 1) / (base / 4)  // 1...4
    return (octave * 4 + quarter - 1, base + quarter * (base / 4))
  }

  func take(_ bytes: Int) -> (pointer: UnsafeMutableRawPointer, capacity: Int) {
    let (smallest, exact) = Self.sizeClass(bytes)
    let (recycled, capacity): (Block?, Int) = contents.withLock { c in
      c.use(exact)
      for index in smallest...min(smallest + Self.reach, 255) {
        let capacity = Self.capacity(index)
        if let block = c.free[index].popLast() {
          if isPlan, let most = c.used[block] { c.used[block] = max(most, bytes) }
          return (block, capacity)
        }
        if isPlan && c.held[index] > 0 {
          c.held[index] -= 1
          return (Self.map(capacity, &c), capacity)
        }
      }
      if isPlan {
        c.total += bytes
        if c.total >= c.asked + MemoryLimit.large {
          c.asked = c.total
          MemoryLimit.check(c.total)
        }
        let block = Self.map(exact, &c)
        c.used[block] = bytes
        return (block, exact)
      }
      c.statistics.allocations += 1
      c.statistics.bytes += exact
      return (nil, exact)
    }
    return unsafe (recycled?.start ?? obtain(capacity), capacity)
  }
  /// How many classes above its own may serve a tensor before the system is asked.
  private static let reach = 2

  /// A block from the system. Large blocks begin at different cache lines of a page. The system's
  /// own all begin at the same line; rows of several tensors that are used together (a product, its
  /// activation, the input of that) would then share their low address bits, which costs up to a
  /// fifth of a product with an activation (`Documentation/notes/performance.md`).
  private func obtain(_ capacity: Int) -> UnsafeMutableRawPointer {
    let colours = capacity < 1 << 16 ? 1 : 64
    let start = unsafe MemoryLimit.block(capacity + (colours - 1) * 64)
    let block = unsafe Block(start: start)
    let coloured = contents.withLock { c in
      let colour = (c.obtained.count + 1) * 17 % colours
      let coloured = unsafe Block(start: block.start + colour * 64)
      c.obtained[coloured] = block
      return coloured
    }
    return unsafe coloured.start
  }

  /// A block of a plan: only address space, no memory.
  private static func map(_ capacity: Int, _ c: inout Contents) -> Block {
    guard
      let start = unsafe mmap(
        nil, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      unsafe start != MAP_FAILED
    else { MemoryLimit.refuse(c.total) }
    let block = unsafe Block(start: start)
    c.mapped[block] = capacity
    return block
  }

  /// Gives the memory of large blocks that are not in use back to the system. The blocks stay in
  /// the pool, and take memory again when they are written.
  public func releaseUnused() {
    let page = 4096
    contents.withLock { c in
      for (index, blocks) in c.free.enumerated() where !blocks.isEmpty {
        let capacity = Self.capacity(index)
        if capacity < 1 << 20 { continue }
        for block in blocks {
          let first = unsafe Int(bitPattern: block.start)
          let start = (first + page - 1) / page * page
          let end = (first + capacity) / page * page
          unsafe madvise(UnsafeMutableRawPointer(bitPattern: start), end - start, MADV_DONTNEED)
        }
      }
    }
  }
  /// Bytes of a class: the inverse of `sizeClass`.
  static func capacity(_ index: Int) -> Int {
    let base = 1 << (index / 4)
    return base + (index % 4 + 1) * (base / 4)
  }

  /// Takes back the block of a tensor of `bytes`.
  func give(_ pointer: UnsafeMutableRawPointer, _ bytes: Int, capacity: Int) {
    let block = unsafe Block(start: pointer)
    contents.withLock { c in
      c.live -= Self.sizeClass(bytes).bytes
      if c.isRetired {
        Self.discard(block, capacity, &c)
      } else {
        c.free[Self.sizeClass(capacity).index].append(block)
      }
    }
  }
  /// Returns a block to the system.
  private static func discard(_ block: Block, _ capacity: Int, _ c: inout Contents) {
    guard let own = c.obtained.removeValue(forKey: block) else { return }
    c.statistics.bytes -= capacity
    unsafe free(own.start)
  }
  /// Keeps no block any more that is not in use. The pool's only workspace has ended, and tensors
  /// that live on would hold what it left.
  func retire() {
    contents.withLock { c in
      c.isRetired = true
      for (index, blocks) in c.free.enumerated() {
        for block in blocks { Self.discard(block, Self.capacity(index), &c) }
        c.free[index] = []
      }
    }
  }

  deinit {
    contents.withLock { c in
      for (block, capacity) in c.mapped { unsafe munmap(block.start, capacity) }
      for block in c.obtained.values { unsafe free(block.start) }
    }
  }
}
