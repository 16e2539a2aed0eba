/// Asked before the process takes much memory, so that a program can refuse in its own words what the machine does not have, instead
/// of being killed by the system half-way.
public enum MemoryLimit {
  /// Hears how many bytes more the process is about to take: of one large block, or of a whole plan so far (`MemoryPlan`). Set once, at
  /// start-up; it does not return where that is too much.
  nonisolated(unsafe) public static var check: @Sendable (_ bytes: Int) -> Void = { _ in }
  /// Blocks below this are not asked for.
  static let large = 1 << 26
}
