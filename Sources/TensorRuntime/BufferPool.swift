import Glibc
internal import Synchronization

/// Recycled memory, 64-byte aligned. Large blocks are cut from long ranges of addresses and merged
/// again when they come back (`Arenas`). Small ones come in size classes, four for each octave, and
/// serve their own class only. What tensors leave stays with the pool.
public final class BufferPool: Sendable {
  private struct Contents: ~Copyable {
    var arena = Arenas()
    /// Small blocks of each class that are not in use.
    var free: [[Int]] = Array(repeating: [], count: classes)
    var allocations = 0, copies = 0
    /// Bytes of small blocks; bytes that tensors need now, and at most.
    var smallBytes = 0, live = 0, peak = 0
    /// Blocks that are given back return to the system.
    var isRetired = false
    var plan: Plan?
  }
  /// What a pool for a plan knows besides. Its blocks have mappings of their own.
  private struct Plan {
    /// Bytes used of the planned pool's arena, and its small blocks that are not in use.
    let arenaBytes: Int
    var held: [Int]
    /// Where in the arena a large block would begin.
    var places: [Int: Int] = [:]
    /// Bytes last reported to `MemoryLimit`.
    var asked = 0
  }
  private let contents: Mutex<Contents>

  /// Statistics since the pool was made.
  public struct Statistics: Sendable {
    /// How often memory was taken from the system. Constant in the steady state of a training step.
    public var allocations = 0
    /// Bytes taken from the system, and not returned to it.
    public var bytes = 0
    /// Largest number of bytes in use at once (`blockBytes` of each tensor).
    public var peakBytes = 0
    /// Copies made because a shared tensor was written to.
    public var copies = 0
  }

  /// What products keep of packed weights.
  let panelBudget: PanelBudget
  public init(panelBudget: PanelBudget = PanelBudget()) {
    self.panelBudget = panelBudget
    contents = Mutex(Contents())
  }
  /// A pool for `MemoryPlan`: goes on where `pool` is, with blocks that take no memory until they
  /// are written.
  init(planningFor pool: BufferPool?) {
    panelBudget = pool?.panelBudget ?? PanelBudget()
    let (arena, held) =
      pool.map { $0.contents.withLock { ($0.arena, $0.free.map(\.count)) } }
      ?? (Arenas(), Array(repeating: 0, count: Self.classes))
    var planned = Contents()
    (planned.arena, planned.plan) = (arena, Plan(arenaBytes: arena.used, held: held))
    contents = Mutex(planned)
  }
  /// Of a plan: bytes that the planned pool would have to take from the system.
  var touched: Int { contents.withLock { Self.touched($0) } }
  private static func touched(_ c: borrowing Contents) -> Int {
    c.smallBytes + c.arena.used - (c.plan?.arenaBytes ?? 0)
  }

  public var statistics: Statistics {
    contents.withLock { c in
      Statistics(
        allocations: c.allocations,
        bytes: c.smallBytes + (c.isRetired ? c.arena.taken : c.arena.used), peakBytes: c.peak,
        copies: c.copies)
    }
  }
  func countCopy() { contents.withLock { $0.copies += 1 } }
  /// Resets the peak, so that the next reading covers only what follows.
  public func resetPeak() { contents.withLock { $0.peak = $0.live } }

  /// Bytes that a tensor of `bytes` takes. Large blocks in a row begin at different cache lines of
  /// a page. If all began at the same one, rows of several tensors that are used together (a
  /// product, its activation, the input of that) would share their low address bits, which costs
  /// up to a fifth of a product with an activation (`Documentation/notes/performance.md`).
  public static func blockBytes(_ bytes: Int) -> Int {
    bytes < Arena.shortest ? sizeClass(bytes).bytes : (bytes + 63) / 64 * 64 + 17 * 64
  }
  private static let classes = sizeClass(Arena.shortest - 1).index + 1
  /// The smallest class that holds `bytes`. Classes are a quarter of an octave apart.
  static func sizeClass(_ bytes: Int) -> (index: Int, bytes: Int) {
    let n = max(bytes, 64)
    let octave = Int.bitWidth - 1 - (n - 1).leadingZeroBitCount  // 2^octave < n <= 2^(octave+1)
    let base = 1 << octave
    let quarter = (n - base + base / 4 - 1) / (base / 4)  // 1...4
    return (octave * 4 + quarter - 1, base + quarter * (base / 4))
  }

  /// A block for a tensor of `bytes`, and what must be given back. `lasting`: it outlasts most that
  /// are taken before and after it (`Arenas`).
  func take(_ bytes: Int, lasting: Bool = false) -> (
    pointer: UnsafeMutableRawPointer, capacity: Int
  ) {
    let length = Self.blockBytes(bytes)
    let (start, capacity) = contents.withLock { c in
      c.live += length
      c.peak = max(c.peak, c.live)
      let block =
        bytes < Arena.shortest
        ? Self.takeSmall(Self.sizeClass(bytes).index, length, &c)
        : Self.takeLarge(length, lasting, &c)
      if c.plan != nil { Self.report(&c) }
      return block
    }
    return unsafe (UnsafeMutableRawPointer(bitPattern: start)!, capacity)
  }
  private static func takeSmall(_ index: Int, _ length: Int, _ c: inout Contents) -> (Int, Int) {
    if let block = c.free[index].popLast() { return (block, length) }
    if let held = c.plan?.held[index], held > 0 {
      c.plan!.held[index] -= 1
    } else {
      c.allocations += 1
      c.smallBytes += length
    }
    let block = unsafe MemoryLimit.block(length)
    if c.plan != nil { unsafe block.initializeMemory(as: UInt8.self, repeating: 0, count: length) }
    return unsafe (Int(bitPattern: block), length)
  }
  private static func takeLarge(_ length: Int, _ lasting: Bool, _ c: inout Contents) -> (Int, Int) {
    let used = c.arena.used
    var taken = c.arena.take(length, lasting: lasting)
    if taken == nil {
      c.arena.add(
        c.plan != nil
          ? nowhere(lasting)
          : AddressSpace.reserve(length, beside: c.arena.regions.map(\.addresses)),
        lasting: lasting)
      taken = c.arena.take(length, lasting: lasting)
    }
    let block = taken!
    if c.plan != nil {
      let start = AddressSpace.zeros(length).lowerBound
      c.plan!.places[start] = block.lowerBound
      return (start, block.count)
    }
    if c.arena.used > used {
      if c.arena.used - used >= MemoryLimit.large { MemoryLimit.check(c.arena.used - used) }
      let region = c.arena.regions.first { $0.addresses.contains(block.lowerBound) }!
      AddressSpace.commit(block, of: region.addresses)
      c.allocations += 1
    }
    return (block.lowerBound, block.count)
  }
  /// What an arena of a plan divides once it is full: addresses that nothing else has.
  private static func nowhere(_ lasting: Bool) -> Range<Int> {
    lasting ? 1 << 60..<1 << 61 : 1 << 61..<1 << 62
  }

  /// Tells `MemoryLimit` how far a plan has come.
  private static func report(_ c: inout Contents) {
    let total = touched(c)
    if total < c.plan!.asked + MemoryLimit.large { return }
    c.plan!.asked = total
    MemoryLimit.check(total)
  }

  /// Takes back the block of a tensor of `bytes`.
  func give(_ pointer: UnsafeMutableRawPointer, _ bytes: Int, capacity: Int) {
    let start = unsafe Int(bitPattern: pointer)
    contents.withLock { c in
      c.live -= Self.blockBytes(bytes)
      if bytes < Arena.shortest {
        if c.isRetired {
          Self.discard(start, capacity, &c)
        } else {
          c.free[Self.sizeClass(bytes).index].append(start)
        }
      } else if let place = c.plan?.places.removeValue(forKey: start) {
        AddressSpace.release(start..<start + Self.blockBytes(bytes))
        c.arena.give(place..<place + capacity)
      } else {
        let free = c.arena.give(start..<start + capacity)
        if c.isRetired { AddressSpace.forget(free) }
      }
    }
  }
  /// In a plan: as if the block of the planned pool had been given back.
  func imagine(giving pointer: UnsafeMutableRawPointer, _ bytes: Int, capacity: Int) {
    let start = unsafe Int(bitPattern: pointer)
    contents.withLock { c in
      if bytes < Arena.shortest {
        c.plan!.held[Self.sizeClass(bytes).index] += 1
      } else {
        c.arena.give(start..<start + capacity)
      }
    }
  }
  private static func discard(_ block: Int, _ capacity: Int, _ c: inout Contents) {
    c.smallBytes -= capacity
    unsafe free(UnsafeMutableRawPointer(bitPattern: block))
  }

  /// Gives the memory of large blocks that are not in use back to the system. They stay in the
  /// pool, and take memory again when they are written.
  public func releaseUnused() {
    contents.withLock { c in
      for range in c.arena.free where range.count >= 1 << 20 { AddressSpace.forget(range) }
    }
  }
  /// Keeps no memory any more that is not in use. The pool's only workspace has ended, and tensors
  /// that live on would hold what it left.
  func retire() {
    contents.withLock { c in
      c.isRetired = true
      for (index, blocks) in c.free.enumerated() {
        for block in blocks { Self.discard(block, Self.capacity(index), &c) }
        c.free[index] = []
      }
      for range in c.arena.free { AddressSpace.forget(range) }
    }
  }
  /// Bytes of a class: the inverse of `sizeClass`.
  static func capacity(_ index: Int) -> Int {
    let base = 1 << (index / 4)
    return base + (index % 4 + 1) * (base / 4)
  }

  deinit {
    contents.withLock { c in
      for blocks in c.free {
        for block in blocks { unsafe free(UnsafeMutableRawPointer(bitPattern: block)) }
      }
      if c.plan == nil {
        for region in c.arena.regions { AddressSpace.release(region.addresses) }
      }
    }
  }
}
