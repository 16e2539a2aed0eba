import Glibc

/// Hooks that are called before the process takes much memory, so that a program can refuse with a
/// message of its own instead of being killed by the system.
public enum MemoryLimit {
  /// Called with the number of bytes that the process is about to take, for one large block or for
  /// a whole plan so far (`MemoryPlan`). Set once, at start-up. Does not return if that is too
  /// much.
  nonisolated(unsafe) public static var check: @Sendable (_ bytes: Int) -> Void = { _ in }
  /// Called when the system has refused so many bytes. Set once, at start-up.
  nonisolated(unsafe) public static var refuse: @Sendable (_ bytes: Int) -> Never = {
    fatalError("no memory for \($0) bytes")
  }

  /// A block from the system, aligned to a cache line; returned with `free`.
  static func block(_ byteCount: Int) -> UnsafeMutableRawPointer {
    if byteCount >= large { check(byteCount) }
    var pointer: UnsafeMutableRawPointer?
    guard posix_memalign(&pointer, 64, byteCount) == 0, let pointer else { refuse(byteCount) }
    return pointer
  }
  /// Blocks smaller than this are not reported.
  static let large = 1 << 26
}
