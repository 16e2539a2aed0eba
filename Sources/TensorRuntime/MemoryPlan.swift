/// The memory that a step will take, found by running it without its arithmetic. Every operation
/// takes its result and its scratch as usual, but kernels are not called. The control flow of a
/// step depends only on sizes, so the memory requests are the same, in the same order.
///
/// Everything that a planned step computes is meaningless, so it runs on a copy of its task.
/// No value of the original changes: `Tensor.makeUnique(in:)` gives the copy its own memory,
/// cleared gradients stay zero, and packed panels are counted but not made. No other thread may
/// touch a tensor meanwhile.
public struct MemoryPlan: Sendable {
  /// Bytes that the step will write for the first time, in blocks that the pool does not hold yet.
  public let stepBytes: Int
  /// Bytes of packed panels of frozen weights that it will make and keep (`Workspace.linear`).
  public let panelBytes: Int
  public var bytes: Int { stepBytes + panelBytes }
  /// Multiplications and additions that it will carry out.
  public let operations: [OperationCount.Kind: Int]
  /// When something is sent to other processes: for a sample that they share, or for a step's sums.
  public enum Occasion: Sendable { case sample, step }
  /// Bytes that it will send, and the number of messages.
  public let traffic: [Occasion: Int], messages: [Occasion: Int]

  /// nil if the step throws.
  public init?(_ pool: BufferPool, step: (borrowing Workspace) throws -> Void) {
    let run = Run(pool)
    do { try step(Workspace(plan: run)) } catch { return nil }
    (stepBytes, panelBytes) = (run.pool.touched, run.panelBytes)
    (operations, traffic, messages) = (run.operations, run.traffic, run.messages)
  }

  final class Run {
    /// The step's memory, and the memory of copies that are only made because the task is a copy.
    let pool: BufferPool, copies: BufferPool
    var operations: [OperationCount.Kind: Int] = [:]
    var traffic: [Occasion: Int] = [:], messages: [Occasion: Int] = [:]
    private struct Weight: Hashable { let storage: ObjectIdentifier, key: PanelCache.Key }
    private var panels: [Weight: Int] = [:]
    var panelBytes: Int { panels.values.reduce(0, +) }
    private let planned: BufferPool
    private var released: Set<ObjectIdentifier> = []
    init(_ pool: BufferPool) {
      planned = pool
      (self.pool, copies) = (BufferPool(planningFor: pool), BufferPool(planningFor: nil))
    }
    /// Whether the task holds `storage`, so that it is shared only because the plan runs on a copy.
    /// Tasks share nothing that they write; they do share mapped files.
    func isOfTask(_ storage: TensorStorage) -> Bool {
      !storage.isReadOnly && (storage.pool == nil || storage.pool === planned)
    }
    /// The step itself would give back the memory of `storage`, which the task still holds.
    func release(_ storage: TensorStorage) {
      if storage.pool !== planned || storage.isCleared { return }
      if !released.insert(ObjectIdentifier(storage)).inserted { return }
      let (pointer, capacity) = unsafe storage.block
      unsafe pool.imagine(giving: pointer, storage.byteCount, capacity: capacity)
    }
    /// Counts panels that the step will make and keep. False if the budget has no room for them.
    func count(_ key: PanelCache.Key, of storage: TensorStorage, bytes: Int) -> Bool {
      let weight = Weight(storage: ObjectIdentifier(storage), key: key)
      if storage.panels.contains(key) || panels[weight] != nil { return true }
      guard pool.panelBudget.has(panelBytes + bytes) else { return false }
      panels[weight] = bytes
      return true
    }
  }
}
