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

/// VideoCrafter2's network, its samplers and its distillation (videocrafter.md 2, 6, 7, 8).
extension GoldenTests {
  static let shortVideoKinds: [String: Evaluator] = [
    "videocrafter.unet": { g in try unet(g) },
    "videocrafter.ddim_sample": { g in try ddim(g) },
    "videocrafter.lcm_sample": { g in try fewSteps(g) },
    "videocrafter.lcd_step": { g in try distillation(g) },
  ]

  private static func scales(_ g: GoldenCase, _ name: String) throws -> [Double]? {
    g.has("input.\(name)") ? try g.input(name).doubles : nil
  }
  private static func unet(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: VideoUNetConfig = try g.decode()
    var model = try VideoUNet(config, from: g.source())
    model.makeTrainable(in: work)
    let condition = VideoUNet.Condition(
      text: try g.input("text_embeds"), fps: try g.input("fps").floats,
      guidance: try scales(g, "guidance_scale"), motion: try scales(g, "motion_scale"))
    // Some cases recompute their parts, so that both paths are held to the reference.
    let (noise, saved) = model.forward(
      try g.input("latents"), times: try g.input("timestep").floats, condition,
      keeping: config.channelMult.last! > 1 ? .inputs : .all, in: work)
    let d = model.backward(try g.gradOutput("noise")!, saved, wantsInputs: true, in: work)
    var all = g.gradients(of: model)
    all["output.noise"] = noise
    all["output.embedding"] = saved.vector
    all["grad.input.latents"] = d.latents
    all["grad.input.text_embeds"] = d.text
    return all
  }

  private static func schedule(_ g: GoldenCase) -> DiffusionSchedule {
    var p = DiffusionSchedule.Parameters()
    func number(_ key: String, _ value: inout Double) { value = g.config[key]?.number ?? value }
    number("linear_start", &p.linearStart)
    number("linear_end", &p.linearEnd)
    number("scale_a", &p.scaleA)
    number("scale_b", &p.scaleB)
    p.midStep = g.config["mid_step"]?.integer ?? p.midStep
    p.numTrainTimesteps = g.config["num_train_timesteps"]?.integer ?? p.numTrainTimesteps
    p.useScale = g.config["use_scale"]?.bool ?? p.useScale
    return DiffusionSchedule(p)
  }
  private static func prompt(_ g: GoldenCase, _ name: String) throws -> PromptEmbedding {
    let states = try g.input(name)
    var prompt = PromptEmbedding(
      states: states,
      counts: Array(repeating: Int32(states.shape[1]), count: states.shape[0]))
    prompt.framesPerSecond =
      g.has("input.fps") ? try g.input("fps").floats[0] : Float(g.number("fps"))
    return prompt
  }
  private static func model(_ g: GoldenCase, prefix: String = "") throws -> VideoUNet {
    try VideoUNet(try g.decode(g.config["unet"]!), from: g.source(prefix: prefix))
  }
  /// The states behind the steps; `work.stacked` of none has no shape.
  private static func stacked(_ list: [Tensor], in work: borrowing Workspace) -> Tensor? {
    list.isEmpty ? nil : work.stacked(list)
  }

  private static func ddim(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let sampler = DDIMSampler(
      schedule(g), steps: g.integer("steps"), eta: g.number("eta"),
      guidanceScale: g.number("guidance"))!
    let noise = g.has("input.step_noise") ? try g.input("step_noise") : nil
    var states: [Tensor] = []
    var clean: [Tensor] = []
    let x = sampler.sample(
      try model(g), noise: try g.input("noise"), try prompt(g, "text_embeds"),
      unconditional: g.has("input.uncond_embeds") ? try prompt(g, "uncond_embeds") : nil,
      stepNoise: { step, _ in noise![row: step] }, in: work,
      state: { _, state in states.append(state) }, clean: { clean.append($0) })
    func table(_ value: (Int) -> Double) -> Tensor {
      Tensor((0..<sampler.steps).map(value), Shape(sampler.steps))
    }
    var all = [
      "output.latents": x,
      "output.timesteps": Tensor(sampler.times.map { Int32($0) }, Shape(sampler.steps)),
      "output.alphas": table(sampler.alpha), "output.alphas_prev": table(sampler.previousAlpha),
      "output.sigmas": table(sampler.sigma), "output.scale": table(sampler.scale),
      "output.scale_prev": table(sampler.previousScale),
    ]
    all["output.trajectory"] = stacked(states, in: work)
    all["output.clean"] = stacked(clean, in: work)
    return all
  }

  private static func fewSteps(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    var sampler = ConsistencySampler(
      schedule(g), steps: g.integer("steps"), originSteps: g.integer("origin_steps"),
      guidance: g.number("guidance"))!
    sampler.motion = g.config["motion"]?.number ?? 0
    sampler.motionShare = g.config["percentage"]?.number ?? sampler.motionShare
    let noise = try g.input("step_noise")
    var states: [Tensor] = []
    var clean: [Tensor] = []
    let x = sampler.sample(
      try model(g), noise: try g.input("noise"), try prompt(g, "text_embeds"),
      stepNoise: { step, _ in noise[row: step] }, in: work,
      state: { _, state in states.append(state) }, clean: { clean.append($0) })
    var all = [
      "output.latents": x,
      "output.timesteps": Tensor(sampler.times.map { Int32($0) }, Shape(sampler.steps)),
    ]
    all["output.trajectory"] = stacked(states, in: work)
    all["output.clean"] = stacked(clean, in: work)
    return all
  }

  private static func distillation(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    var wide: VideoUNetConfig = try g.decode(g.config["unet"]!)
    var plain = wide
    plain.timeCondProjDim = nil
    let teacher = try VideoUNet(plain, from: g.source(prefix: "teacher."))
    var student: VideoUNet
    if let lora = g.config["lora"], let rank = lora["rank"]?.integer {
      // The teacher's weights with the student's projection.
      let (shared, own) = (g.source(prefix: "teacher."), g.source(prefix: "student."))
      student = try VideoUNet(
        wide,
        from: ParameterSource { name, shape, initial, _ in
          try (name.hasPrefix("time_cond_proj") ? own : shared)(name, shape, initial).value
        })
      try student.attachAdapters(
        targets: lora["targets"]?.string == "attention"
          ? VideoUNet.attentionTargets : VideoUNet.defaultTargets,
        rank: rank, alpha: lora["scale"]!.number! * Double(rank), from: own, in: work)
    } else {
      student = try VideoUNet(wide, from: g.source(prefix: "student."))
      student.makeTrainable(in: work)
    }
    wide = student.config
    let target =
      g.config["use_target"]?.bool == true
      ? try VideoUNet(wide, from: g.source(prefix: "target.")) : nil
    var o = DirectStep.Options()
    (o.huberC, o.accumulation) = (g.number("huber_c"), g.integer("accumulation"))
    (o.consistencyWeight, o.qualityWeight, o.semanticWeight) = (
      g.number("weight_consistency"), g.number("weight_quality"), g.number("weight_semantic")
    )
    let schedule = ConsistencySchedule(schedule(g), steps: g.integer("solver_steps"))
    let rewarded = o.qualityWeight > 0 || o.semanticWeight > 0
    var reward = try rewarded ? rewardModel(g) : nil
    var vae = ImageAutoencoderConfig()
    (vae.channels, vae.channelMult, vae.numResBlocks, vae.normNumGroups) = (2, [1], 1, 1)
    if rewarded { vae = try g.decode(g.config["vae"]!) }
    vae.scalingFactor = g.number("scaling_factor")
    var decoder = LatentDecoder(
      .frames(
        try ImageAutoencoderDecoder(
          vae, from: rewarded ? g.source(prefix: "vae.") : .random(seed: 1))),
      checkpointing: true)
    var captions: CaptionBatch?
    if rewarded {
      let ids = try g.input("caption_ids").integers
      let mask = try g.input("caption_mask").integers
      captions = reward!.captions(
        TokenBatch([zip(ids, mask).filter { $0.1 == 1 }.map { Int32($0.0) }]), in: work)
    }
    let z = work.scaled(try g.input("latents"), by: g.number("scaling_factor"))
    let frames = z.shape[2]
    let stride = max(1, frames / g.integer("reward_frames"))
    let batch = DirectStep.Batch(
      latents: z, noise: try g.input("noise"), indices: try g.input("index").integers,
      prompt: try prompt(g, "text_embeds"),
      unconditional: g.has("input.uncond_embeds") ? try prompt(g, "uncond_embeds") : nil,
      guidance: try g.input("guidance_scale").doubles, captions: captions,
      rewardFrames: rewarded
        ? (0..<g.integer("reward_frames")).map { g.integer("frame_offset") + $0 * stride } : nil)
    let out = DirectStep(schedule, o).run(
      student: &student, teacher: teacher, target: target, decoder: &decoder, reward: &reward,
      batch, in: work)
    var all = g.gradients(of: student, prefix: "student.")
    func number(_ x: Double?) -> Tensor? { x.map { Tensor(scalar: Float($0)) } }
    func times(_ list: [Int]) -> Tensor { Tensor(list.map { Int32($0) }, Shape(list.count)) }
    all["output.timesteps"] = times(batch.indices.map { schedule.timestep($0) })
    all["output.previous"] = times(batch.indices.map { schedule.previousTimestep($0) })
    all["output.noisy"] = out.noisy
    all["output.noise_prediction"] = out.output
    all["output.prediction"] = out.prediction ?? out.clean
    all["output.x_prev"] = out.previous
    all["output.target"] = out.target
    all["output.frames"] = out.frames.map { $0[row: 0] }
    all["output.quality"] = number(out.scores.quality.first)
    all["output.semantic"] = number(out.scores.semantic.first)
    all["output.loss"] = number(out.loss)
    all["output.loss_consistency"] = number(out.consistencyLoss)
    all["output.loss_quality"] = number(out.qualityLoss)
    all["output.loss_semantic"] = number(out.semanticLoss)
    return all
  }
}
