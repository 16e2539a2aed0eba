/// The levels of latent consistency distillation (Luo et al. 2023, arXiv:2310.04378; T2V-Turbo,
/// arXiv:2405.18750; videocrafter.md 8): `count` times of the solver, the last of them the
/// noisiest.
public struct ConsistencySchedule: DistillationSchedule, Equatable {
  public let diffusion: DiffusionSchedule
  public let count: Int

  /// `steps` must divide the number of training times.
  public init(_ diffusion: DiffusionSchedule = DiffusionSchedule(), steps: Int = 50) {
    precondition(
      steps > 0 && diffusion.alphas.count % steps == 0,
      "\(steps) levels of \(diffusion.alphas.count)")
    (self.diffusion, count) = (diffusion, steps)
  }
  private var stride: Int { diffusion.alphas.count / count }
  /// t = r (i + 1) − 1, and t' = max(t − r, 0).
  public func timestep(_ level: Int) -> Int { stride * (level + 1) - 1 }
  public func previousTimestep(_ level: Int) -> Int { max(timestep(level) - stride, 0) }

  public func noising(_ level: Int) -> (noise: Double, data: Double) {
    let a = diffusion.alphas[timestep(level)]
    return ((1 - a).squareRoot(), a.squareRoot())
  }
  public func time(_ level: Int) -> Float { Float(timestep(level)) }
  public func previousTime(_ level: Int) -> Float { Float(previousTimestep(level)) }
  public func prediction(_ level: Int, phases _: Int) -> StateMixture {
    diffusion.boundary(timestep(level))
  }
  public func previousPrediction(_ level: Int, phases _: Int) -> StateMixture {
    diffusion.boundary(previousTimestep(level))
  }
  public func step(_ level: Int) -> StateMixture {
    diffusion.step(from: timestep(level), to: previousTimestep(level))
  }
  /// The boundary form (D-42).
  public func clean(_ level: Int) -> StateMixture { diffusion.boundary(timestep(level)) }
  public var ideal: (noise: Double, data: Double) { (1, 0) }
}
