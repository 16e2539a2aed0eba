internal import CKernels

/// A counter-based stream of random numbers (Philox4x32-10, Salmon et al. 2011), identified by
/// seed, purpose, step and sample. The same identifiers give the same numbers for any number of
/// threads and in any order of use.
public struct RandomStream: Sendable {
  /// The use of the numbers. A raw value is part of a checkpoint's meaning: never renumber.
  public enum Purpose: UInt64, Sendable {
    case initialisation = 1
    case noise = 2
    case timestep = 3
    case crop = 4
    case order = 5
    case world = 6
    case caption = 7
    case augmentation = 8
    case masking = 9
    case dropout = 10
    case rollout = 11
    case latent = 12
    case evaluation = 13
    case bench = 14
    case test = 15
    case bootstrap = 16
  }
  private let key: UInt64
  private let counterHigh: UInt64
  private var index: UInt64 = 0
  private var buffered = SIMD4<UInt32>()
  private var used = 4

  public init(seed: UInt64, _ purpose: Purpose, step: Int = 0, sample: Int = 0) {
    // The key mixes seed and purpose through one Philox block, so that nearby seeds are unrelated.
    let k = Self.block(key: seed, high: purpose.rawValue, low: 0x5049_5343_4553)
    key = UInt64(k.0) | UInt64(k.1) << 32
    counterHigh =
      UInt64(truncatingIfNeeded: step) << 32 | UInt64(truncatingIfNeeded: sample) & 0xffff_ffff
  }

  private static func block(key: UInt64, high: UInt64, low: UInt64) -> (
    UInt32, UInt32, UInt32, UInt32
  ) {
    var out: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
    unsafe withUnsafeMutablePointer(to: &out) {
      unsafe $0.withMemoryRebound(to: UInt32.self, capacity: 4) {
        unsafe pk_philox(key, high, low, $0)
      }
    }
    return out
  }

  /// 32 random bits. Single numbers and whole tensors use separate halves of the counter space.
  public mutating func bits() -> UInt32 {
    if used == 4 {
      let b = Self.block(key: key ^ 0x9E37_79B9_7F4A_7C15, high: counterHigh, low: index)
      index += 1
      (buffered, used) = (SIMD4(b.0, b.1, b.2, b.3), 0)
    }
    used += 1
    return buffered[used - 1]
  }
  /// Uniform in [0, 1), 24 bits.
  public mutating func uniform() -> Double { Double(bits() >> 8) * 0x1p-24 }
  public mutating func uniform(_ range: Range<Double>) -> Double {
    range.lowerBound + (range.upperBound - range.lowerBound) * uniform()
  }
  /// Uniform in 0..<n, by multiplication (bias below n / 2^32).
  public mutating func below(_ n: Int) -> Int {
    precondition(n > 0 && n <= Int(UInt32.max), "below(\(n))")
    return Int((UInt64(bits()) * UInt64(n)) >> 32)
  }
  public mutating func choose<T>(_ values: [T]) -> T { values[below(values.count)] }
  /// Standard normal (Box-Muller, one value a call).
  public mutating func normal() -> Double {
    let u1 = (Double(bits()) + 1) * 0x1p-32
    let u2 = Double(bits()) * 0x1p-32
    return (-2 * pk_log(u1)).squareRoot() * pk_cos(2 * .pi * u2)
  }
  /// A random order of 0..<n (Fisher-Yates).
  public mutating func permutation(_ n: Int) -> [Int] {
    var order = Array(0..<n)
    for i in stride(from: n - 1, to: 0, by: -1) { order.swapAt(i, below(i + 1)) }
    return order
  }

  /// A tensor of standard normal numbers. Independent of single draws from the same stream.
  public func normal(_ shape: Shape, _ type: ElementType = .f32, in work: borrowing Workspace)
    -> Tensor
  {
    let y = work.tensor(shape, type)
    unsafe work.check(pk_random_normal(type.pk, key, counterHigh, y.count, y.base))
    return y
  }
  /// A tensor of numbers uniform in [0, 1).
  public func uniform(_ shape: Shape, _ type: ElementType = .f32, in work: borrowing Workspace)
    -> Tensor
  {
    let y = work.tensor(shape, type)
    unsafe work.check(pk_random_uniform(type.pk, key, counterHigh, y.count, y.base))
    return y
  }
}
