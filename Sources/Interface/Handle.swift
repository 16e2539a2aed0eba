internal import CInterface
internal import Files
internal import FoundationEssentials
internal import Models
internal import Pipelines
internal import Rewards
internal import Synchronization
internal import TensorRuntime

/// What `pisces_reward` points to.
final class Handle: Sendable {
  let folder: RewardFolder
  let model: PairScorer
  var withTransport: RewardModel { model.withTransport }
  let pool: BufferPool
  let threads: Int, computeType: Machine.ComputeType

  init(_ path: String, map: String?, threads requested: Int, _ compute: pisces_compute) throws {
    guard requested >= 0 && requested <= 4096 else {
      throw Refusal(.badArgument, "threads is \(requested)", "give 0 to 4096")
    }
    folder = try RewardFolder(path, otMap: map)
    model = try PairScorer(folder)
    pool = BufferPool(panelBudget: PanelBudget(bytes: 64 << 20))
    threads = ThreadBudget(requested: requested > 0 ? requested : nil).count
    computeType =
      switch compute {
      case PISCES_F32: .f32
      case PISCES_BF16: .bf16
      case PISCES_AUTO: Self.computing.withLock { _ in Machine.prefer(.bf16).taken }
      default:
        throw Refusal(.badArgument, "compute is \(compute.rawValue)", "give PISCES_F32")
      }
  }

  /// Kernels serve one caller at a time, with one team and one type of operands (pk.h).
  private static let computing = Mutex(())

  /// Computes, if the memory that it takes is free: `body` is planned first, and must not look at
  /// values then (`Workspace.isPlanned`).
  func compute<R>(_ body: (borrowing Workspace) throws -> R) throws -> R {
    try Self.computing.withLock { _ in
      Machine.threads = threads
      Machine.computeType = computeType
      // Other libraries of the process have teams of their own. The runtime keeps this for each
      // thread that calls it.
      Machine.idleMilliseconds = 1
      if let plan = MemoryPlan(pool, step: { _ = try body($0) }), let free = FreeMemory.bytes(),
        plan.bytes > free
      {
        throw Refusal(
          .noMemory, "\(plan.bytes >> 20) MiB are needed, \(max(free, 0) >> 20) MiB are free",
          "give fewer or smaller frames, or fewer clips at once")
      }
      return try body(Workspace(pool: pool))
    }
  }
}

/// Why a call did nothing.
struct Refusal: Error {
  enum Kind { case badArgument, badData, noMemory, notFound }
  let kind: Kind, what: String, remedy: String
  init(_ kind: Kind, _ what: String, _ remedy: String) {
    (self.kind, self.what, self.remedy) = (kind, what, remedy)
  }
  var status: pisces_status {
    switch kind {
    case .badArgument: PISCES_BAD_ARGUMENT
    case .badData: PISCES_BAD_DATA
    case .noMemory: PISCES_NO_MEMORY
    case .notFound: PISCES_NOT_FOUND
    }
  }
}

/// Runs the body of a function of the header, and turns what it throws into a status and a message.
func answer(
  _ function: String, _ message: UnsafeMutablePointer<pisces_message>?, _ body: () throws -> Void
) -> pisces_status {
  func say(_ text: String) {
    guard let message = unsafe message else { return }
    let bytes = Array(text.utf8.prefix(MemoryLayout<pisces_message>.size - 1)) + [0]
    unsafe withUnsafeMutableBytes(of: &message.pointee) { unsafe $0.copyBytes(from: bytes) }
  }
  do {
    try body()
    say("")
    return PISCES_OK
  } catch let error as Refusal {
    say("\(error.what): \(function): \(error.remedy)")
    return error.status
  } catch let error as FileError {
    say(error.description)
    return error.kind == .missingInput ? PISCES_NOT_FOUND : PISCES_BAD_DATA
  } catch {
    say("\(error): \(function): this is a bug of libpisces, please report it")
    return PISCES_INTERNAL
  }
}
