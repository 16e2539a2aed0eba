import Files
import Layers
import Models
import Rewards
import TensorRuntime
import TestSupport
import Testing
import Transport

extension GoldenTests {
  static let transportKinds: [String: Evaluator] = [
    "sinkhorn.balanced": { g in try entropic(g, .balanced) },
    "sinkhorn.unbalanced": { g in
      try entropic(
        g, .unbalanced(rhoSource: g.number("rho_source"), rhoTarget: g.number("rho_target")))
    },
    "ot.entropic_partial": { g in try entropic(g, .exactMass(g.number("mass"))) },
    "ot.partial_prior": { g in try partialPrior(g) },
    "reward.full": { g in try reward(g) },
  ]

  private static func entropic(_ g: GoldenCase, _ rule: MarginalRule) throws -> [String: Tensor] {
    let work = Workspace()
    let cost = try g.input("cost")
    let solver = EntropicTransport(rule, epsilon: g.number("epsilon"))
    let batched = cost.shape.rank == 3 ? cost : cost.reshaped(Shape([1] + cost.shape.dims))
    let h = batched.shape[0]
    let results = try solver.solveBatch(
      cost: batched, source: try g.input("a"), target: try g.input("b"), in: work)
    let lead = cost.shape.rank == 3 ? [h] : []
    func numbers(_ x: [Double]) -> Tensor { Tensor(x, Shape(lead)) }
    func stack(_ t: [Tensor]) -> Tensor { work.stacked(t).reshaped(Shape(lead + t[0].shape.dims)) }
    var out = [
      "output.plan": stack(results.map(\.plan)),
      "output.transport_cost": numbers(results.map(\.cost)),
      "output.objective": numbers(results.map(\.objective)),
      "output.log_u": stack(results.map(\.logU)), "output.log_v": stack(results.map(\.logV)),
    ]
    let dPlan = try g.gradOutput("plan")
    let dCost = try g.gradOutput("transport_cost")?.doubles
    let dObjective = try g.gradOutput("objective")?.doubles
    func upstream(_ i: Int) -> Tensor? { dPlan?.reshaped(batched.shape)[row: i] }
    func gradients(_ f: (Int) -> Tensor) -> Tensor { stack((0..<h).map(f)) }
    out["grad.input.cost"] = gradients {
      results[$0].gradient(
        plan: upstream($0), cost: dCost?[$0] ?? 0, objective: dObjective?[$0] ?? 0, in: work
      ).gradient
    }
    if dPlan != nil {
      out["grad_from.plan.input.cost"] = gradients {
        results[$0].gradient(plan: upstream($0), in: work).gradient
      }
    }
    if let dCost {
      out["grad_from.transport_cost.input.cost"] = gradients {
        results[$0].gradient(cost: dCost[$0], in: work).gradient
      }
    }
    if let dObjective {
      out["grad_from.objective.input.cost"] = gradients {
        results[$0].gradient(objective: dObjective[$0], in: work).gradient
      }
    }
    return out
  }

  private static func planOptions(_ g: GoldenCase) -> TokenTransport.Options {
    var o = TokenTransport.Options()
    o.gamma = g.config["temporal_weight"]?.number ?? o.gamma
    o.eta = g.config["spatial_weight"]?.number ?? o.eta
    o.epsilon = g.config["epsilon"]?.number ?? o.epsilon
    o.marginalExponent = g.config["mass"]?.number ?? o.marginalExponent
    o.maxIterations = g.config["max_iterations"]?.integer ?? o.maxIterations
    o.tolerance = g.config["tolerance"]?.number ?? o.tolerance
    return o
  }

  private static func partialPrior(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let queries = try g.input("queries")
    let attention = try g.input("attention")
    let rows = try g.input("lexical_rows").integers
    let (h, l, m) = (attention.shape[0], attention.shape[1], attention.shape[2])
    let transport = try TokenTransport(
      planOptions(g), patchesPerFrame: g.integer("patches_per_frame"))
    // keys [H, M, d] to [1, M, H d]
    let keys = work.permuted(try g.input("keys"), [1, 0, 2]).reshaped(Shape(1, m, queries.shape[1]))
    let lexical = (0..<l).map { rows.contains($0) ? UInt8(1) : 0 }
    let a = attention.reshaped(Shape(1, h, l, m))
    let plans = transport.plans(
      queries: queries.reshaped(Shape(1, l, queries.shape[1])), keys: keys, attention: a,
      lexical: lexical, details: true, in: work)
    func lexicalRows(_ t: Tensor) -> Tensor {
      work.gather(
        t.reshaped(Shape(h * l, m)), (0..<h).flatMap { head in rows.map { Int32(head * l + $0) } }
      ).reshaped(Shape(h, rows.count, m))
    }
    let fused = work.priorFusion(attention: a, prior: plans.plan, fused: lexical, epsilon: 1e-6)
    let dy = try g.gradOutput("fused")!.reshaped(a.shape)
    return [
      "output.cost": lexicalRows(plans.cost!), "output.plan": lexicalRows(plans.raw!),
      "output.prior": lexicalRows(plans.plan),
      "output.iterations": Tensor(plans.iterations.map { Int32($0) }, Shape(h)),
      "output.fused": fused.reshaped(attention.shape),
      "grad.input.attention": attentionGradient(dy, attention: a, y: fused, fused: lexical),
    ].mapValues { $0.count == attention.count ? $0.reshaped(attention.shape) : $0 }
  }
  /// Gradient of A itself (4.6): F / A where A is not clamped on fused rows, G on the others. The
  /// engine's kernel goes on to the logits; that it is this gradient through the softmax is checked
  /// here as well.
  private static func attentionGradient(_ dy: Tensor, attention: Tensor, y: Tensor, fused: [UInt8])
    -> Tensor
  {
    let (h, l, m) = (attention.shape[1], attention.shape[2], attention.shape[3])
    let g = dy.doubles
    let a = attention.doubles
    let f = y.doubles
    let logits = Workspace().priorFusionBackward(
      dy, attention: attention, y: y, fused: fused, epsilon: 1e-6
    ).doubles
    var out = g
    var worst = 0.0
    for r in 0..<h * l {
      let row = r * m..<(r + 1) * m
      if fused[r % l] != 0 {
        let mean = row.reduce(0.0) { $0 + g[$1] * f[$1] }
        for j in row { out[j] = a[j] >= 1e-6 ? f[j] * (g[j] - mean) / a[j] : 0 }
      }
      let mean = row.reduce(0.0) { $0 + out[$1] * a[$1] }
      for j in row { worst = max(worst, abs(a[j] * (out[j] - mean) - logits[j])) }
    }
    #expect(worst < 2e-6)
    return Tensor(out, attention.shape)
  }

  private static func reward(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let config: VideoTextConfig = try g.decode()
    let c = config.otMap
    let map = try NeuralMap(
      .init(input: c.inputDim, hidden: c.hiddenDim, output: c.outputDim), from: g.source())
    let model = try VideoTextModel(config, from: g.source())
    var out: [String: Tensor] = [:]
    var from: [String: Tensor] = [:]
    var recorder = PlanRecorder()
    let pixels = try g.input("pixels")
    let video = pixels.reshaped(Shape([1] + pixels.shape.dims))
    let ids = try g.input("input_ids").integers
    let mask =
      g.has("input.attention_mask") ? try g.input("attention_mask").integers : ids.map { _ in 1 }
    let row = zip(ids, mask).filter { $0.1 == 1 }.map { Int32($0.0) }
    for useTransport in [true, false] {
      var options = RewardOptions()
      options.useTransport = useTransport
      var reward = try RewardModel(
        model, tokenizer: nil, map: { map($0, in: $1) }, options: options)
      let captions = reward.captions(TokenBatch([row]), in: work)
      let (scores, saved) = reward.forward(video, captions, in: work)
      let prefix = useTransport ? "" : "vanilla_"
      out["output.\(prefix)quality"] = Tensor(scores.quality, Shape())
      out["output.\(prefix)semantic"] = Tensor(scores.semantic, Shape())
      for (name, q, s) in [("quality", 1.0, 0.0), ("semantic", 0.0, 1.0)] {
        guard let upstream = try g.gradOutput("\(prefix)\(name)")?.item else { continue }
        from["\(prefix)\(name)"] = reward.backward(
          dQuality: [q * upstream], dSemantic: [s * upstream], saved, in: work
        ).reshaped(pixels.shape)
      }
      let features = reward.videos(video, in: work)
      if useTransport {
        out["output.vision_feature"] = features.unit.reshaped(Shape(config.embedDim))
        out["output.text_feature"] = captions.unit.reshaped(Shape(config.embedDim))
        out["output.ot_text_feature"] = captions.mapped!.reshaped(Shape(config.embedDim))
        recorder = PlanRecorder()
        let every = reward.prior(lastLayer: true) { _, plans in
          recorder.iterations.append(plans.iterations)
        }
        let hidden = model.text.fusion(
          captions.hidden, captions.tokens, vision: features.tokens, prior: every, in: work
        ).hidden
        out["output.vtm_logits"] = model.matchingHead(
          VideoTextModel.cls(hidden, in: work), in: work
        ).reshaped(Shape(2))
        out["output.iterations"] = recorder.tensor(heads: config.textEncoder.numAttentionHeads)
      } else {
        let hidden = model.text.fusion(
          captions.hidden, captions.tokens, vision: features.tokens, in: work
        ).hidden
        out["output.vanilla_vtm_logits"] = model.matchingHead(
          VideoTextModel.cls(hidden, in: work), in: work
        ).reshaped(Shape(2))
      }
    }
    var total = work.zeros(pixels.shape)
    for name in from.keys.sorted() {
      work.add(from[name]!, to: &total)
      out["grad_from.\(name).input.pixels"] = from[name]!
    }
    out["grad.input.pixels"] = total
    return out
  }
}

func tokenPrior(_ g: GoldenCase, _ recorder: PlanRecorder) throws -> AttentionPrior {
  let transport = try TokenTransport(patchesPerFrame: g.integer("patches_per_frame"))
  return AttentionPrior { view, work in
    let plans = transport.plans(
      queries: view.queries, keys: view.keys, attention: view.attention, lexical: view.lexical,
      in: work)
    recorder.iterations.append(plans.iterations)
    return plans.plan
  }
}

extension GoldenTests {
  static let mapKinds: [String: Evaluator] = [
    "ot_map.forward": { g in
      let work = Workspace()
      let (i, h, o) = (g.integer("input_dim"), g.integer("hidden_dim"), g.integer("output_dim"))
      var map = try NeuralMap(.init(input: i, hidden: h, output: o), from: g.source(prefix: "T."))
      let fHidden = try g.weight("f.net.0.weight").shape[0]
      var potential = try NeuralMap(
        .init(input: o, hidden: fHidden, output: 1), from: g.source(prefix: "f."))
      map.makeTrainable(in: work)
      potential.makeTrainable(in: work)
      let (y, ms) = map.forward(try g.input("x"), in: work)
      let (f, fs) = potential.forward(y, in: work)
      var dy = potential.backward(try g.gradOutput("potential")!.reshaped(f.shape), fs, in: work)
      if let d = try g.gradOutput("mapped") { work.add(d, to: &dy) }
      let dx = map.backward(dy, ms, in: work)
      return g.gradients(of: map, prefix: "T.").merging(g.gradients(of: potential, prefix: "f.")) {
        a, _ in a
      }
      .merging([
        "output.mapped": y, "output.potential": f.reshaped(Shape(f.count)), "grad.input.x": dx,
      ]) { a, _ in a }
    },
    "ot_map.train": { g in try trainMap(g) },
  ]

  private static func trainMap(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let d = g.integer("input_dim")
    let steps = g.integer("steps")
    let inner = g.integer("T_iters")
    var o = NeuralMapTrainer.Options()
    (o.mapIterations, o.mseWeight, o.maxSteps) = (
      inner, g.number("mse_weight"), g.integer("max_steps")
    )
    (o.mapLearningRate, o.potentialLearningRate, o.weightDecay, o.clipping) = (
      g.number("lr_T"), g.number("lr_f"), g.number("weight_decay"), g.number("grad_clip")
    )
    let map = try NeuralMap(
      .init(input: d, hidden: g.integer("hidden_dim"), output: g.integer("output_dim")),
      from: g.source(prefix: "T."))
    let potential = try NeuralMap(
      .init(input: g.integer("output_dim"), hidden: g.integer("f_hidden_dim"), output: 1),
      from: g.source(prefix: "f."))
    var trainer = NeuralMapTrainer(o, map: map, potential: potential, in: work)
    let text = try g.input("text")
    let video = try g.input("video")
    let valText = try g.input("val_text")
    let valVideo = try g.input("val_video")
    var out: [String: Tensor] = [:]
    var records: [NeuralMapTrainer.Record] = []
    for step in 0..<steps {
      let batches = text[row: step]
      records.append(
        try trainer.outerStep(
          text: { batches[row: $0] }, pair: { (batches[row: inner], video[row: step]) }, in: work))
      trainer.map.readParameters { out["output.step\(step + 1).T.\($0.name)"] = $0.value }
      trainer.potential.readParameters { out["output.step\(step + 1).f.\($0.name)"] = $0.value }
    }
    func series(_ f: (NeuralMapTrainer.Record) -> Double) -> Tensor {
      Tensor(records.map(f), Shape(steps))
    }
    out["output.T_loss"] = series(\.mapLoss)
    out["output.mse"] = series(\.mse)
    out["output.critic_score"] = series(\.criticScore)
    out["output.f_loss"] = series(\.potentialLoss)
    out["output.T_grad_norm"] = series(\.mapGradientNorm)
    out["output.f_grad_norm"] = series(\.potentialGradientNorm)
    out["output.lr_T"] = series(\.mapLearningRate)
    out["output.lr_f"] = series(\.potentialLearningRate)
    let mapped = trainer.map(valText, in: work)
    let k = g.integer("knn_k")
    out["output.mapped_val_text"] = mapped
    out["output.mknn_before"] = Tensor(
      scalar: Float(OTMapMetrics.mutualNeighbours(valText, valVideo, k: k, in: work)))
    out["output.mknn_after"] = Tensor(
      scalar: Float(OTMapMetrics.mutualNeighbours(mapped, valVideo, k: k, in: work)))
    out["output.spearman"] = Tensor(
      scalar: Float(OTMapMetrics.structurePreservation(valText, mapped, in: work)))
    return out
  }
}
