import CKernels
import TensorRuntime
import Testing

/// The generator against its published vectors, and what its users rely on: a number is named by
/// seed, purpose, step and sample, and by nothing else.
@Suite struct RandomStreamTests {
  /// Philox4x32-10 of Random123's kat_vectors (Salmon et al. 2011): counter, key, output.
  @Test(
    arguments: [
      (
        [0, 0, 0, 0], [0, 0], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
      ),
      (
        [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff], [0xffff_ffff, 0xffff_ffff],
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
      ),
      (
        [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
      ),
    ] as [([UInt64], [UInt64], [UInt32])])
  func publishedVectors(_ counter: [UInt64], _ key: [UInt64], _ expected: [UInt32]) {
    var found = [UInt32](repeating: 0, count: 4)
    pk_philox(
      key[0] | key[1] << 32, counter[2] | counter[3] << 32, counter[0] | counter[1] << 32, &found)
    #expect(found == expected)
  }

  @Test func streamsAreNamed() {
    func first(_ seed: UInt64, _ purpose: RandomStream.Purpose, _ step: Int, _ sample: Int)
      -> [UInt32]
    {
      var stream = RandomStream(seed: seed, purpose, step: step, sample: sample)
      return (0..<9).map { _ in stream.bits() }
    }
    let names: [(UInt64, RandomStream.Purpose, Int, Int)] = [
      (1, .noise, 0, 0), (2, .noise, 0, 0), (1, .order, 0, 0), (1, .noise, 1, 0), (1, .noise, 0, 1),
    ]
    let streams = names.map { first($0.0, $0.1, $0.2, $0.3) }
    #expect(Set(streams).count == 5 && streams[0] == first(1, .noise, 0, 0))
    // Whole tensors are no part of the single numbers, and a longer one begins with a shorter one.
    let work = Workspace()
    let stream = RandomStream(seed: 1, .noise)
    let (short, long) = (stream.normal(Shape(7), in: work), stream.normal(Shape(40), in: work))
    #expect(Array(long.floats[..<7]) == short.floats)
  }

  /// Moments of 40,000 numbers, each within five deviations of its estimate.
  @Test func distributions() {
    let work = Workspace()
    let n = 40_000
    var stream = RandomStream(seed: 3, .test)
    func moments(_ x: [Double]) -> (mean: Double, variance: Double) {
      let mean = x.reduce(0, +) / Double(n)
      return (mean, x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(n))
    }
    let deviation = 5 / Double(n).squareRoot()
    for uniform in [
      (0..<n).map { _ in stream.uniform() }, stream.uniform(Shape(n), .f64, in: work).doubles,
    ] {
      let m = moments(uniform)
      #expect(uniform.allSatisfy { $0 >= 0 && $0 < 1 })
      #expect(abs(m.mean - 0.5) < 0.29 * deviation && abs(m.variance - 1.0 / 12) < 0.08 * deviation)
    }
    for normal in [
      (0..<n).map { _ in stream.normal() }, stream.normal(Shape(n), .f64, in: work).doubles,
    ] {
      let m = moments(normal)
      #expect(abs(m.mean) < deviation && abs(m.variance - 1) < 1.42 * deviation)
      // Neighbours are not correlated, and a normal has 4.55 % beyond two deviations.
      let product = zip(normal, normal.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 } / Double(n)
      #expect(abs(product) < deviation)
      #expect(abs(Double(normal.count { abs($0) > 2 }) / Double(n) - 0.0455) < 0.21 * deviation)
    }
    let drawn = (0..<n).map { _ in stream.below(7) }
    for k in 0..<7 {
      #expect(abs(Double(drawn.count { $0 == k }) / Double(n) - 1.0 / 7) < 0.35 * deviation)
    }
    let range = (0..<100).map { _ in stream.uniform(-2..<3) }
    #expect(range.allSatisfy { (-2..<3).contains($0) } && range.contains { $0 < -1 })
  }
  /// Every order is as likely as any other: 24 orders of four, 2,400 times.
  @Test func permutations() {
    var stream = RandomStream(seed: 4, .test)
    var counts: [[Int]: Int] = [:]
    for _ in 0..<2400 { counts[stream.permutation(4), default: 0] += 1 }
    #expect(counts.count == 24 && counts.keys.allSatisfy { $0.sorted() == [0, 1, 2, 3] })
    #expect(counts.values.allSatisfy { abs($0 - 100) < 50 })
  }
}
