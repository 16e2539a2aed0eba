import Diffusion
import Layers
import Models
import PostTraining
import TensorRuntime
import TestSupport
import Testing

/// GRPO on a small flow, in double.
@Suite struct GRPOTests {
  private static var config: TransformerConfig {
    var c = TransformerConfig()
    (
      c.inChannels, c.outChannels, c.numAttentionHeads, c.attentionHeadDim, c.numLayers,
      c.numSingleLayers, c.numRefinerLayers, c.mlpRatio
    ) = (2, 2, 2, 8, 1, 1, 1, 2)
    (c.textEmbedDim, c.pooledProjectionDim, c.ropeAxesDim, c.guidanceEmbeds) = (
      5, 4, [4, 2, 2], false
    )
    return c
  }
  private static let policy = GRPO.Policy(steps: 5, shift: 3, eta: 0.4)
  private static func model(_ seed: UInt64) throws -> VideoTransformer {
    try VideoTransformer(config, from: noisySource(seed: seed))
  }
  private static func noise(_ k: Int, _ rows: Int = 4) -> Tensor {
    randomTensor(Shape(rows, 2, 2, 4, 2), seed: 40 + UInt64(k))
  }
  /// Prompts `ids`, one a row.
  private static func prompt(_ ids: [Int], in work: borrowing Workspace) -> PromptEmbedding {
    let states = randomTensor(Shape(3, 3, 5), seed: 11)
    let pooled = randomTensor(Shape(3, 4), seed: 12)
    return PromptEmbedding(
      states: work.stacked(ids.map { states[row: $0] }), counts: ids.map { [3, 2, 3][$0] },
      pooled: work.stacked(ids.map { pooled[row: $0] }))
  }
  private static func difference(_ a: Tensor, _ b: Tensor) -> Double {
    zip(a.doubles, b.doubles).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  /// Before the window the rollout takes Euler steps; it departs where the window begins, and takes
  /// them again behind it.
  @Test func stepsOutsideTheWindowFollowTheODE() throws {
    let work = Workspace()
    let m = try Self.model(13)
    let start = Self.noise(0)
    let prompt = Self.prompt([0, 1, 0, 1], in: work)
    let run = GRPO.rollout(
      m, Self.policy, initial: start, prompt: prompt, window: 2..<4,
      noise: { k, _ in Self.noise(k + 1) }, in: work)
    // Euler steps at the whole network times of algorithm.md 9.2.
    var path = [start]
    for k in 0..<3 {
      let v = m(
        path[k], times: Array(repeating: Self.policy.time(k), count: 4), prompt, guidance: nil, in: work)
      path.append(work.combine(1, path[k], Self.policy.sigmas[k + 1] - Self.policy.sigmas[k], v))
    }
    #expect(run.states.count == 3 && run.logProbabilities.count == 2)
    #expect(Self.difference(run.states[0], path[2]) < 1e-12)
    #expect(Self.difference(run.states[1], path[3]) > 1e-2)
    // Behind the window: the Euler steps from where it ended.
    let v = m(
      run.states[2], times: Array(repeating: Self.policy.time(4), count: 4), prompt, guidance: nil, in: work
    )
    #expect(Self.difference(run.clean, work.combine(1, run.states[2], -Self.policy.sigmas[4], v)) < 1e-12)
  }
  /// Fewer steps behind the window go over the same levels, to the same end.
  @Test(arguments: [(1, [4, 5]), (2, [2, 4, 5]), (3, [2, 3, 4, 5])]) func tails(
    _ tail: Int, _ levels: [Int]
  ) throws {
    let work = Workspace()
    let m = try Self.model(13)
    let prompt = Self.prompt([0, 1, 0, 1], in: work)
    var policy = Self.policy
    policy.tail = tail
    let start = levels[0] == 4 ? 3..<4 : 1..<2
    let run = GRPO.rollout(
      m, policy, initial: Self.noise(0), prompt: prompt, window: start,
      noise: { k, _ in Self.noise(k + 1) }, in: work)
    var z = run.states.last!
    for (k, next) in zip(levels, levels.dropFirst()) {
      z = work.combine(
        1, z, Self.policy.sigmas[next] - Self.policy.sigmas[k],
        m(z, times: Array(repeating: Self.policy.time(k), count: 4), prompt, guidance: nil, in: work))
    }
    #expect(Self.policy.sigmas[5] == 0 && Self.difference(run.clean, z) < 1e-12)
  }
  /// Members that start alike share the steps before the window, and get the same as alone.
  @Test func sharedStarts() throws {
    let work = Workspace()
    let m = try Self.model(13)
    let start = Self.noise(0, 2)
    let each = work.stacked([0, 0, 1, 1].map { start[row: $0] })
    let prompt = Self.prompt([0, 0, 1, 1], in: work)
    let alone = GRPO.rollout(
      m, Self.policy, initial: each, prompt: prompt, window: 2..<4,
      noise: { k, _ in Self.noise(k + 1) }, in: work)
    let shared = GRPO.rollout(
      m, Self.policy, initial: start, prompt: prompt, window: 2..<4,
      shared: .init(prompt: Self.prompt([0, 1], in: work), members: 2),
      noise: { k, _ in Self.noise(k + 1) }, in: work)
    for (a, b) in zip(alone.states + [alone.clean], shared.states + [shared.clean]) {
      #expect(Self.difference(a, b) < 1e-12)
    }
  }
  /// Transitions of different levels in one pass give the losses and gradients of one at a time.
  @Test func onePassIsOneByOne() throws {
    let work = Workspace()
    let run = GRPO.rollout(
      try Self.model(13), Self.policy, initial: Self.noise(0),
      prompt: Self.prompt([0, 1, 0, 1], in: work), noise: { k, _ in Self.noise(k + 1) }, in: work)
    let transitions = [(0, 0), (3, 2), (1, 3), (2, 1), (0, 3)].map {
      GRPO.Transition(sample: $0, step: $1, advantages: [Double($0) - 1.3, 0.4])
    }
    var options = GRPO.Options(coefficients: [1, 0.5])
    (options.clip, options.divergence, options.scale) = (0.3, 0.7, 0.2)
    var whole = try Self.model(14)
    var single = whole
    whole.makeTrainable(in: work)
    single.makeTrainable(in: work)
    let teacher = try Self.model(15)
    let ids = { (t: GRPO.Transition) in t.sample % 2 }
    let all = GRPO.train(
      &whole, Self.policy, run, transitions, prompt: Self.prompt(transitions.map(ids), in: work),
      teacher: teacher, options, in: work)
    let each = transitions.flatMap {
      GRPO.train(
        &single, Self.policy, run, [$0], prompt: Self.prompt([ids($0)], in: work), teacher: teacher,
        options, in: work)
    }
    for (a, b) in zip(all, each) {
      #expect(abs(a.loss - b.loss) < 1e-10 && abs(a.ratio - b.ratio) < 1e-10 && a.divergence > 0)
    }
    for (a, b) in zip(whole.trainableParameters(), single.trainableParameters()) {
      #expect(Self.difference(a.gradient!, b.gradient!) < 1e-9, "\(a.name)")
    }
  }
  /// The gradient of clipped terms and of the divergence together, along random directions.
  @Test(arguments: [0.0, 0.8]) func gradients(_ divergence: Double) throws {
    let work = Workspace()
    let run = GRPO.rollout(
      try Self.model(13), Self.policy, initial: Self.noise(0),
      prompt: Self.prompt([0, 1, 0, 1], in: work), noise: { k, _ in Self.noise(k + 1) }, in: work)
    let transitions = [(0, 0), (3, 2), (1, 3)].map {
      GRPO.Transition(sample: $0, step: $1, advantages: [Double($0) - 1.3])
    }
    var options = GRPO.Options(coefficients: [1])
    // A range so wide that no direction leaves it: the kinks have no derivative.
    (options.clip, options.divergence) = (0.999, divergence)
    let prompt = Self.prompt([0, 1, 1], in: work)
    let teacher = try Self.model(15)
    let base = try Self.model(13)
    func loss(_ model: VideoTransformer) -> (Double, VideoTransformer) {
      var m = model
      m.makeTrainable(in: work)
      return (
        GRPO.train(
          &m, Self.policy, run, transitions, prompt: prompt, teacher: teacher, options, in: work
        ).reduce(0) { $0 + $1.loss }, m
      )
    }
    let trained = loss(base).1
    for (k, p) in trained.trainableParameters().enumerated() where k % 3 == 0 {
      let u = randomTensor(p.value.shape, seed: 900 + UInt64(k))
      let analytic = work.dot(p.gradient!, u)
      let h = 1e-4
      func at(_ t: Double) -> Double {
        var moved = base
        moved.forEachParameter { q in
          if q.name == p.name { q.value = work.combine(1, q.value, t, u) }
        }
        return loss(moved).0
      }
      let numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
      #expect(
        abs(analytic - numeric) <= 1e-5
          * (1e-3 + abs(numeric) + work.sumOfSquares(p.gradient!).squareRoot()),
        "\(p.name): \(analytic), \(numeric)")
    }
  }
}
