public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// [cos(t ω₀..), sin(t ω₀..)], ω_k = exp(-ln(10000) k / (n/2)): cosines first (HunyuanVideo;
/// algorithm.md 6.3).
public enum SinusoidalEmbedding {
  /// Times `[B]` to `[B, width]`. ω and the product t ω are rounded to f32, as the trained networks
  /// did; at guidance values of 6000 the f32 product has a spacing of 4.9e-4.
  public static func embed(_ times: [Float], width: Int, type: ElementType) -> Tensor {
    let half = width / 2
    let omega = (0..<half).map { Float(exp(-log(Float(10000)) * Float($0) / Float(half))) }
    var values: [Double] = []
    values.reserveCapacity(times.count * width)
    for t in times {
      for w in omega { values.append(cos(Double(t * w))) }
      for w in omega { values.append(sin(Double(t * w))) }
    }
    let shape = Shape(times.count, width)
    return Tensor(values, shape, as: type)
  }
}

/// [sin(1000 w ν₀..), cos(1000 w ν₀..)], ν_k = exp(-ln(10000) k / (n/2 - 1)): sines first, of a
/// scale such as that of guidance (T2V-Turbo; videocrafter.md 2.4).
public enum ScaleEmbedding {
  /// Scales `[B]` to `[B, width]`, in double.
  public static func embed(_ scales: [Double], width: Int, type: ElementType) -> Tensor {
    let half = width / 2
    let nu = (0..<half).map { exp(-log(10000) * Double($0) / Double(max(half - 1, 1))) }
    var values: [Double] = []
    values.reserveCapacity(scales.count * width)
    for w in scales {
      for n in nu { values.append(sin(1000 * w * n)) }
      for n in nu { values.append(cos(1000 * w * n)) }
    }
    return Tensor(values, Shape(scales.count, width), as: type)
  }
}
