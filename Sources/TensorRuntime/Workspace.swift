internal import CKernels
internal import Synchronization

/// The source of all memory of results. Every operation takes its output and scratch from here, and
/// both are recycled when they are released. It cannot be copied: it is passed down the call tree
/// by borrowing, and a training step has no other source of memory.
public struct Workspace: ~Copyable {
  public let pool: BufferPool
  /// The plan that this belongs to, if any.
  let plan: MemoryPlan.Run?
  private let ownsPool: Bool
  /// With a pool of its own, which keeps nothing once the workspace has ended.
  public init() { (pool, plan, ownsPool) = (BufferPool(), nil, true) }
  public init(pool: BufferPool) { (self.pool, plan, ownsPool) = (pool, nil, false) }
  init(plan: MemoryPlan.Run) { (pool, self.plan, ownsPool) = (plan.pool, plan, false) }
  deinit { if ownsPool { pool.retire() } }

  /// Whether this belongs to a plan. Nothing is computed then, and work that takes time but no
  /// memory may be left out (`MemoryPlan`).
  public var isPlanned: Bool { plan != nil }
  /// How many of `count` rounds to run, each of which takes the same memory: all, but only the
  /// first two in a plan.
  public func rounds(_ count: Int) -> Int { isPlanned ? min(count, 2) : count }

  /// A tensor whose elements are not set. `lasting`: it outlasts most of what is made around it.
  public func tensor(_ shape: Shape, _ type: ElementType = .f32, lasting: Bool = false) -> Tensor {
    Tensor(
      shape: shape, type: type,
      storage: TensorStorage(
        byteCount: shape.count * type.byteCount, from: pool, lasting: lasting))
  }
  public func zeros(_ shape: Shape, _ type: ElementType = .f32) -> Tensor {
    let t = tensor(shape, type)
    if !isPlanned {
      _ = unsafe t.storage.pointer.initializeMemory(
        as: UInt8.self, repeating: 0, count: t.byteCount)
    }
    return t
  }
  /// Zeros that take memory when they are first read or written.
  public func zerosOnDemand(_ shape: Shape, _ type: ElementType = .f32) -> Tensor {
    Tensor(
      shape: shape, type: type,
      storage: TensorStorage(clearedByteCount: shape.count * type.byteCount, from: pool))
  }
  /// Scratch of `count` elements.
  func scratch(_ count: Int, _ type: ElementType) -> Tensor { tensor(Shape(max(count, 1)), type) }

  /// The elements of `x` in another type, or `x` itself if it has that type already.
  public func converted(_ x: Tensor, to type: ElementType, lasting: Bool = false) -> Tensor {
    if x.type == type { return x }
    precondition(type != .i8, "a weight is quantized by `quantized`")
    let y = tensor(x.shape, type, lasting: lasting)
    if x.type == .i8 {
      return converted(widened(x), to: type)
    } else if x.type.isFloating && type.isFloating {
      unsafe check(pk_convert(x.count, x.type.pk, x.base, type.pk, y.base))
    } else if type == .f32 {
      return Tensor(x.floats, x.shape)
    } else if type == .f64 {
      return Tensor(x.doubles, x.shape)
    } else if type == .i32 {
      return Tensor(x.integers.map { Int32(truncatingIfNeeded: $0) }, x.shape)
    } else {
      preconditionFailure("no conversion from \(x.type) to \(type)")
    }
    return y
  }
  /// A weight ready for arithmetic: storage types are widened to f32, others are returned
  /// unchanged.
  public func widened(_ x: Tensor) -> Tensor {
    guard x.type.isStorage else { return x }
    let y = tensor(x.shape)
    var w = unsafe x.weight
    unsafe check(pk_widen(x.shape.rows, x.shape.last, &w, y.floatBase))
    return y
  }

  /// A copy with memory of its own.
  public func copy(_ x: Tensor) -> Tensor {
    if x.type == .i8 { return x }  // never written
    let y = tensor(x.shape, x.type)
    if !isPlanned {
      unsafe y.storage.pointer.copyMemory(from: x.base, byteCount: x.byteCount)
    }
    return y
  }
  /// The same in another type.
  public func copy(_ x: Tensor, as type: ElementType) -> Tensor {
    x.type == type ? copy(x) : converted(x, to: type)
  }
}

extension Workspace {
  /// Writes the elements of `x` over those of `y` from element `start` on, in the order of memory.
  public func paste(_ x: Tensor, into y: inout Tensor, at start: Int) {
    precondition(
      x.type == y.type && start >= 0 && start + x.count <= y.count,
      "\(x.shape) at \(start) of \(y.shape)")
    y.makeUnique(in: self)
    if isPlanned || x.count == 0 { return }
    let offset = start * y.type.byteCount
    unsafe (y.base + offset).copyMemory(from: x.base, byteCount: x.byteCount)
  }

  /// Calls a kernel, which refuses only what a precondition should have refused. A plan does not
  /// call it.
  func check(_ kernel: @autoclosure () -> pk_status, _ what: @autoclosure () -> String = "kernel") {
    if isPlanned { return }
    let status = kernel()
    precondition(status == PK_OK, "\(what()) refused its arguments (status \(status.rawValue))")
  }
  /// The number that a kernel returns. A plan does not call it.
  func measured(_ kernel: @autoclosure () -> Double) -> Double { isPlanned ? 0 : kernel() }
  /// Counts multiplications and additions (`OperationCount`; in a plan, `MemoryPlan.operations`).
  func countOperations(_ operations: Int, _ kind: OperationCount.Kind = .product) {
    if let plan {
      plan.operations[kind, default: 0] += operations
    } else {
      OperationCount.add(operations)
    }
  }
  /// Counts what a plan would send to other processes (`MemoryPlan.traffic`).
  public func countSent(_ bytes: Int, _ occasion: MemoryPlan.Occasion) {
    plan?.traffic[occasion, default: 0] += bytes
    plan?.messages[occasion, default: 0] += 1
  }
}

/// The only OpenMP team, and the instruction set. Both are set at start-up, before any arithmetic.
public enum Machine {
  public enum InstructionSet: String, Sendable, CaseIterable { case scalar, avx2, avx512 }
  public static var threads: Int {
    get { Int(pk_threads()) }
    set { pk_threads_set(Int32(newValue)) }
  }
  /// How long threads of the team wait for work before they sleep; the runtime's default is 200.
  public static var idleMilliseconds: Int {
    get { Int(pk_idle_milliseconds()) }
    set { pk_idle_milliseconds_set(Int32(newValue)) }
  }
  public static var detected: InstructionSet { name(pk_isa_detected()) }
  public static var current: InstructionSet { name(pk_isa_current()) }
  /// Lowers the instruction set from here on. It never exceeds what the machine has.
  public static func limit(to isa: InstructionSet) {
    pk_isa_limit(isa == .avx512 ? PK_ISA_AVX512 : isa == .avx2 ? PK_ISA_AVX2 : PK_ISA_SCALAR)
  }
  /// Number of processors on which this process may run.
  public static var affinity: Int { Int(pk_affinity_count()) }
  /// The type to which f32 operands of matrix products, attention and convolutions are rounded;
  /// sums stay in f32. The value read is the one in effect: bf16 is ignored if the processor does
  /// not multiply it, and with AMX it holds for matrix products only.
  public enum ComputeType: String, Codable, Sendable, CaseIterable { case f32, bf16 }
  public static var computeType: ComputeType {
    get { pk_compute_type() == PK_BF16 ? .bf16 : .f32 }
    set {
      savesBF16.store(newValue == .bf16, ordering: .relaxed)
      setProductType(newValue)
    }
  }
  /// The type in which networks keep what backward reads: the one last asked for as `computeType`,
  /// also where the processor multiplies f32.
  public static var savedType: ComputeType {
    savesBF16.load(ordering: .relaxed) ? .bf16 : .f32
  }
  private static let savesBF16 = Atomic(false)
  /// Sets `computeType` and leaves `savedType` as it is.
  public static func setProductType(_ type: ComputeType) {
    pk_compute_type_set(type == .bf16 ? PK_BF16 : PK_F32)
  }
  public static var hasBF16: Bool { pk_isa_has_bf16() != 0 }
  /// Whether bf16 products use AMX's tiles. Attention and convolutions are then f32, which is
  /// faster than bf16 pairs there.
  public static var hasAMX: Bool { pk_isa_has_amx() != 0 }
  /// The commit of the build, with "-dirty" if files had changed; nil if it is not known.
  public static var commit: String? {
    let text = unsafe String(cString: pk_commit())
    return text.isEmpty ? nil : text
  }
  private static func name(_ isa: pk_isa) -> InstructionSet {
    isa == PK_ISA_AVX512 ? .avx512 : isa == PK_ISA_AVX2 ? .avx2 : .scalar
  }
}
