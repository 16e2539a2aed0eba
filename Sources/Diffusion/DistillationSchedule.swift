public import TensorRuntime

/// y = state x + output o: every prediction and every step of a sampler is of this form, x a noised
/// state and o the network's output there.
public struct StateMixture: Sendable, Equatable {
  public var state, output: Double
  public init(state: Double, output: Double) { (self.state, self.output) = (state, output) }
}

/// The discrete levels on which a network is distilled, level 0 next to the data, and what its
/// output means there. Each process (rectified flow, denoising diffusion) has its own numbers.
public protocol DistillationSchedule: Sendable {
  /// Number of levels.
  var count: Int { get }
  /// x = noise ε + data z.
  func noising(_ level: Int) -> (noise: Double, data: Double)
  /// The network's time input at a level and one step of the solver below it.
  func time(_ level: Int) -> Float
  func previousTime(_ level: Int) -> Float
  /// The consistency prediction, at a level and one step below it. `phases` as in
  /// `PhaseSchedule`.
  func prediction(_ level: Int, phases: Int) -> StateMixture
  func previousPrediction(_ level: Int, phases: Int) -> StateMixture
  /// The solver's step down.
  func step(_ level: Int) -> StateMixture
  /// The clean latents that rewards see.
  func clean(_ level: Int) -> StateMixture
  /// The output of a network that knew everything: noise ε + data z.
  var ideal: (noise: Double, data: Double) { get }
}

extension NoiseSchedule: DistillationSchedule {
  public func noising(_ level: Int) -> (noise: Double, data: Double) {
    (sigmas[level], 1 - sigmas[level])
  }
  public func time(_ level: Int) -> Float { Float(1000 * sigmas[level]) }
  public func previousTime(_ level: Int) -> Float { Float(1000 * previous[level]) }
  public func prediction(_ level: Int, phases: Int) -> StateMixture {
    along(from: sigmas[level], to: endLevel(level, phases: phases))
  }
  public func previousPrediction(_ level: Int, phases: Int) -> StateMixture {
    along(from: previous[level], to: endLevel(level, phases: phases))
  }
  public func step(_ level: Int) -> StateMixture {
    along(from: sigmas[level], to: previous[level])
  }
  public func clean(_ level: Int) -> StateMixture { along(from: sigmas[level], to: cleanLevel) }
  public var ideal: (noise: Double, data: Double) { (1, -1) }

  /// Along the velocity from one level to another.
  private func along(from: Double, to: Double) -> StateMixture {
    StateMixture(state: 1, output: to - from)
  }
}

/// Arithmetic on latents `[B, ...]` in which each sample has its own level.
extension Workspace {
  /// noise ε + data z.
  public func noised(
    _ z: Tensor, _ noise: Tensor, at levels: [Int], of schedule: some DistillationSchedule
  ) -> Tensor {
    let weights = levels.map { schedule.noising($0) }
    return mixEach(weights.map(\.noise), noise, weights.map(\.data), z)
  }
  public func mixed(_ m: [StateMixture], _ x: Tensor, _ output: Tensor) -> Tensor {
    mixEach(m.map(\.state), x, m.map(\.output), output)
  }
  /// Gradient of the output, given that of a mixture.
  public func mixedBackward(_ m: [StateMixture], _ dy: Tensor) -> Tensor {
    mixEach(m.map(\.output), dy, m.map { _ in 0 }, dy)
  }
}
