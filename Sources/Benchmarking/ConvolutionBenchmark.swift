import Files
import TensorRuntime

/// HunyuanVideo's causal 3×3×3 convolution, C to C channels, of one clip.
public struct ConvolutionBenchmark: Sendable {
  public var channels = 64, frames = 17, size = 64, storage = StorageType.f32,
    pass = BenchmarkPass.forward
  public init(
    channels: Int = 64, frames: Int = 17, size: Int = 64, storage: StorageType = .f32,
    pass: BenchmarkPass = .forward
  ) {
    (self.channels, self.frames, self.size, self.storage, self.pass) = (
      channels, frames, size, storage, pass
    )
  }

  /// The check sums the output channels with random signs. This is one output channel of the signed
  /// sum of the weights, computed in f64. Backward is checked by ⟨dy, y⟩ = ⟨dx, x⟩ = ⟨dw, w⟩,
  /// because dx and dw are the adjoints of what was checked.
  public func prepare() -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let geometry = ConvolutionGeometry.causal(kernel: 3)
    let c = channels
    let x = BenchmarkReference.normal(Shape(1, c, frames, size, size), 1, work)
    let dy = BenchmarkReference.normal(x.shape, 2, work)
    let weight = work.converted(
      BenchmarkReference.normal(Shape(c, c, 3, 3, 3), 3, work, scale: 0.1), to: storage.element)
    let flops = 2 * 27 * Double(c) * Double(x.count)
    let isBoth = pass == .both
    let backward: @Sendable (borrowing Workspace) -> (dx: Tensor, dw: Tensor) = { work in
      var dw: Tensor? = work.zeros(weight.shape)
      var none: Tensor?
      work.convolutionBackwardWeight(dy, x: x, weight: weight.shape, geometry, addingTo: &dw, &none)
      return (work.convolutionBackwardInput(dy, input: x.shape, weight: weight, geometry), dw!)
    }
    return BenchmarkCase(
      "conv",
      [
        ("channels", .integer(c)), ("frames", .integer(frames)), ("size", .integer(size)),
        ("pass", .string(pass.rawValue)),
      ] + storage.fields,
      .init(
        flops: flops * (isBoth ? 3 : 1),
        bytes: Double(8 * x.count + weight.byteCount) * (isBoth ? 3 : 1)),
      verify: {
        let work = Workspace(pool: pool)
        let y = work.convolution(x, weight: weight, bias: nil, geometry)
        let t = BenchmarkReference.signs(c, 4).reshaped(Shape(1, c))
        let w64 = BenchmarkReference.wide(weight, work)
        let summed = work.matmul(t, w64.reshaped(Shape(c, c * 27))).reshaped(Shape(1, c, 3, 3, 3))
        let expected = work.convolution(
          BenchmarkReference.wide(x, work), weight: summed, bias: nil, geometry)
        let found = work.matmul(t, BenchmarkReference.wide(y, work).reshaped(Shape(c, y.count / c)))
        guard BenchmarkReference.agree(found, expected, tolerance: 1e-5) else { return false }
        if !isBoth { return true }
        let (dx, dw) = backward(work)
        let inner = work.dot(dy, y)
        let scale = (work.sumOfSquares(dy) * work.sumOfSquares(y)).squareRoot()
        return abs(work.dot(dx, x) - inner) <= 1e-5 * scale
          && abs(work.dot(dw, work.widened(weight)) - inner) <= 1e-5 * scale
      },
      run: {
        let work = Workspace(pool: pool)
        _ = work.convolution(x, weight: weight, bias: nil, geometry)
        if isBoth { _ = backward(work) }
      })
  }
}
