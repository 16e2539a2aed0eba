import Diffusion
import TensorRuntime

/// Consistency distillation of a batch (Song et al. 2023, arXiv:2303.01469; phased: Wang et al. 2024,
/// arXiv:2405.18407; algorithm.md 7.3, 7.5). The student's prediction at the end of its phase,
/// x̂ = x + (σ_end − σ) v, shall equal that of the target network from one Euler step of the teacher
/// further down. Each sample has a level of its own.
struct ConsistencyDistillation {
  /// Levels of the samples: where they are, one step below, and the end of their phase.
  let sigma, previous, end: [Double]
  /// c of the pseudo-Huber loss √(e² + c²) − c.
  let huberC: Double

  init(_ schedule: NoiseSchedule, indices: [Int], phases: Int, huberC: Double) {
    sigma = indices.map { schedule.sigmas[$0] }
    previous = indices.map { schedule.previous[$0] }
    end = indices.map { schedule.endLevel($0, phases: phases) }
    self.huberC = huberC
  }

  /// The student's prediction for its velocity at x `[B, C, n, h, w]`.
  func prediction(_ x: Tensor, velocity v: Tensor, in work: borrowing Workspace) -> Tensor {
    work.flowStep(x, velocity: v, from: sigma, to: end)
  }
  /// v̄ = (σ_end − σ) x̄̂, for the gradient of the prediction.
  func predictionBackward(_ d: Tensor, in work: borrowing Workspace) -> Tensor {
    work.mixEach(end.indices.map { end[$0] - sigma[$0] }, d, end.map { _ in 0 }, d)
  }
  /// Where the teacher's velocity φ leads in one Euler step, and what the prediction should be from
  /// there; `velocity` is the target network's, at x and levels. A constant for differentiation.
  func goal(
    _ x: Tensor, teacher phi: Tensor, velocity: (Tensor, [Double]) -> Tensor,
    in work: borrowing Workspace
  ) -> (previous: Tensor, goal: Tensor) {
    let before = work.flowStep(x, velocity: phi, from: sigma, to: previous)
    return (
      before, work.flowStep(before, velocity: velocity(before, previous), from: previous, to: end)
    )
  }
  /// Mean loss over all elements, and its gradient at the prediction.
  func loss(_ prediction: Tensor, goal: Tensor, in work: borrowing Workspace) -> (Double, Tensor) {
    work.pseudoHuber(prediction, target: goal, c: huberC)
  }
}
