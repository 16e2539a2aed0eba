import Cluster
import Files
import TensorRuntime

/// Refuses work for which the machine has no memory, before the memory is taken (status 1).
enum MemoryBudget {
  static func text(_ bytes: Int) -> String { "\((Double(bytes) / 1e8).rounded() / 10) GB" }

  /// From here on every large block is checked first.
  static func install() {
    MemoryLimit.set(
      check: { bytes in
        if let free = FreeMemory.bytes(), bytes > free {
          Failure.exit(refusal(bytes, free, "memory", mend: sizes))
        }
      },
      refuse: { refused($0) })
  }
  /// The message for a system that refuses although memory is free, for example because of a limit
  /// on the address space.
  private static func refused(_ bytes: Int) -> Never {
    Failure.exit(
      Failure.Message(1, "the system refused a block of \(text(bytes)) of memory", "memory", sizes))
  }
  private static let sizes = "give smaller sizes, or less at once (frames, height and width, batch)"
  private static func refusal(_ bytes: Int, _ free: Int, _ place: String, mend: String)
    -> Failure.Message
  {
    Failure.Message(
      1, "at least \(text(bytes)) of memory are needed, \(text(max(free, 0))) are free", place, mend
    )
  }

  /// Bytes that may be kept to save time: those of `--memory`, or a quarter of the memory that is
  /// free (of 1 GiB if that is not known), which the ranks of a host divide.
  static func kept(_ memory: String?) throws -> Int {
    try memory.map { try ByteCount.parse($0, option: "memory") }
      ?? (FreeMemory.bytes() ?? 1 << 30) / (4 * Cluster.current.localSize)
  }

  /// Runs `work` without its arithmetic (`MemoryPlan`) and refuses it if it needs more memory than
  /// is free. Errors of `work` are ignored here, because they occur again when it really runs.
  static func plan(_ pool: BufferPool, _ work: (borrowing Workspace) throws -> Void) throws {
    guard let plan = MemoryPlan(pool, step: work), let free = FreeMemory.bytes(), plan.bytes > free
    else { return }
    throw refusal(plan.bytes, free, "memory", mend: sizes)
  }

  /// Prints on standard error how much memory a problem above 1 GB takes. Refuses what the machine
  /// does not have.
  static func check(_ bytes: Int, _ common: CommonOptions, _ place: String, mend: String) throws {
    guard bytes > 1_000_000_000 else { return }
    let free = FreeMemory.bytes()
    if let free, bytes > free { throw refusal(bytes, free, place, mend: mend) }
    common.note(
      """
      the problem needs about \(text(bytes)) of \
      memory\(free.map { " of the \(text($0)) that are free" } ?? "")
      """
    )
  }
}
