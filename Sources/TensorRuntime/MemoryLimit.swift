import Glibc
internal import Synchronization

/// Hooks that are called before the process takes much memory, so that a program can refuse with a
/// message of its own instead of being killed by the system.
public enum MemoryLimit {
  private struct Hooks: Sendable {
    var check: @Sendable (_ bytes: Int) -> Void = { _ in }
    var refuse: @Sendable (_ bytes: Int) -> Never = { fatalError("no memory for \($0) bytes") }
  }
  private static let hooks = Mutex(Hooks())

  /// Sets both hooks, at start-up. `check` is called with the number of bytes that the process is
  /// about to take, for one large block or for a whole plan so far (`MemoryPlan`); it does not
  /// return if that is too much. `refuse` is called when the system has refused so many bytes.
  public static func set(
    check: @escaping @Sendable (_ bytes: Int) -> Void,
    refuse: @escaping @Sendable (_ bytes: Int) -> Never
  ) {
    hooks.withLock { $0 = Hooks(check: check, refuse: refuse) }
  }
  public static func check(_ bytes: Int) { hooks.withLock { $0.check }(bytes) }
  static func refuse(_ bytes: Int) -> Never { hooks.withLock { $0.refuse }(bytes) }

  /// A block from the system, aligned to a cache line; returned with `free`.
  static func block(_ byteCount: Int) -> UnsafeMutableRawPointer {
    if byteCount >= large { check(byteCount) }
    var pointer: UnsafeMutableRawPointer?
    if unsafe posix_memalign(&pointer, 64, byteCount) != 0 { refuse(byteCount) }
    return unsafe pointer!
  }
  /// Blocks smaller than this are not reported.
  static let large = 1 << 26
}
