import Testing

@testable import Files

/// Embedded files that tools/embedded/pack.py has packed.
@Suite struct PackedFileTests {
  /// The packed form of `bytes`, deflated as one stored block (RFC 1951, section 3.2.4).
  private func packed(_ bytes: [UInt8]) -> [UInt8] {
    let odd = stride(from: 1, to: bytes.count, by: 2).map { bytes[$0] }
    let even = stride(from: 0, to: bytes.count, by: 2).map { bytes[$0] }
    let (low, high) = (UInt8(odd.count & 255), UInt8(odd.count >> 8))
    let stream: [UInt8] = [1, low, high, ~low, ~high] + odd
    let length = (0..<8).map { UInt8(stream.count >> (8 * $0) & 255) }
    return length + stream + even
  }
  private func unpacked(_ bytes: [UInt8], count: Int) -> [UInt8]? {
    bytes.withUnsafeBytes {
      EmbeddedFiles.unpack($0, count: count, name: "test").map { Array($0.bytes(0..<count)) }
    }
  }

  @Test(arguments: [0, 1, 2, 7, 1000, 70_001]) func isWhatWasPacked(_ count: Int) {
    let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7) }
    #expect(unpacked(packed(bytes), count: count) == bytes)
  }
  @Test func damageIsFound() {
    let good = packed(Array(1...100))
    #expect(unpacked(good, count: 100) == Array(1...100))
    for bad in [[], Array(good.dropLast()), good + [0], [255] + good.dropFirst()] {
      #expect(unpacked(bad, count: 100) == nil)
    }
    var stream = good
    stream[9] ^= 1  // the length of the stored block
    #expect(unpacked(stream, count: 100) == nil)
    #expect(unpacked(good, count: 99) == nil && unpacked(good, count: 101) == nil)
  }
}
