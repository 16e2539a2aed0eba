public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// Cosines and sines of the 3-D rotary embedding for a grid of image tokens (algorithm.md 6.6). The
/// axes t, h, w have their channels of each head in this order. Pair k of position p has the angle
/// p θ^(-2k/d), in f32.
public struct RotaryTable: Sendable {
  public let cosines, sines: Tensor  // [tokens, head_dim / 2]
  var angles: Workspace.Rotation { (cosines, sines) }
  private init(cosines: Tensor, sines: Tensor) { (self.cosines, self.sines) = (cosines, sines) }
  /// The positions of some tokens.
  func rows(_ range: Range<Int>) -> RotaryTable {
    RotaryTable(cosines: cosines.slice(range), sines: sines.slice(range))
  }

  public init(grid: SIMD3<Int>, axes: [Int], theta: Double, type: ElementType) {
    let frequencies = axes.map { d in
      (0..<d / 2).map { Float(1 / pow(theta, Double(2 * $0) / Double(d))) }
    }
    let half = axes.reduce(0, +) / 2
    let tokens = grid.x * grid.y * grid.z
    var c: [Double] = []
    var s: [Double] = []
    c.reserveCapacity(tokens * half)
    s.reserveCapacity(tokens * half)
    for t in 0..<grid.x {
      for y in 0..<grid.y {
        for x in 0..<grid.z {
          for (axis, position) in [t, y, x].enumerated() {
            for w in frequencies[axis] {
              let angle = Double(Float(position) * w)
              c.append(cos(angle))
              s.append(sin(angle))
            }
          }
        }
      }
    }
    let shape = Shape(tokens, half)
    if type == .f64 {
      (cosines, sines) = (Tensor(c, shape), Tensor(s, shape))
    } else {
      (cosines, sines) = (Tensor(c.map { Float($0) }, shape), Tensor(s.map { Float($0) }, shape))
    }
  }
}
