import Diffusion
import TensorRuntime
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// The stochastic step of GRPO (algorithm.md 9.1): mean and deviation from the score, the density
/// as the normal's, gradients by finite differences, and the property the step exists for: it keeps
/// the flow's marginals.
@Suite struct StochasticStepTests {
  private let levels: [(sigma: Double, next: Double, eta: Double)] = [
    (0.95, 0.7, 0.3), (0.5, 0.45, 1.1), (0.08, 0, 0.6),
  ]
  private var steps: StochasticSteps {
    StochasticSteps(levels.map { StochasticStep(sigma: $0.sigma, next: $0.next, eta: $0.eta) })
  }
  private let shape = Shape(3, 2, 3)
  private let weights = [0.7, -1.3, 2.1]

  /// μ = z + Δ v - ½ η² score Δ with score = -(z - (1-σ) x̂₀)/σ², x̂₀ = z - σ v; s = η √-Δ.
  @Test func meanAndDeviationFromTheScore() {
    let work = Workspace()
    let z = randomTensor(shape, seed: 1)
    let v = randomTensor(shape, seed: 2)
    let noise = randomTensor(shape, seed: 3)
    let mean = steps.mean(z, velocity: v, in: work)
    let next = steps.sample(mean, noise: noise, in: work)
    var worst = (mean: 0.0, next: 0.0)
    for i in 0..<shape.count {
      let l = levels[i / 6]
      let delta = l.next - l.sigma
      let clean = z.doubles[i] - l.sigma * v.doubles[i]
      let score = -(z.doubles[i] - (1 - l.sigma) * clean) / (l.sigma * l.sigma)
      let mu = z.doubles[i] + delta * v.doubles[i] - 0.5 * l.eta * l.eta * score * delta
      let expected = mu + l.eta * (-delta).squareRoot() * noise.doubles[i]
      worst.mean = max(worst.mean, abs(mean.doubles[i] - mu))
      worst.next = max(worst.next, abs(next.doubles[i] - expected))
    }
    #expect(worst.mean < 1e-12 && worst.next < 1e-12)
  }

  /// Data N(m, d²) in one dimension: x_σ = σ ε + (1-σ) z has mean (1-σ) m and variance σ² + (1-σ)²
  /// d², and the exact velocity is linear in x. One step must give the moments of the next level up
  /// to the square of its length.
  @Test(arguments: [0.2, 0.6, 0.9], [0.3, 1.0]) func theFlowsMarginalsAreKept(
    _ sigma: Double, _ eta: Double
  ) {
    let work = Workspace()
    let (m, d2) = (0.8, 0.25)
    func variance(_ s: Double) -> Double { s * s + (1 - s) * (1 - s) * d2 }
    // E[ε - z | x] = -m + (cov(ε - z, x) / var x) (x - (1-σ) m).
    let slope = (sigma - (1 - sigma) * d2) / variance(sigma)
    let h = 1e-4
    let step = StochasticStep(sigma: sigma, next: sigma - h, eta: eta)
    func mean(_ x: Double) -> Double {
      let v = -m + slope * (x - (1 - sigma) * m)
      return StochasticSteps([step]).mean(
        Tensor([x], Shape(1, 1)), velocity: Tensor([v], Shape(1, 1)), in: work
      ).doubles[0]
    }
    // μ is linear: its slope carries the variance, its value at the mean the mean.
    let gain = mean(1) - mean(0)
    let found = gain * gain * variance(sigma) + step.deviation * step.deviation
    #expect(abs(found - variance(sigma - h)) < 20 * h * h)
    #expect(abs(mean((1 - sigma) * m) - (1 - sigma + h) * m) < 20 * h * h)
  }

  /// The mean over elements of the normal's log-density.
  @Test func logProbabilityIsTheNormals() {
    let work = Workspace()
    let next = randomTensor(shape, seed: 4)
    let mean = randomTensor(shape, seed: 5)
    let other = randomTensor(shape, seed: 6)
    let found = steps.logProbability(of: next, mean: mean, in: work)
    let divergence = steps.divergence(mean, from: other, in: work)
    for b in 0..<3 {
      let s = levels[b].eta * (levels[b].sigma - levels[b].next).squareRoot()
      let elements = b * 6..<(b + 1) * 6
      let logs = elements.map { i -> Double in
        let t = (next.doubles[i] - mean.doubles[i]) / s
        return log(exp(-t * t / 2) / (s * (2 * Double.pi).squareRoot()))
      }
      #expect(abs(found[b] - logs.reduce(0, +) / 6) < 1e-12 * (1 + abs(found[b])))
      let expected = elements.reduce(0.0) {
        let t = (mean.doubles[$1] - other.doubles[$1]) / s
        return $0 + t * t / 2 / 6
      }
      #expect(abs(divergence[b] - expected) < 1e-12 * (1 + expected))
    }
    #expect(steps.divergence(mean, from: mean, in: work) == [0, 0, 0])
  }

  /// Σ weights · log π and Σ weights · KL as functions of the velocity.
  @Test func gradientsWithRespectToTheVelocity() {
    let work = Workspace()
    let z = randomTensor(shape, seed: 7)
    let v = randomTensor(shape, seed: 8)
    let other = randomTensor(shape, seed: 10)
    let mean = steps.mean(z, velocity: v, in: work)
    let next = steps.sample(mean, noise: randomTensor(shape, seed: 9), in: work)
    func weighted(_ x: [Double]) -> Double { zip(weights, x).reduce(0) { $0 + $1.0 * $1.1 } }
    func check(_ gradient: Tensor, _ f: (Tensor) -> [Double]) {
      for seed in 11..<14 as Range<UInt64> {
        let u = randomTensor(shape, seed: seed)
        let numeric = directionalDerivative(v.doubles, along: u.doubles) {
          weighted(f(steps.mean(z, velocity: Tensor($0, shape), in: work)))
        }
        let analytic = work.dot(gradient, u)
        #expect(abs(analytic - numeric) < 1e-8 * (1 + abs(numeric)), "\(analytic), \(numeric)")
      }
    }
    check(steps.logProbabilityBackward(weights, next: next, mean: mean, in: work)) {
      steps.logProbability(of: next, mean: $0, in: work)
    }
    check(steps.divergenceBackward(weights, mean, from: other, in: work)) {
      steps.divergence($0, from: other, in: work)
    }
  }
}
