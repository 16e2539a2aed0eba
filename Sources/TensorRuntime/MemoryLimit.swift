import Glibc

/// Asked before the process takes much memory, so that a program can refuse in its own words what
/// the machine does not have, instead of being killed by the system half-way.
public enum MemoryLimit {
  /// Hears how many bytes more the process is about to take: of one large block, or of a whole plan
  /// so far (`MemoryPlan`). Set once, at start-up; it does not return where that is too much.
  nonisolated(unsafe) public static var check: @Sendable (_ bytes: Int) -> Void = { _ in }
  /// What happens where the system has refused so many bytes. Set once, at start-up.
  nonisolated(unsafe) public static var refuse: @Sendable (_ bytes: Int) -> Never = {
    fatalError("no memory for \($0) bytes")
  }

  /// A block of the system, aligned to a line of the cache; given back with `free`.
  static func block(_ byteCount: Int) -> UnsafeMutableRawPointer {
    if byteCount >= large { check(byteCount) }
    var pointer: UnsafeMutableRawPointer?
    guard posix_memalign(&pointer, 64, byteCount) == 0, let pointer else { refuse(byteCount) }
    return pointer
  }
  /// Blocks below this are not asked for.
  static let large = 1 << 26
}
