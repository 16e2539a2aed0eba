/// What a step will take, learnt by running it without its arithmetic: every operation takes its
/// result and its scratch as it always does, and kernels are not called. Control flow that depends
/// on sizes alone, which is all there is in a step, then asks for the same memory in the same
/// order.
///
/// Everything a planned step computes is meaningless, so it runs on a copy of its task; nothing of
/// the original is written (`Tensor.makeUnique` gives the copy memory of its own, cleared gradients
/// stay cleared, panels are counted but not made). At start-up only: no other thread may touch a
/// tensor meanwhile.
public struct MemoryPlan: Sendable {
  /// Bytes that the step will write for the first time, in blocks the pool does not hold yet.
  public let stepBytes: Int
  /// Bytes of frozen weights' panels that it will make and keep (`Workspace.linear`).
  public let panelBytes: Int
  public var bytes: Int { stepBytes + panelBytes }

  /// nil where the step throws.
  public init?(_ pool: BufferPool, step: (borrowing Workspace) throws -> Void) {
    precondition(Self.current == nil, "a plan within a plan")
    let run = Run(pool)
    Self.current = run
    defer { Self.current = nil }
    do { try step(Workspace(pool: run.pool)) } catch { return nil }
    (stepBytes, panelBytes) = (run.pool.touched, run.panels.values.reduce(0, +))
  }

  final class Run {
    /// The step's memory, and that of copies it only makes because its task is a copy.
    let pool: BufferPool, copies: BufferPool
    struct Panels: Hashable { let storage: ObjectIdentifier, key: PackedPanels.Key }
    var panels: [Panels: Int] = [:]
    func pool(for pool: BufferPool) -> BufferPool { pool === copies ? copies : self.pool }
    init(_ pool: BufferPool) {
      (self.pool, copies) = (BufferPool(planningFor: pool), BufferPool(planningFor: nil))
    }
  }
  nonisolated(unsafe) static var current: Run?
}
