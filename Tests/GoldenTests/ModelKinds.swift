import Diffusion
import Files
import Layers
import Models
import TensorRuntime
import TestSupport
import Transport

extension GoldenTests {
  static let modelKinds: [String: Evaluator] = [
    "wordpiece": { g in try wordPiece(g) },
    "bert.text": { g in try bertText(g) },
    "bert.fusion_vtm": { g in try bertFusion(g) },
    "internvideo2.pos_embed": { g in
      let work = Workspace()
      if g.string("operation") == "sincos" {
        return [
          "output.pos_embed": PositionTable.sineCosine(
            width: g.integer("d_model"), frames: g.integer("frames"), side: g.integer("side"))
        ]
      }
      let table = PositionTable.interpolated(
        try g.input("pos_embed"), fromSide: g.integer("from_side"),
        toFrames: g.integer("to_frames"), toSide: g.integer("to_side"), in: work)
      return ["output.pos_embed": table]
    },
    "internvideo2.vision": { g in try vision(g) },
    "hunyuan.transformer": { g in try transformer(g) },
    "hunyuan.vae_decode": { g in try decode(g) },
    "hunyuan.vae_encode": { g in try encode(g) },
    "flow.sample": { g in try flowSample(g) },
  ]

  private static func wordPiece(_ g: GoldenCase) throws -> [String: Tensor] {
    let lines = try TextFile.lines("\(g.path)/\(g.string("vocab")!)")
    let tokenizer = try WordPieceTokenizer(vocabulary: lines)
    let texts = try JSONValue(contentsOf: "\(g.path)/case.json")["strings"]?.object
    let captions = texts?["texts"]?.array ?? texts?.members.first?.value.array ?? []
    let length = g.integer("max_length")
    let rows = captions.map { tokenizer.encode($0.string!, maxLength: length) }
    let ids = rows.flatMap { $0 + Array(repeating: 0, count: length - $0.count) }
    let mask = rows.flatMap { row in (0..<length).map { Int32($0 < row.count ? 1 : 0) } }
    let shape = Shape(rows.count, length)
    return ["output.input_ids": Tensor(ids, shape), "output.attention_mask": Tensor(mask, shape)]
  }

  /// Rows of ids with mask 1, padded again to the case's length.
  static func tokens(_ g: GoldenCase) throws -> TokenBatch {
    let ids = try g.input("input_ids")
    let mask = try g.input("attention_mask").integers
    let l = ids.shape[1]
    let all = ids.integers
    let counts = (0..<ids.shape[0]).map { b in mask[b * l..<(b + 1) * l].reduce(0, +) }
    let special = Set(
      g.config["special_tokens"]?.array?.map { Int32($0.integer!) } ?? [101, 102, 0])
    return TokenBatch(
      counts.enumerated().map { b, n in all[b * l..<b * l + n].map { Int32($0) } }, length: l,
      special: special)
  }

  private static func bertText(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    var config: TextEncoderConfig = try g.decode(g.config["text_encoder"]!)
    config.numHiddenLayers = config.fusionLayer
    var encoder = try TextEncoder(config, from: g.source())
    var projection =
      try g.has("weight.text_proj.weight")
      ? Linear("text_proj", config.hiddenSize, g.integer("embed_dim"), from: g.source()) : nil
    encoder.makeTrainable(in: work)
    projection.makeTrainable(in: work)
    let batch = try tokens(g)
    let (hidden, saved) = encoder.text(batch, in: work)
    var out = ["output.hidden": hidden]
    var dHidden = try g.gradOutput("hidden") ?? work.zeros(hidden.shape)
    if projection != nil {
      let cls = work.narrowed(hidden, axis: 1, 0..<1).reshaped(
        Shape(batch.batch, config.hiddenSize))
      let (y, ps) = projection!.forward(cls, in: work)
      out["output.projected"] = y
      out["output.feature"] = L2Normalize.forward(y, in: work).y
      if let dy = try g.gradOutput("projected") {
        work.place(
          projection!.backward(dy, ps, in: work).reshaped(Shape(batch.batch, 1, config.hiddenSize)),
          into: &dHidden, axis: 1, at: 0, accumulate: true)
      }
    }
    encoder.textBackward(dHidden, saved, in: work)
    return out.merging(g.gradients(of: encoder)) { a, _ in a }.merging(g.gradients(of: projection))
    { a, _ in a }
  }

  private static func bertFusion(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: TextEncoderConfig = try g.decode(g.config["text_encoder"]!)
    var encoder = try TextEncoder(config, from: g.source())
    var head = try Linear("itm_head", config.hiddenSize, 2, from: g.source())
    encoder.makeTrainable(in: work) { name in g.has("grad.weight.\(name)") }
    head.makeTrainable(in: work)
    let batch = try tokens(g)
    let recorder = PlanRecorder()
    let prior = g.config["partial_ot"]?.bool == true ? try tokenPrior(g, recorder) : nil
    let (fused, saved) = encoder.fusion(
      try g.input("text_embeds"), batch, vision: try g.input("vision_embeds"), prior: prior,
      in: work)
    let cls = work.narrowed(fused, axis: 1, 0..<1).reshaped(Shape(batch.batch, config.hiddenSize))
    let (logits, hs) = head.forward(cls, in: work)
    let p = MatchProbability.forward(logits)
    var dFused = try g.gradOutput("fused") ?? work.zeros(fused.shape)
    if let dScore = try g.gradOutput("score") {
      let d = head.backward(MatchProbability.backward(dScore.doubles, p, type: .f32), hs, in: work)
      work.place(
        d.reshaped(Shape(batch.batch, 1, config.hiddenSize)), into: &dFused, axis: 1, at: 0,
        accumulate: true)
    }
    let (dText, dVision) = encoder.fusionBackward(dFused, saved, in: work)
    var out: [String: Tensor] = [
      "output.fused": fused, "output.vtm_logits": logits,
      "output.score": Tensor(p.map { Float($0) }, Shape(p.count)), "grad.input.text_embeds": dText!,
      "grad.input.vision_embeds": dVision,
    ]
    if !recorder.iterations.isEmpty {
      out["output.iterations"] = recorder.tensor(heads: config.numAttentionHeads)
    }
    return out.merging(g.gradients(of: encoder)) { a, _ in a }.merging(g.gradients(of: head)) {
      a, _ in a
    }
  }

  private static func vision(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: VideoEncoderConfig = try g.decode(g.config["vision_encoder"]!)
    var encoder = try VideoEncoder(config, embedDim: g.integer("embed_dim"), from: g.source())
    encoder.makeTrainable(in: work)
    // One odd case in two recomputes its blocks, so that both paths are held to the reference.
    let (out, saved) = encoder.forward(
      try g.input("pixels"), checkpointing: config.depth > 1, in: work)
    let dx = encoder.backward(
      dTokens: try g.gradOutput("tokens"), dProjected: try g.gradOutput("projected"), saved,
      in: work)
    var all = g.gradients(of: encoder)
    all["output.tokens"] = out.tokens
    all["output.pooled"] = out.pooled
    all["output.projected"] = out.projected
    all["output.feature"] = L2Normalize.forward(out.projected, in: work).y
    all["grad.input.pixels"] = dx
    return all
  }

  static func prompt(_ g: GoldenCase) throws -> PromptEmbedding {
    let mask = try g.input("encoder_attention_mask")
    let l = mask.shape[1]
    let m = mask.integers
    return PromptEmbedding(
      states: try g.input("encoder_hidden_states"),
      counts: (0..<mask.shape[0]).map { b in Int32(m[b * l..<(b + 1) * l].reduce(0, +)) },
      pooled: try g.input("pooled_projections"))
  }
  private static func transformer(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: TransformerConfig = try g.decode()
    var model = try VideoTransformer(config, from: g.source())
    model.makeTrainable(in: work)
    let guidance = g.has("input.guidance") ? try g.input("guidance").floats : nil
    let (v, saved) = model.forward(
      try g.input("hidden_states"), times: try g.input("timestep").floats, try prompt(g),
      guidance: guidance, keeping: config.numLayers > 1 ? .inputs : .all, in: work)
    let d = model.backward(try g.gradOutput("velocity")!, saved, wantsLatents: true, in: work)
    var all = g.gradients(of: model)
    all["output.velocity"] = v
    all["grad.input.hidden_states"] = d.latents
    all["grad.input.encoder_hidden_states"] = d.states
    all["grad.input.pooled_projections"] = d.pooled
    return all
  }
  private static func flowSample(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: TransformerConfig = try g.decode(g.config["transformer"]!)
    let model = try VideoTransformer(config, from: g.source())
    let sampler = FlowSampler(
      steps: g.integer("steps"), shift: g.number("shift"), embeddedGuidance: g.number("guidance"))
    var trajectory: [Tensor] = []
    let x = sampler.sample(
      model, noise: try g.input("noise"), try prompt(g), unconditional: nil,
      stepNoise: { _, _ in preconditionFailure("a flow's steps add no noise") }, in: work
    ) { _, state in trajectory.append(state) }
    let sigmas = sampler.sigmas
    return [
      "output.latents": x, "output.trajectory": work.stacked(trajectory),
      "output.sigmas": Tensor(sigmas.map { Float($0) }, Shape(sigmas.count)),
      "output.timesteps": Tensor(
        sigmas.dropLast().map { Float(1000 * $0) }, Shape(sigmas.count - 1)),
    ]
  }

  private static func decode(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: AutoencoderConfig = try g.decode()
    var decoder = try AutoencoderDecoder(config, from: g.source())
    decoder.makeTrainable(in: work)
    let z = try g.input("latents")
    let tiling = try Tiling(g.config["tiling"])
    let (video, saved) = decoder.forward(
      z, tiling: tiling, checkpointing: config.blockOutChannels.last! > 4, in: work)
    let dz = decoder.backward(try g.gradOutput("video")!, saved, in: work)
    return g.gradients(of: decoder).merging(["output.video": video, "grad.input.latents": dz]) {
      a, _ in a
    }
  }
  private static func encode(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: AutoencoderConfig = try g.decode()
    var encoder = try AutoencoderEncoder(config, from: g.source())
    encoder.makeTrainable(in: work)
    let (moments, saved) = encoder.forward(
      try g.input("video"), tiling: try Tiling(g.config["tiling"]), in: work)
    let dx = encoder.backward(try g.gradOutput("moments")!, saved, in: work)
    let posterior = LatentPosterior(moments, in: work)
    var all = g.gradients(of: encoder)
    all["output.moments"] = moments
    all["output.mean"] = posterior.mean
    all["output.std"] = posterior.deviation(in: work)
    all["grad.input.video"] = dx
    return all
  }
}
