internal import CKernels

/// The rates of this machine, measured now: `pk_probe.h`. Benchmarks are compared with them.
public struct MachineRates: Sendable {
  /// Operations a second of fused multiply-adds on all threads: of the current instruction set in
  /// f32, or of bf16 pairs if `Machine.computeType` is bf16.
  public let flops: Double
  /// Bytes a second of a triad over arrays larger than the caches. Each read and write counts once.
  public let bytes: Double
  /// Values a second of the kernels' own exponential.
  public let exponentials: Double
  /// Seconds of a barrier of the thread team. It takes several times as long when the processors do
  /// not share a cache, and the host may change that from minute to minute.
  public let barrier: Double

  /// The best of several runs each, long enough for the clock frequency to settle: about half a
  /// second in all.
  public static func measure() -> MachineRates {
    let clock = ContinuousClock()
    func seconds(_ body: () -> Void) -> Double { clock.measure(body) / .seconds(1) }
    _ = pk_probe_fma(100_000)
    var flops = 0.0
    var exponentials = 0.0
    var bytes = 0.0
    var barrier = Double.infinity
    for _ in 0..<6 {
      var done = 0.0
      var t = seconds { done = pk_probe_fma(20_000_000) }
      flops = max(flops, done / t)
      t = seconds { done = pk_probe_exp(10_000) }
      exponentials = max(exponentials, done / t)
      barrier = min(barrier, seconds { pk_probe_barrier(1000) } / 1000)
    }
    let n = 16 << 20
    let a = Tensor.zeros(Shape(n))
    let b = Tensor.zeros(Shape(n))
    let y = Tensor.zeros(Shape(n))
    func floats(_ t: Tensor) -> UnsafeMutablePointer<Float> {
      unsafe t.base.assumingMemoryBound(to: Float.self)
    }
    for _ in 0..<6 {
      bytes = max(
        bytes,
        12 * Double(n) / seconds { unsafe pk_probe_triad(n, floats(a), floats(b), floats(y)) })
    }
    return MachineRates(flops: flops, bytes: bytes, exponentials: exponentials, barrier: barrier)
  }
}

extension Machine {
  /// bf16 multiply-adds a second over those of f32, on one thread; nil if the processor does not
  /// multiply bf16. The value is 2 on AMD's Zen 4 and 5, a half on Intel's Golden Cove without AMX,
  /// and 8 with AMX. It is the best of several runs, and runs of both types alternate, so that
  /// other work on a processor meets both. Rates are whole multiples of each other, so a threshold
  /// of three quarters tells them apart on a busy machine, too. More threads would not: each run
  /// then takes as long as its unluckiest thread, and the type of products must not depend on luck.
  public static func bf16Rate() -> Double? {
    let (kept, team) = (computeType, threads)
    defer {
      setProductType(kept)
      threads = team
    }
    threads = 1
    setProductType(.bf16)
    guard computeType == .bf16 else { return nil }
    func rate(_ type: ComputeType) -> Double {
      setProductType(type)
      var done = 0.0
      let t = ContinuousClock().measure { done = pk_probe_fma(20_000) } / .seconds(1)
      return done / t
    }
    var narrow = 0.0
    var f32 = 0.0
    for _ in 0..<12 { (narrow, f32) = (max(narrow, rate(.bf16)), max(f32, rate(.f32))) }
    return narrow / f32
  }
  /// Requests products of this type. bf16 is used if the processor multiplies it no slower than f32
  /// (measured once, in one to two milliseconds). Returns the type in use, and the rate of bf16
  /// over that of f32 if that was the reason.
  public static func prefer(_ type: ComputeType) -> (taken: ComputeType, rate: Double?) {
    let rate = type == .bf16 ? bf16Rate() : nil
    computeType = type
    if type == .bf16 && (rate ?? 0) < 0.75 { setProductType(.f32) }
    return (computeType, computeType == type ? nil : rate)
  }
  /// The thread team as the system runs it: its number of threads, and the number of processors on
  /// which they may run together.
  public static var team: (threads: Int, processors: Int) {
    var processors: Int32 = 0
    let threads = unsafe pk_probe_team(&processors)
    return (Int(threads), Int(processors))
  }
  /// The instruction sets of this machine, plainest first.
  public static var available: [InstructionSet] {
    Array(InstructionSet.allCases.prefix { $0 != detected }) + [detected]
  }
}
