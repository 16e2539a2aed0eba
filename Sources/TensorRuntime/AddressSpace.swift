import Glibc

/// Addresses of the process, reserved without memory: pages of a region take memory when they are
/// first written.
enum AddressSpace {
  private static let page = 4096
  /// Pages are made usable in steps of the largest page that the system may give.
  private static let step = 2 << 20

  /// A region for blocks of `length` bytes, larger than all `regions` that are there: few regions
  /// mean that blocks can be merged. Where the process may only have so many addresses, it is as
  /// large as all of them, if there is room; the first is no larger than it must be.
  static func reserve(_ length: Int, beside regions: [Range<Int>]) -> Range<Int> {
    var limit = rlimit()
    unsafe getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    let isLimited = limit.rlim_cur < rlim_t.max / 4
    var ample =
      isLimited ? regions.reduce(0) { $0 + $1.count } : 1 << min(30 + 3 * regions.count, 42)
    while true {
      let size = cover(max(length, ample), by: isLimited ? page : step)
      if let start = map(size, PROT_NONE) { return start..<start + size }
      if ample <= length { MemoryLimit.refuse(length) }
      ample /= 2
    }
  }
  /// A mapping of its own, of zeros.
  static func zeros(_ length: Int) -> Range<Int> {
    guard let start = map(length, PROT_READ | PROT_WRITE) else { MemoryLimit.refuse(length) }
    return start..<start + length
  }
  private static func map(_ length: Int, _ protection: Int32) -> Int? {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    let start = unsafe mmap(nil, length, protection, flags, -1, 0)
    return unsafe start == MAP_FAILED ? nil : Int(bitPattern: start)
  }
  /// Makes addresses of `region` usable.
  static func commit(_ addresses: Range<Int>, of region: Range<Int>) {
    let start = addresses.lowerBound / page * page
    let end = min(cover(addresses.upperBound, by: step), region.upperBound)
    let base = unsafe UnsafeMutableRawPointer(bitPattern: start)
    if unsafe mprotect(base, end - start, PROT_READ | PROT_WRITE) != 0 {
      MemoryLimit.refuse(addresses.count)
    }
  }
  /// Gives the memory of all whole pages back. They read as zeros from then on.
  static func forget(_ addresses: Range<Int>) {
    let start = cover(addresses.lowerBound, by: page)
    let end = addresses.upperBound / page * page
    if end <= start { return }
    unsafe madvise(UnsafeMutableRawPointer(bitPattern: start), end - start, MADV_DONTNEED)
  }
  static func release(_ region: Range<Int>) {
    unsafe munmap(UnsafeMutableRawPointer(bitPattern: region.lowerBound), region.count)
  }
  private static func cover(_ n: Int, by unit: Int) -> Int { (n + unit - 1) / unit * unit }
}
