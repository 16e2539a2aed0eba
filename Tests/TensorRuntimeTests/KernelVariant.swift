import TensorRuntime
import TestSupport
import Testing

/// The sets of kernels that a test runs on.
enum KernelVariant: String, Sendable, CaseIterable {
  case scalar, avx2, avx512, bf16
  /// The bodies in double, which finite differences run on.
  case f64

  var isPresent: Bool {
    switch self {
    case .f64: true
    case .bf16: Machine.hasBF16 && Machine.detected == .avx512
    default: Machine.available.contains(Machine.InstructionSet(rawValue: rawValue)!)
    }
  }
  /// All that this machine has; tests skip the others, and `pisces doctor` names those that ran.
  static let present = allCases.filter(\.isPresent)

  func use<R>(_ body: () throws -> R) rethrows -> R {
    let threads = Machine.threads
    defer {
      Machine.limit(to: .avx512)
      Machine.computeType = .f32
      Machine.threads = threads
    }
    switch self {
    case .f64: break
    case .bf16: Machine.computeType = .bf16
    default: Machine.limit(to: Machine.InstructionSet(rawValue: rawValue)!)
    }
    return try body()
  }
}

/// How far a result may be from the plain implementation, relative to the largest magnitude of the
/// expected tensor.
struct Tolerance: ExpressibleByFloatLiteral {
  var f32: Double
  var bf16: Double
  /// Enough for sums of thousands of terms in double; the bodies' own errors are far below.
  var f64 = 1e-11
  init(floatLiteral value: Double) { (f32, bf16) = (value, value) }
  init(_ f32: Double, bf16: Double? = nil) { (self.f32, self.bf16) = (f32, bf16 ?? f32) }
  func of(_ variant: KernelVariant) -> Double {
    switch variant {
    case .f64: f64
    case .bf16: bf16
    default: f32
    }
  }
}

/// Inputs of tests: numbers that bf16 holds exactly, so that products of bf16 operands lose nothing
/// to rounding and what remains is the order of an f32 sum.
enum Inputs {
  static func numbers(_ shape: Shape, _ seed: UInt64) -> Tensor {
    let work = Workspace()
    return work.converted(
      work.converted(RandomStream(seed: seed, .test).normal(shape, in: work), to: .bf16), to: .f32)
  }
  /// Whole quarters: weights of taps that read the same cell are added before they are rounded, and
  /// sums of up to 27 of these are bf16 numbers too.
  static func quarters(_ shape: Shape, _ seed: UInt64) -> Tensor {
    Tensor(numbers(shape, seed).floats.map { min(max(($0 * 4).rounded(), -9), 9) / 4 }, shape)
  }
}

/// Runs `body` on every set of kernels this machine has and compares it with `expected`, the plain
/// implementation in double. The family's name is part of every message. The bits must be the same
/// on one, two, three and five threads.
func compare(
  _ family: String, _ inputs: [Tensor], tolerance: Tolerance,
  sourceLocation: SourceLocation = #_sourceLocation,
  expected: ([Tensor]) -> [Tensor], _ body: ([Tensor], borrowing Workspace) -> [Tensor]
) {
  let reference = expected(inputs)
  let work = Workspace()
  let doubles = inputs.map { work.converted($0, to: .f64) }
  for variant in KernelVariant.present {
    let given = variant == .f64 ? doubles : inputs
    let found = variant.use {
      [1, 2, 3, 5].map { threads in
        Machine.threads = threads
        return body(given, Workspace())
      }
    }
    for (index, (x, y)) in zip(found[0], reference).enumerated() {
      var (worst, scale) = x.differences(from: y)
      scale = max(scale, 1e-6)
      #expect(
        x.count == y.count && worst <= tolerance.of(variant) * scale,
        "\(family), result \(index), on \(variant): off by \(worst) of \(scale)",
        sourceLocation: sourceLocation)
    }
    for other in found.dropFirst() {
      #expect(
        zip(found[0], other).allSatisfy { $0.hasSameBits(as: $1) },
        "\(family) on \(variant): bits depend on the number of threads",
        sourceLocation: sourceLocation)
    }
  }
}
