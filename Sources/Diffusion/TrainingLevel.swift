public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// A level at which a generator's network is trained or asked: x = noise ε + data z at `time`.
public struct TrainingLevel: Sendable, Equatable {
  public let time: Float, noise: Double, data: Double
  /// What gives z from x and the network's output.
  public let clean: StateMixture
}

extension GenerativeProcess {
  /// The level at a share u of the way from data (0) to noise (1). `shift` moves the levels of a
  /// flow (algorithm.md 7.2).
  public func level(at u: Double, shift: Double) -> TrainingLevel {
    switch self {
    case .flow:
      let sigma = NoiseSchedule.shifted(u, shift)
      return TrainingLevel(
        time: Float(1000 * sigma), noise: sigma, data: 1 - sigma,
        clean: StateMixture(state: 1, output: -sigma))
    case .diffusion(let parameters):
      let schedule = DiffusionSchedule(parameters)
      let count = schedule.alphas.count
      let time = min(Int(u * Double(count)), count - 1)
      let a = schedule.alphas[time]
      return TrainingLevel(
        time: Float(time), noise: (1 - a).squareRoot(), data: a.squareRoot(),
        clean: schedule.data(time))
    }
  }
  /// A level for plain training: the logistic of a normal for a flow (algorithm.md 7.2), any time
  /// for diffusion.
  public func drawnLevel(shift: Double, drawing stream: inout RandomStream) -> TrainingLevel {
    switch self {
    case .flow: level(at: 1 / (1 + exp(-stream.normal())), shift: shift)
    case .diffusion: level(at: stream.uniform(), shift: shift)
    }
  }
  /// The output of a network that knew everything: noise ε + data z.
  public var ideal: (noise: Double, data: Double) {
    switch self {
    case .flow: (1, -1)
    case .diffusion: (1, 0)
    }
  }
}

extension Workspace {
  /// noise ε + data z.
  public func noised(_ z: Tensor, _ noise: Tensor, at levels: [TrainingLevel]) -> Tensor {
    mixEach(levels.map(\.noise), noise, levels.map(\.data), z)
  }
}
