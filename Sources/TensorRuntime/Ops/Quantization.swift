/// Matrices of weights in eight bits.
extension Workspace {
  /// Signed bytes with one scale for each row (symmetric, the row's largest magnitude becomes 127):
  /// at most half a scale from `x`. x `[rows, columns]` is floating-point and finite.
  public func quantized(_ x: Tensor) -> Tensor {
    precondition(x.shape.rank == 2 && x.type.isFloating, "quantized: \(x.type) \(x.shape)")
    let (rows, columns) = (x.shape[0], x.shape[1])
    var bytes = tensor(x.shape, .u8)
    var scales = tensor(Shape(rows))
    converted(x, to: .f32).withSpan(of: Float.self) { from in
      bytes.withMutableSpan(of: Int8.self) { to in
        scales.withMutableSpan(of: Float.self) { scale in
          for row in 0..<rows {
            let start = row * columns
            var largest: Float = 0
            for i in start..<start + columns { largest = max(largest, abs(from[i])) }
            let unit = largest / 127
            scale[row] = unit
            for i in start..<start + columns {
              to[i] = unit > 0 ? Int8(max(-127, min(127, (from[i] / unit).rounded()))) : 0
            }
          }
        }
      }
    }
    return Tensor(quantized: bytes, scales: scales)
  }
}
