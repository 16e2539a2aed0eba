import Models
import TensorRuntime
import Testing

/// Nothing that lives in an async function's frame wants more than 16-byte alignment: Swift 6.3
/// does not give it there (`Shape`).
@Suite struct AlignmentTests {
  @Test func modelsAreNotOverAligned() {
    #expect(MemoryLayout<Shape>.alignment <= 16)
    #expect(MemoryLayout<Tensor>.alignment <= 16)
    #expect(MemoryLayout<ConvolutionGeometry>.alignment <= 16)
    #expect(MemoryLayout<Tiling>.alignment <= 16)
    #expect(
      MemoryLayout<VideoTransformer>.alignment <= 16
        && MemoryLayout<VideoTransformer.Saved>.alignment <= 16)
    #expect(
      MemoryLayout<AutoencoderEncoder>.alignment <= 16
        && MemoryLayout<AutoencoderDecoder>.alignment <= 16)
    #expect(MemoryLayout<VideoEncoder>.alignment <= 16 && MemoryLayout<TextEncoder>.alignment <= 16)
  }
}
