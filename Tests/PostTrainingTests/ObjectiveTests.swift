import Diffusion
import TensorRuntime
import TestSupport
import Testing

@testable import PostTraining

#if canImport(Glibc)
  import Glibc
#endif

/// The parts of both objectives that need no network: advantages, the clipped term, and the
/// predictions and the loss of consistency distillation (algorithm.md 7.3, 7.5, 9.2).
@Suite struct ObjectiveTests {
  /// (R - mean) / (std + 1e-6), std with divisor K - 1.
  @Test func advantages() {
    // Mean 5, squares of deviations 9 + 1 + 1 + 9 + 0 = 20, std √5.
    let found = GRPO.advantages([2, 4, 6, 8, 5])
    let s = 5.0.squareRoot() + 1e-6
    #expect(zip(found, [-3 / s, -1 / s, 1 / s, 3 / s, 0]).allSatisfy { abs($0 - $1) < 1e-12 })
    // A group of equals, and one alone, has nothing to learn from.
    #expect(GRPO.advantages([7, 7, 7]) == [0, 0, 0] && GRPO.advantages([7]) == [0])
  }
  @Test func bestAndWorst() {
    let scores = [0.3, -1, 2, 0.5, -0.2, 0.3]
    #expect(GRPO.bestAndWorst(scores, keep: 4) == [3, 2, 1, 4])
    #expect(GRPO.bestAndWorst(scores, keep: 2) == [2, 1])
    #expect(GRPO.bestAndWorst(scores, keep: 6) == Array(0..<6))
    #expect(GRPO.bestAndWorst(scores, keep: 9) == Array(0..<6))
  }
  /// max(-A ρ, -A clip(ρ, 0.8, 1.2)): a step that makes a good sample likelier, or a bad one
  /// unlikelier, earns nothing outside the range.
  @Test(arguments: [
    (2.0, 1.0, -2.0, -2.0), (2, 1.5, -2.4, 0), (2, 0.5, -1, -1), (-2, 1.5, 3, 3),
    (-2, 0.5, 1.6, 0), (-2, 1.1, 2.2, 2.2), (0, 1.5, 0, 0),
  ])
  func clippedTerm(_ advantage: Double, _ ratio: Double, _ loss: Double, _ slope: Double) {
    let (old, new) = (-0.7, -0.7 + log(ratio))
    func term(_ new: Double) -> Double {
      GRPO.clipped(advantage: advantage, new: new, old: old, clip: 0.2).loss
    }
    let found = GRPO.clipped(advantage: advantage, new: new, old: old, clip: 0.2)
    #expect(abs(found.loss - loss) < 1e-12 && abs(found.ratio - ratio) < 1e-12)
    #expect(abs(found.slope - slope) < 1e-12)
    let h = 1e-5
    #expect(abs((term(new + h) - term(new - h)) / (2 * h) - slope) < 1e-6)
  }

  private let shape = Shape(3, 2, 2, 2, 2)
  private var schedule: NoiseSchedule { NoiseSchedule(shift: 3) }
  private func difference(_ a: Tensor, _ b: [Double]) -> Double {
    zip(a.doubles, b).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }
  /// predict = x + (σ'_{e(i)} - σ_i) v; the teacher leads to x + (σ'_i - σ_i) φ, from where the
  /// target is x' + (σ'_{e(i)} - σ'_i) v'.
  @Test func predictionsAndGoals() {
    let work = Workspace()
    let indices = [3, 26, 49]
    let step = ConsistencyDistillation(schedule, indices: indices, phases: 2, huberC: 0.1)
    let (x, v, phi) = (
      randomTensor(shape, seed: 1), randomTensor(shape, seed: 2), randomTensor(shape, seed: 3)
    )
    // Two phases of 50 levels begin at 0 and 25.
    let starts = [0, 25, 25]
    func level(_ table: [Double], _ rows: [Int]) -> [Double] {
      (0..<shape.count).map { table[rows[$0 / 16]] }
    }
    let (sigma, before) = (level(schedule.sigmas, indices), level(schedule.previous, indices))
    let end = level(schedule.previous, starts)
    let predicted = (0..<shape.count).map {
      x.doubles[$0] + (end[$0] - sigma[$0]) * v.doubles[$0]
    }
    #expect(difference(step.prediction(x, output: v, in: work), predicted) < 1e-14)
    let (previous, goal) = step.goal(
      x, teacher: phi,
      output: { state, times in
        #expect(times == indices.map { Float(1000 * schedule.previous[$0]) })
        return work.scaled(state, by: 0.5)
      }, in: work)
    let led = (0..<shape.count).map {
      x.doubles[$0] + (before[$0] - sigma[$0]) * phi.doubles[$0]
    }
    #expect(difference(previous, led) < 1e-14)
    #expect(
      difference(goal, (0..<shape.count).map { led[$0] * (1 + 0.5 * (end[$0] - before[$0])) })
        < 1e-14)
  }
  /// mean of √(e² + c²) - c, as a function of the velocity.
  @Test func consistencyLoss() {
    let work = Workspace()
    let step = ConsistencyDistillation(schedule, indices: [3, 26, 49], phases: 2, huberC: 0.1)
    let (x, v) = (randomTensor(shape, seed: 4), randomTensor(shape, seed: 5))
    let goal = randomTensor(shape, seed: 6)
    func loss(_ v: Tensor) -> Double {
      let p = step.prediction(x, output: v, in: work).doubles
      return zip(p, goal.doubles).reduce(0) {
        let e = $1.0 - $1.1
        return $0 + ((e * e + 0.01).squareRoot() - 0.1) / Double(shape.count)
      }
    }
    let (found, d) = step.loss(step.prediction(x, output: v, in: work), goal: goal, in: work)
    #expect(abs(found - loss(v)) < 1e-14)
    let u = randomTensor(shape, seed: 7)
    let numeric = directionalDerivative(v.doubles, along: u.doubles) { loss(Tensor($0, shape)) }
    let analytic = work.dot(step.predictionBackward(d, in: work), u)
    #expect(abs(analytic - numeric) < 1e-9 * (1 + abs(numeric)), "\(analytic), \(numeric)")
  }
}
