import Diffusion
import Files
import Layers
import Models
import Pipelines
import PostTraining
import Rewards
import TensorRuntime
import TestSupport
import Transport

extension GoldenTests {
  static let postTrainingKinds: [String: Evaluator] = [
    "cd.step": { g in try consistencyStep(g) },
    "grpo.step": { g in
      switch g.string("mode") {
      case "density": try density(g)
      case "rollout": try rollout(g)
      default: try singleStep(g)
      }
    },
  ]

  private static func prompt(_ g: GoldenCase, _ prefix: String) throws -> PromptEmbedding {
    let mask = try g.input("\(prefix)_mask")
    let m = mask.integers
    let l = mask.shape[1]
    let counts = (0..<mask.shape[0]).map { b in Int32(m[b * l..<(b + 1) * l].reduce(0, +)) }
    return PromptEmbedding(
      states: try g.input("\(prefix)_embeds"), counts: counts,
      pooled: try g.input("\(prefix)_pooled"))
  }
  /// `count` copies of a single prompt.
  private static func repeated(_ p: PromptEmbedding, _ count: Int, in work: borrowing Workspace)
    -> PromptEmbedding
  {
    func copies(_ t: Tensor) -> Tensor { work.repeated(t[row: 0], count) }
    return PromptEmbedding(
      states: copies(p.states), counts: Array(repeating: p.counts[0], count: count),
      pooled: p.pooled.map(copies))
  }

  /// Noise of a group `[K, ...]`: one for each member, or one `[1, ...]` for all.
  private static func groupNoise(_ g: GoldenCase, _ k: Int, in work: borrowing Workspace) throws
    -> Tensor
  {
    let noise = try g.input("noise")
    return noise.shape[0] == k ? noise : work.repeated(noise[row: 0], k)
  }

  private static func consistencyStep(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: TransformerConfig = try g.decode(g.config["transformer"]!)
    let teacher = try VideoTransformer(config, from: g.source(prefix: "teacher."))
    var student: VideoTransformer
    if let lora = g.config["lora"], let rank = lora["rank"]?.integer {
      student = teacher
      try student.attachAdapters(
        targets: lora["targets"]!.array!.map { $0.string! }, rank: rank,
        alpha: lora["alpha"]!.number!, from: g.source(prefix: "student."), in: work)
    } else {
      student = try VideoTransformer(config, from: g.source(prefix: "student."))
      student.makeTrainable(in: work)
    }
    let target =
      g.config["use_ema"]?.bool == true
      ? try VideoTransformer(config, from: g.source(prefix: "ema.")) : nil
    var o = DirectStep.Options()
    (o.phases, o.huberC, o.accumulation) = (
      g.integer("phases"), g.number("huber_c"), g.integer("accumulation")
    )
    (o.consistencyWeight, o.qualityWeight, o.semanticWeight) = (
      g.number("weight_consistency"), g.number("weight_quality"), g.number("weight_semantic")
    )
    (o.studentGuidance, o.teacherGuidance) = (
      g.number("guidance_student"), g.number("guidance_teacher")
    )
    o.teacherGuidanceWeight = g.config["apply_cfg"]?.bool == true ? g.number("cfg_weight") : nil
    let schedule = NoiseSchedule(
      shift: g.number("shift"), trainingSteps: g.integer("train_timesteps"),
      steps: g.integer("euler_steps"))
    let rewarded = o.qualityWeight > 0 || o.semanticWeight > 0
    var reward = try rewarded ? rewardModel(g) : nil
    let vae: AutoencoderConfig = rewarded ? try g.decode(g.config["vae"]!) : AutoencoderConfig()
    var captions: CaptionBatch?
    if rewarded {
      let ids = try g.input("caption_ids").integers
      let mask = try g.input("caption_mask").integers
      captions = reward!.captions(
        TokenBatch([zip(ids, mask).filter { $0.1 == 1 }.map { Int32($0.0) }]), in: work)
    }
    let z = work.scaled(try g.input("latents"), by: g.number("scaling_factor"))
    let batch = DirectStep.Batch(
      latents: z, noise: try g.input("noise"), indices: try g.input("index").integers,
      prompt: try prompt(g, "text"),
      unconditional: g.has("input.uncond_embeds") ? try prompt(g, "uncond") : nil,
      captions: captions)
    let step = DirectStep(schedule, o)
    let out: DirectStep.Output
    if rewarded {
      var decoder = LatentDecoder(
        .clips(try AutoencoderDecoder(vae, from: g.source(prefix: "vae."))),
        scalingFactor: g.number("scaling_factor"))
      out = step.run(
        student: &student, teacher: teacher, target: target, decoder: &decoder, reward: &reward,
        batch, in: work)
    } else {
      // No reward: the decoder is never run, any will do.
      var small = AutoencoderConfig()
      (small.blockOutChannels, small.normNumGroups, small.latentChannels) = ([2, 2, 2, 2], 1, 2)
      var decoder = LatentDecoder(
        .clips(try AutoencoderDecoder(small, from: .random(seed: 1))), scalingFactor: 1)
      out = step.run(
        student: &student, teacher: teacher, target: target, decoder: &decoder, reward: &reward,
        batch, in: work)
    }
    var all = g.gradients(of: student, prefix: "student.")
    func number(_ x: Double?) -> Tensor? { x.map { Tensor(scalar: Float($0)) } }
    all["output.noisy"] = out.noisy
    all["output.velocity"] = out.output
    all["output.prediction"] = out.prediction
    all["output.x_prev"] = out.previous
    all["output.target"] = out.target
    all["output.clean"] = out.clean
    all["output.frames"] = out.frames.map { $0[row: 0] }
    all["output.quality"] = number(out.scores.quality.first)
    all["output.semantic"] = number(out.scores.semantic.first)
    all["output.loss"] = number(out.loss)
    all["output.loss_consistency"] = number(out.consistencyLoss)
    all["output.loss_quality"] = number(out.qualityLoss)
    all["output.loss_semantic"] = number(out.semanticLoss)
    return all
  }
  static func rewardModel(_ g: GoldenCase) throws -> RewardModel {
    let config: VideoTextConfig = try g.decode(g.config["reward"]!)
    let c = config.otMap
    let map = try NeuralMap(
      .init(input: c.inputDim, hidden: c.hiddenDim, output: c.outputDim),
      from: g.source(prefix: "ot_map."))
    var options = RewardOptions()
    options.useTransport = g.config["use_ot"]?.bool ?? true
    return try RewardModel(
      try VideoTextModel(config, from: g.source(prefix: "reward.")), tokenizer: nil,
      map: { map($0, in: $1) }, options: options)
  }

  private static func density(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let z = try g.input("latents")
    let single = StochasticStep(
      sigma: g.number("sigma"), next: g.number("sigma_next"), eta: g.number("eta"))
    let step = StochasticSteps(repeating: single, count: z.shape[0])
    let v = try g.input("velocity")
    let mean = step.mean(z, velocity: v, in: work)
    let next = step.sample(mean, noise: try g.input("noise"), in: work)
    let log = step.logProbability(of: next, mean: mean, in: work)
    return [
      "output.clean": step.clean(z, velocity: v, in: work), "output.mean": mean,
      "output.next": next, "output.std": Tensor(scalar: Float(single.deviation)),
      "output.log_prob": Tensor(log, Shape(log.count)),
      "grad.input.velocity": step.logProbabilityBackward(
        try g.gradOutput("log_prob")!.doubles, next: next, mean: mean, in: work),
    ]
  }

  static func rollout(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: TransformerConfig = try g.decode(g.config["transformer"]!)
    let k = g.integer("generations")
    let s = g.integer("steps")
    let old = try VideoTransformer(config, from: g.source(prefix: "old."))
    var student = try VideoTransformer(config, from: g.source(prefix: "student."))
    student.makeTrainable(in: work)
    let policy = GRPO.Policy(
      steps: s, shift: g.number("shift"), eta: g.number("eta"), guidance: g.number("guidance"))
    let single = try prompt(g, "text")
    let group = repeated(single, k, in: work)
    let noise = work.permuted(try g.input("sde_noise"), [1, 0, 2, 3, 4, 5])
    let run = GRPO.rollout(
      old, policy, initial: try groupNoise(g, k, in: work), prompt: group,
      noise: { k, _ in noise[row: k] }, in: work)
    let aq = GRPO.advantages(try g.input("reward_quality").doubles)
    let asem = GRPO.advantages(try g.input("reward_semantic").doubles)
    let coefficients = [g.number("coef_quality"), g.number("coef_semantic")]
    let kept = GRPO.bestAndWorst(
      zip(aq, asem).map { coefficients[0] * $0 + coefficients[1] * $1 }, keep: g.integer("best_of"))
    let count = Int(Double(s - 1) * g.number("timestep_fraction"))
    let order = try g.input("permutations").integers
    let transitions = kept.enumerated().flatMap { i, sample in
      (0..<count).map {
        GRPO.Transition(
          sample: sample, step: order[i * (s - 1) + $0], advantages: [aq[sample], asem[sample]])
      }
    }
    var options = GRPO.Options(coefficients: coefficients)
    (options.clip, options.advantageClip, options.scale) = (
      g.number("clip"), g.number("advantage_clip"), 1 / Double(g.integer("accumulation") * count)
    )
    let terms = GRPO.train(
      &student, policy, run, transitions, prompt: repeated(single, transitions.count, in: work),
      options, in: work)
    let loss = terms.reduce(0) { $0 + $1.loss }
    let news = terms.map(\.newLogProbability)
    let ratios = terms.map(\.ratio)
    var all = g.gradients(of: student, prefix: "student.")
    func vector(_ x: [Double]) -> Tensor { Tensor(x, Shape(x.count)) }
    all["output.states"] = work.permuted(work.stacked(run.states), [1, 0, 2, 3, 4, 5])
    all["output.log_probs"] = work.permuted(
      Tensor(run.logProbabilities.flatMap { $0 }, Shape(s, k)), [1, 0])
    all["output.clean"] = run.clean
    all["output.sigmas"] = vector(policy.sigmas)
    all["output.timesteps"] = vector((0..<s).map { Double(policy.time($0)) })
    all["output.advantage_quality"] = vector(aq)
    all["output.advantage_semantic"] = vector(asem)
    all["output.kept"] = Tensor(kept.map { Int32($0) }, Shape(kept.count))
    all["output.new_log_probs"] = vector(news)
    all["output.ratios"] = vector(ratios)
    all["output.loss"] = Tensor(scalar: Float(loss))
    return all
  }

  private static func singleStep(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: TransformerConfig = try g.decode(g.config["transformer"]!)
    let k = g.integer("generations")
    let old = try VideoTransformer(config, from: g.source(prefix: "old."))
    let teacher = try VideoTransformer(config, from: g.source(prefix: "teacher."))
    var student = try VideoTransformer(config, from: g.source(prefix: "student."))
    student.makeTrainable(in: work)
    var o = SingleStepGRPO.Options()
    (o.phases, o.huberC, o.accumulation) = (
      g.integer("phases"), g.number("huber_c"), g.integer("accumulation")
    )
    (o.consistencyWeight, o.rewardWeight, o.eta, o.clip, o.advantageClip) = (
      g.number("weight_consistency"), g.number("weight_reward"), g.number("eta"), g.number("clip"),
      g.number("advantage_clip")
    )
    (o.studentGuidance, o.teacherGuidance) = (
      g.number("guidance_student"), g.number("guidance_teacher")
    )
    let step = SingleStepGRPO(
      NoiseSchedule(shift: g.number("shift"), steps: g.integer("euler_steps")), o)
    let z = work.scaled(try g.input("latents"), by: g.number("scaling_factor"))
    let rewards = [try g.input("reward_quality").doubles, try g.input("reward_semantic").doubles]
    let out = step.run(
      student: &student, old: old, teacher: teacher,
      .init(
        latents: z, noise: try groupNoise(g, k, in: work), stepNoise: try g.input("sde_noise"),
        index: try g.input("index").integers[0], prompt: try prompt(g, "text")),
      score: { _, _ in rewards }, in: work)
    var all = g.gradients(of: student, prefix: "student.")
    func vector(_ x: [Double]) -> Tensor { Tensor(x, Shape(x.count)) }
    all["output.clean"] = out.clean
    all["output.next"] = out.next
    all["output.old_log_prob"] = vector(out.old)
    all["output.new_log_prob"] = vector(out.new)
    all["output.ratio"] = vector(out.ratios)
    all["output.advantage_quality"] = vector(out.advantages[0])
    all["output.advantage_semantic"] = vector(out.advantages[1])
    all["output.loss_consistency"] = vector(out.consistencyLosses)
    all["output.loss_quality"] = vector(out.rewardLosses[0])
    all["output.loss_semantic"] = vector(out.rewardLosses[1])
    all["output.loss"] = Tensor(scalar: Float(out.loss))
    return all
  }
}
