import Diffusion
import Models
import TensorRuntime
import TestSupport
import Testing

/// Mixing, steps and sampling along the flow, in double (algorithm.md 7.1, 7.3, 7.8).
@Suite struct FlowTests {
  private let shape = Shape(3, 3, 2, 4, 4)
  private let levels = [0.9, 0.35, 0.02], next = [0.4, 0.3, 0]

  private func difference(_ a: Tensor, _ b: Tensor) -> Double {
    zip(a.doubles, b.doubles).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  /// x = σ ε + (1 - σ) z and x + (σ' - σ) v, element by element.
  @Test func eachSampleHasItsOwnLevel() {
    let work = Workspace()
    let z = randomTensor(shape, seed: 1)
    let noise = randomTensor(shape, seed: 2)
    let v = randomTensor(shape, seed: 3)
    let (a, b, c) = (z.doubles, noise.doubles, v.doubles)
    let level = a.indices.map { levels[$0 / (shape.count / 3)] }
    let below = a.indices.map { next[$0 / (shape.count / 3)] }
    let x = a.indices.map { level[$0] * b[$0] + (1 - level[$0]) * a[$0] }
    let y = a.indices.map { a[$0] + (below[$0] - level[$0]) * c[$0] }
    #expect(difference(work.noised(z, noise, sigmas: levels), Tensor(x, shape)) < 1e-14)
    let stepped = work.flowStep(z, velocity: v, from: levels, to: next)
    #expect(difference(stepped, Tensor(y, shape)) < 1e-14)
  }
  /// With v = ε - z the path is straight: a step from any level ends at the mixture of the other.
  @Test func theFlowOfOnePairIsStraight() {
    let work = Workspace()
    let z = randomTensor(shape, seed: 4)
    let noise = randomTensor(shape, seed: 5)
    let v = work.difference(noise, z)
    let from = work.noised(z, noise, sigmas: levels)
    let to = work.flowStep(from, velocity: v, from: levels, to: next)
    #expect(difference(to, work.noised(z, noise, sigmas: next)) < 1e-14)
    // The stochastic step's estimate of clean data is the same step down to 0.
    let steps = StochasticSteps(
      zip(levels, next).map { StochasticStep(sigma: $0, next: $1, eta: 0.3) })
    #expect(difference(steps.clean(from, velocity: v, in: work), z) < 1e-14)
  }
  /// The prediction at the end of a phase is the same from a level and from one Euler step further
  /// down if the velocity is the same (algorithm.md 14.6).
  @Test(arguments: [1, 4]) func predictionsOfAPhaseAgree(_ phases: Int) {
    let work = Workspace()
    let schedule = NoiseSchedule(shift: 3)
    let x = randomTensor(shape, seed: 6)
    let v = randomTensor(shape, seed: 7)
    let indices = [0, 20, 49]
    let sigma = indices.map { schedule.sigmas[$0] }
    let previous = indices.map { schedule.previous[$0] }
    let end = indices.map { schedule.endLevel($0, phases: phases) }
    #expect(
      zip(end, previous).allSatisfy { $0 <= $1 } && zip(previous, sigma).allSatisfy { $0 < $1 })
    let direct = work.flowStep(x, velocity: v, from: sigma, to: end)
    let before = work.flowStep(x, velocity: v, from: sigma, to: previous)
    #expect(
      difference(direct, work.flowStep(before, velocity: v, from: previous, to: end)) < 1e-13)
  }

  private func prompt(_ seed: UInt64) -> PromptEmbedding {
    PromptEmbedding(
      states: randomTensor(Shape(2, 4, 8), seed: seed), counts: [4, 2],
      pooled: randomTensor(Shape(2, 8), seed: seed + 1))
  }
  /// x ← x + (σ_{k+1} - σ_k) v at the network time 1000 σ_k, with v_u + s (v_c - v_u).
  @Test(arguments: [1.0, 2.5], [false, true])
  func eulerSteps(_ guidance: Double, _ embedsGuidance: Bool) throws {
    let work = Workspace()
    var config = SmallModels.transformer
    config.guidanceEmbeds = embedsGuidance
    let model = try VideoTransformer(config, from: noisySource(seed: 8))
    let sampler = FlowSampler(
      steps: 3, shift: 5, guidanceScale: guidance, embeddedGuidance: 4000)
    let noise = randomTensor(Shape(2, 3, 2, 4, 4), seed: 9)
    let (with, without) = (prompt(10), prompt(20))

    let u = [1, 2.0 / 3, 1.0 / 3, 0]
    let sigmas = u.map { Double(Float(5 * $0 / (1 + 4 * $0))) }
    let embedded: [Float]? = embedsGuidance ? [4000, 4000] : nil
    var x = noise.doubles
    var states: [[Double]] = []
    for k in 0..<3 {
      let times = [Float](repeating: Float(1000 * sigmas[k]), count: 2)
      let state = Tensor(x, noise.shape)
      let c = model(state, times: times, with, guidance: embedded, in: work).doubles
      let v = model(state, times: times, without, guidance: embedded, in: work).doubles
      for i in x.indices {
        let velocity = guidance == 1 ? c[i] : v[i] + guidance * (c[i] - v[i])
        x[i] += (sigmas[k + 1] - sigmas[k]) * velocity
      }
      states.append(x)
    }

    var seen: [Tensor] = []
    let found = sampler.sample(
      model, noise: noise, with, unconditional: without,
      stepNoise: { _, _ in preconditionFailure("a flow's steps add no noise") }, in: work,
      each: { step, state in
        #expect(step == seen.count)
        seen.append(state)
      })
    #expect(seen.count == 3 && difference(found, Tensor(x, noise.shape)) < 1e-12)
    for (a, b) in zip(seen, states) { #expect(difference(a, Tensor(b, noise.shape)) < 1e-12) }
    // Without an empty prompt, and at scale 1, the conditional velocity alone counts.
    let plain = FlowSampler(steps: 3, shift: 5, embeddedGuidance: 4000)
    let conditional = plain.sample(model, noise: noise, with, in: work)
    #expect((difference(found, conditional) < 1e-12) == (guidance == 1))
  }
}
