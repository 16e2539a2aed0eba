import TensorRuntime
import TestSupport
import Testing

/// One after the other: kernels are not called from two threads at once, and some tests set the
/// team's size or instruction set.
@Suite(.serialized) struct TransportSuite {}

/// Calls `body` with every instruction set this machine has, the widest last and restored after.
func withEachInstructionSet<R>(_ body: () throws -> R) rethrows -> [R] {
  defer { Machine.limit(to: .avx512) }
  var results: [R] = []
  for isa in [Machine.InstructionSet.scalar, .avx2, .avx512] {
    Machine.limit(to: isa)
    if Machine.current == isa { results.append(try body()) }
  }
  return results
}
/// Calls `body` with one, two, three and seven threads.
func withThreadCounts<R>(_ body: () throws -> R) rethrows -> [R] {
  let before = Machine.threads
  defer { Machine.threads = before }
  return try [1, 2, 3, 7].map {
    Machine.threads = $0
    return try body()
  }
}
func largestDifference(_ x: [Double], _ y: [Double]) -> Double {
  x.count == y.count
    ? zip(x, y).reduce(0) { $1.0.isNaN || $1.1.isNaN ? .infinity : max($0, abs($1.0 - $1.1)) }
    : .infinity
}
/// Uniform in [0, 1).
func uniform(_ shape: Shape, seed: UInt64) -> Tensor {
  var stream = RandomStream(seed: seed, .test)
  return Tensor((0..<shape.count).map { _ in stream.uniform() }, shape)
}
/// Positive weights with sum 1.
func simplex(_ n: Int, seed: UInt64) -> Tensor {
  var stream = RandomStream(seed: seed, .test)
  let x = (0..<n).map { _ in 0.2 + stream.uniform() }
  let sum = x.reduce(0, +)
  return Tensor(x.map { $0 / sum }, Shape(n))
}
func dot(_ x: [Double], _ y: [Double]) -> Double { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }
