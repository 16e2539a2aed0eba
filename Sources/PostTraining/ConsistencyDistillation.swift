import Diffusion
import TensorRuntime

/// Consistency distillation of a batch (Song et al. 2023, arXiv:2303.01469; phased: Wang et al.
/// 2024, arXiv:2405.18407; latent: Luo et al. 2023, arXiv:2310.04378; algorithm.md 7.3, 7.5,
/// videocrafter.md 8). The student's prediction from its state shall equal that of the target
/// network from one step of the teacher further down. Each sample has a level of its own.
struct ConsistencyDistillation {
  let levels: [Int]
  private let schedule: any DistillationSchedule, phases: Int
  /// c of the pseudo-Huber loss √(e² + c²) − c.
  private let huberC: Double

  init(_ schedule: any DistillationSchedule, indices: [Int], phases: Int, huberC: Double) {
    (self.schedule, levels, self.phases, self.huberC) = (schedule, indices, phases, huberC)
  }
  /// Times of the samples: where they are, and one step below.
  var times: [Float] { levels.map { schedule.time($0) } }
  var previousTimes: [Float] { levels.map { schedule.previousTime($0) } }

  /// The student's prediction for its output at x `[B, C, n, h, w]`.
  func prediction(_ x: Tensor, output: Tensor, in work: borrowing Workspace) -> Tensor {
    work.mixed(levels.map { schedule.prediction($0, phases: phases) }, x, output)
  }
  /// The gradient of the output, given that of the prediction.
  func predictionBackward(_ d: Tensor, in work: borrowing Workspace) -> Tensor {
    work.mixedBackward(levels.map { schedule.prediction($0, phases: phases) }, d)
  }
  /// Where the teacher's output φ leads in one step, and what the prediction should be from there;
  /// `output` is the target network's, at x and times. A constant for differentiation.
  func goal(
    _ x: Tensor, teacher phi: Tensor, output: (Tensor, [Float]) -> Tensor,
    in work: borrowing Workspace
  ) -> (previous: Tensor, goal: Tensor) {
    let before = work.mixed(levels.map { schedule.step($0) }, x, phi)
    let mixtures = levels.map { schedule.previousPrediction($0, phases: phases) }
    return (before, work.mixed(mixtures, before, output(before, previousTimes)))
  }
  /// Mean loss over all elements, and its gradient at the prediction.
  func loss(_ prediction: Tensor, goal: Tensor, in work: borrowing Workspace) -> (Double, Tensor) {
    work.pseudoHuber(prediction, target: goal, c: huberC)
  }
}
