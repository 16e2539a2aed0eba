internal import CKernels

/// What this machine reaches, measured now: `pk_probe.h`. The rates benchmarks are compared with.
public struct MachineRates: Sendable {
  /// Fused multiply-adds of the current instruction set in f32, or of bf16 pairs where
  /// `Machine.products` says so, all threads: operations a second.
  public let flops: Double
  /// Triad over arrays beyond the caches: bytes a second, reads and writes counted once each.
  public let bytes: Double
  /// The kernels' own exponential: values a second.
  public let exponentials: Double
  /// A barrier of the team: seconds. Several times as long when its processors do not share a
  /// cache, which a host may change from minute to minute.
  public let barrier: Double

  /// The best of several runs each, long enough for the clock to settle: about half a second
  /// together.
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
      t.base.assumingMemoryBound(to: Float.self)
    }
    for _ in 0..<6 {
      bytes = max(
        bytes, 12 * Double(n) / seconds { pk_probe_triad(n, floats(a), floats(b), floats(y)) })
    }
    return MachineRates(flops: flops, bytes: bytes, exponentials: exponentials, barrier: barrier)
  }
}

extension Machine {
  /// bf16 multiply-adds a second over those of f32, both on all threads; nil where the processor
  /// has none of bf16. 2 on AMD's Zen 4 and 5; a half on Intel's Golden Cove without AMX, and 8
  /// with it. The best of several runs, one of each in turn, so that a moment in which another
  /// process has a processor meets both: rates are whole multiples of each other, so that three
  /// quarters tell them apart on a busy machine too.
  public static func bf16Rate() -> Double? {
    let kept = products
    defer { products = kept }
    products = .bf16
    guard products == .bf16 else { return nil }
    func rate(_ type: Products) -> Double {
      products = type
      var done = 0.0
      let t = ContinuousClock().measure { done = pk_probe_fma(20_000) } / .seconds(1)
      return done / t
    }
    var narrow = 0.0
    var f32 = 0.0
    for _ in 0..<12 { (narrow, f32) = (max(narrow, rate(.bf16)), max(f32, rate(.f32))) }
    return narrow / f32
  }
  /// Asks for products of this type: bf16 is taken where the processor multiplies it, and no slower
  /// than f32 (measured here once, in one to two milliseconds). Returns what was taken, and the
  /// rate of bf16 over that of f32 where that was the reason.
  public static func prefer(_ type: Products) -> (taken: Products, rate: Double?) {
    let rate = type == .bf16 ? bf16Rate() : nil
    products = type == .bf16 && (rate ?? 0) < 0.75 ? .f32 : type
    return (products, products == type ? nil : rate)
  }
  /// The team as the system runs it: how many threads it has, and on how many processors they may
  /// run together.
  public static var team: (threads: Int, processors: Int) {
    var processors: Int32 = 0
    let threads = pk_probe_team(&processors)
    return (Int(threads), Int(processors))
  }
  /// The instruction sets this machine has, plainest first.
  public static var available: [InstructionSet] {
    Array(InstructionSet.allCases.prefix { $0 != detected }) + [detected]
  }
}
