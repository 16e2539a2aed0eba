import Layers
import TensorRuntime

/// Seeded inputs, and comparison with the reference.
enum BenchmarkReference {
  static func normal(_ shape: Shape, _ sample: Int, _ work: borrowing Workspace, scale: Double = 1)
    -> Tensor
  {
    let x = RandomStream(seed: 9, .bench, sample: sample).normal(shape, .f32, in: work)
    return scale == 1 ? x : work.scaled(x, by: scale)
  }
  /// A column of ±1, the test vector of a checksum.
  static func signs(_ n: Int, _ sample: Int) -> Tensor {
    var stream = RandomStream(seed: 9, .bench, sample: 1000 + sample)
    return Tensor((0..<n).map { _ in stream.bits() & 1 == 0 ? 1.0 : -1.0 }, Shape(n, 1))
  }
  static func wide(_ x: Tensor, _ work: borrowing Workspace) -> Tensor {
    work.converted(x, to: .f64)
  }

  /// The largest difference must be at most `tolerance` of the largest magnitude of `reference`.
  /// With bf16 products it is at least 1/32, eight units of their rounding.
  static func agree(_ x: Tensor, _ reference: Tensor, tolerance: Double) -> Bool {
    let r = reference.doubles
    let scale = r.reduce(0) { max($0, abs($1)) }
    let tolerance = Machine.computeType == .bf16 ? max(tolerance, 1.0 / 32) : tolerance
    return zip(x.doubles, r).allSatisfy { abs($0 - $1) <= tolerance * (1e-30 + scale) }
  }

  /// Random parameters whose values are all small but not zero. Gates that start at zero would hide
  /// half of the network from a check.
  static func parameters(_ storage: StorageType) -> ParameterSource {
    ParameterSource { name, shape, initial, _ in
      let work = Workspace()
      let fresh = ParameterSource.random(seed: 4)
      let value: Tensor
      if case .zeros = initial {
        value = try fresh(name, shape, .normal(deviation: 0.02)).value
      } else {
        value = try fresh(name, shape, initial).value
      }
      return shape.rank > 1 ? work.converted(value, to: storage.element) : value
    }
  }
  /// The parameters of `model` in f64.
  static func wideParameters(of model: some Layer) -> ParameterSource {
    var table: [String: Tensor] = [:]
    model.readParameters { table[$0.name] = $0.value }
    return ParameterSource { name, _, _, _ in
      table[name].map { Workspace().converted($0, to: .f64) }
    }
  }
}
