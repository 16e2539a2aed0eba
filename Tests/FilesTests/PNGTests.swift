import TensorRuntime
import Testing

@testable import Files

@Suite struct PNGTests {
  let folder = TemporaryFolder()

  @Test func picturesComeBack() throws {
    for (width, height) in [(1, 1), (7, 3), (64, 33)] {
      let image = PNGImage(
        width: width, height: height,
        pixels: (0..<width * height * 3).map { UInt8(truncatingIfNeeded: $0 &* 37) })
      try image.write(to: folder("a.png"))
      #expect(try PNGImage(contentsOf: folder("a.png")) == image)
      #expect(PNGImage(image.tensor) == image)
      #expect(image.tensor.shape == Shape(3, height, width))
    }
  }
  @Test func noiseDoesNotOutgrowTheBuffer() throws {
    var state: UInt64 = 1
    let noise = (0..<200 * 100 * 3).map { _ in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return UInt8(truncatingIfNeeded: state >> 33)
    }
    let image = PNGImage(width: 200, height: 100, pixels: noise)
    #expect(try PNGImage(parsing: image.encoded(), name: "t") == image)
  }
  @Test func valuesAreClamped() {
    let image = PNGImage(
      Tensor([-1, 0.5, 2, .nan, .infinity, 1.0 / 255] as [Float], Shape(3, 1, 2)))
    #expect(image.pixels == [0, 255, 255, 128, 0, 1])
  }
  @Test func brokenFilesAreRefused() {
    let good = PNGImage(width: 20, height: 20, pixels: [UInt8](repeating: 9, count: 1200)).encoded()
    expectError(.badData, "empty") { _ = try PNGImage(parsing: [], name: "t") }
    expectError(.badData, "not a PNG") {
      _ = try PNGImage(parsing: Array("hello, world".utf8), name: "t")
    }
    expectError(.badData, "cut short") {
      _ = try PNGImage(parsing: Array(good.dropLast(20)), name: "t")
    }
    // 65535 × 65535 pixels claimed in the header (with its CRC).
    var huge = Array(good.prefix(33))
    huge.replaceSubrange(16..<24, with: [0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff])
    huge.replaceSubrange(
      29..<33, with: littleEndian(Checksum.crc32(Array(huge[12..<29]))).reversed())
    expectError(.badData) { _ = try PNGImage(parsing: huge + good[33...], name: "t") }
  }
}
