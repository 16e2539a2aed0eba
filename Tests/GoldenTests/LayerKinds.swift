import Files
import Layers
import Models
import TensorRuntime
import TestSupport

extension GoldenTests {
  static let layerKinds: [String: Evaluator] = [
    "nn.linear": { g in
      let work = Workspace()
      let x = try g.input("x")
      let w = try g.weight("weight")
      var layer = try Linear("", w.shape[1], w.shape[0], bias: g.has("weight.bias"), from: g.bare)
      layer.makeTrainable(in: work)
      let (y, saved) = layer.forward(x, in: work)
      let dx = layer.backward(try g.gradOutput("y")!, saved, in: work)
      return g.bareGradients(of: layer).merging(["output.y": y, "grad.input.x": dx]) { a, _ in a }
    },
    "lora.linear": { g in
      let work = Workspace()
      let x = try g.input("x")
      let w = try g.weight("weight")
      var layer = try Linear("", w.shape[1], w.shape[0], bias: g.has("weight.bias"), from: g.bare)
      layer.adapter = try LowRankAdapter(
        "", weight: w.shape, rank: g.integer("rank"),
        alpha: g.number("alpha"), from: g.bare)
      layer.makeTrainable(in: work) { g.has("grad.weight.\($0.dropFirst())") }
      let (y, saved) = layer.forward(x, in: work)
      let dx = layer.backward(try g.gradOutput("y")!, saved, in: work)
      let gradients = g.bareGradients(of: layer)
      layer.mergeAdapter(in: work)
      return gradients.merging([
        "output.y": y, "grad.input.x": dx, "output.merged_weight": layer.weight.value,
      ]) { a, _ in a }
    },
    "nn.layernorm": { g in
      let work = Workspace()
      let x = try g.input("x")
      var layer =
        g.config["affine"]?.bool == false
        ? LayerNorm(epsilon: g.number("eps"))
        : try LayerNorm("", x.shape.last, epsilon: g.number("eps"), from: g.bare)
      layer.makeTrainable(in: work)
      let (y, saved) = layer.forward(x, in: work)
      let dx = layer.backward(try g.gradOutput("y")!, saved, in: work)
      return g.bareGradients(of: layer).merging(["output.y": y, "grad.input.x": dx]) { a, _ in a }
    },
    "nn.rmsnorm": { g in
      let work = Workspace()
      let x = try g.input("x")
      var layer = try RMSNorm("", x.shape.last, epsilon: g.number("eps"), from: g.bare)
      layer.makeTrainable(in: work)
      let (y, saved) = layer.forward(x, in: work)
      let dx = layer.backward(try g.gradOutput("y")!, saved, in: work)
      return g.bareGradients(of: layer).merging(["output.y": y, "grad.input.x": dx]) { a, _ in a }
    },
    "nn.groupnorm": { g in
      let work = Workspace()
      let x = try g.input("x")
      var layer = try GroupNorm(
        "", x.shape[1], groups: g.integer("groups"), epsilon: g.number("eps"), silu: false,
        from: g.bare)
      layer.makeTrainable(in: work)
      let (y, saved) = layer.forward(x, in: work)
      let dx = layer.backward(try g.gradOutput("y")!, saved, in: work)
      return g.bareGradients(of: layer).merging(["output.y": y, "grad.input.x": dx]) { a, _ in a }
    },
    "nn.gelu": { g in try activation(g, g.string("approximate") == "tanh" ? .geluTanh : .geluErf) },
    "nn.silu": { g in try activation(g, .silu) },
    "nn.softmax": { g in
      let work = Workspace()
      let y = work.softmax(try g.input("x"))
      return ["output.y": y, "grad.input.x": work.softmaxBackward(try g.gradOutput("y")!, y: y)]
    },
    "nn.attention": { g in try attention(g) },
    "nn.causal_conv3d": { g in
      let work = Workspace()
      let x = try g.input("x")
      let w = try g.weight("weight")
      let stride = g.config["stride"]!.array!.map { $0.integer! }
      var layer = try Convolution.causal(
        "", w.shape[1], w.shape[0], kernel: w.shape[2],
        stride: SIMD3(stride[0], stride[1], stride[2]), from: g.bare)
      layer.makeTrainable(in: work)
      let (y, saved) = layer.forward(x, in: work)
      let dx = layer.backward(try g.gradOutput("y")!, saved, in: work)
      return g.bareGradients(of: layer).merging(["output.y": y, "grad.input.x": dx]) { a, _ in a }
    },
    "nn.patch_embed": { g in
      let work = Workspace()
      let x = try g.input("x")
      let w = try g.weight("weight")
      var layer = try PatchEmbedding(
        "", channels: w.shape[1], width: w.shape[0],
        patch: SIMD3(w.shape[2], w.shape[3], w.shape[4]), from: g.bare)
      layer.makeTrainable(in: work)
      let (y, saved) = layer.forward(x, in: work)
      let dx = layer.backward(try g.gradOutput("y")!, saved, in: work)
      return g.bareGradients(of: layer).merging(["output.y": y, "grad.input.x": dx]) { a, _ in a }
    },
    "nn.resize_bicubic": { g in
      let work = Workspace()
      let x = try g.input("x")
      let s = x.shape
      let size = g.config["size"]!.array!.map { $0.integer! }
      let y = BicubicResampling.resize(
        x.reshaped(Shape(s[0] * s[1], s[2], s[3])), height: size[0], width: size[1], in: work)
      let dy = try g.gradOutput("y")!.reshaped(y.shape)
      let dx = BicubicResampling.resizeBackward(dy, height: s[2], width: s[3], in: work)
      return [
        "output.y": y.reshaped(Shape(s[0], s[1], size[0], size[1])), "grad.input.x": dx.reshaped(s),
      ]
    },
    "nn.rope3d": { g in
      let work = Workspace()
      let x = try g.input("x")
      let s = x.shape
      let axes = g.config["axes_dim"]!.array!.map { $0.integer! }
      let sizes = g.config["sizes"]!.array!.map { $0.integer! }
      let table = RotaryTable(
        grid: SIMD3(sizes[0], sizes[1], sizes[2]), axes: axes, theta: g.number("theta"), type: .f32)
      var y = x.reshaped(Shape(s[0], s[1], s[2] * s[3]))
      var dx = try g.gradOutput("y")!.reshaped(y.shape)
      work.rotate(&y, heads: s[2], cosines: table.cosines, sines: table.sines)
      work.rotate(&dx, heads: s[2], cosines: table.cosines, sines: table.sines, inverse: true)
      func pairs(_ t: Tensor) -> Tensor {
        Tensor(t.floats.flatMap { [$0, $0] }, Shape(t.shape[0], 2 * t.shape[1]))
      }
      return [
        "output.y": y.reshaped(s), "grad.input.x": dx.reshaped(s),
        "output.cos": pairs(table.cosines), "output.sin": pairs(table.sines),
      ]
    },
    "nn.timestep_embedding": { g in
      [
        "output.y": SinusoidalEmbedding.embed(
          try g.input("t").floats, width: g.integer("width"), type: .f32)
      ]
    },
    "nn.upsample_nearest3d": { g in
      let work = Workspace()
      let x = try g.input("x")
      let f = g.config["factor"]!.array!.map { $0.integer! }
      let factor = SIMD3(f[0], f[1], f[2])
      return [
        "output.y": work.upsample(x, factor),
        "grad.input.x": work.upsampleBackward(try g.gradOutput("y")!, input: x.shape, factor),
      ]
    },
    "optim.adamw": { g in try adamW(g) },
  ]

  private static func activation(_ g: GoldenCase, _ f: Activation) throws -> [String: Tensor] {
    let work = Workspace()
    let x = try g.input("x")
    return [
      "output.y": work.activation(f, x),
      "grad.input.x": work.activationBackward(f, try g.gradOutput("y")!, x: x),
    ]
  }

  /// q, k, v `[B, H, N, D]`. A prefix mask takes the streaming kernel; a bias, or any other mask,
  /// the explicit path.
  static func attention(_ g: GoldenCase) throws -> [String: Tensor] {
    let work = Workspace()
    let q = try g.input("q")
    let k = try g.input("k")
    let v = try g.input("v")
    let dy = try g.gradOutput("y")!
    let (b, h, n, d) = (q.shape[0], q.shape[1], q.shape[2], q.shape[3])
    let m = k.shape[2]
    let scale = 1 / Double(d).squareRoot()
    let mask: [[Int]]? =
      g.has("input.mask")
      ? try {
        let t = try g.input("mask").integers
        return (0..<b).map { Array(t[$0 * m..<($0 + 1) * m]) }
      }() : nil
    let bias = g.has("input.bias") ? try g.input("bias") : nil
    let isPrefix = mask?.allSatisfy { row in row == row.sorted(by: >) } ?? true
    if bias == nil && isPrefix {
      func merge(_ t: Tensor) -> Tensor {
        work.permuted(t, [0, 2, 1, 3]).reshaped(Shape(b, t.shape[2], h * d))
      }
      func split(_ t: Tensor) -> Tensor {
        work.permuted(t.reshaped(Shape(b, t.shape[1], h, d)), [0, 2, 1, 3])
      }
      let visible = Workspace.Visibility(keyCounts: mask?.map { Int32($0.reduce(0, +)) } ?? [])
      let (mq, mk, mv) = (merge(q), merge(k), merge(v))
      let (o, lse) = work.attention(q: mq, k: mk, v: mv, heads: h, scale: scale, visible: visible)
      let (dq, dk, dv) = work.attentionBackward(
        merge(dy), q: mq, k: mk, v: mv, o: o, lse: lse, heads: h, scale: scale, visible: visible)
      return [
        "output.y": split(o), "grad.input.q": split(dq), "grad.input.k": split(dk),
        "grad.input.v": split(dv),
      ]
    }
    func flat(_ t: Tensor) -> Tensor { t.reshaped(Shape(b * h, t.shape[2], d)) }
    let logits = work.batchedMatmul(flat(q), flat(k), transposeB: true, alpha: scale)
    let broadcast = Broadcast(bias?.shape ?? Shape(1, 1, 1, 1), to: [b, h, n, m])
    let rows = broadcast.sources.enumerated().map { i, source in
      let isSeen = mask.map { $0[i / (h * n * m)][i % m] == 1 } ?? true
      return isSeen ? bias.map { $0.floats[source] } ?? 0 : -Float.infinity
    }
    let a = work.softmax(logits, bias: Tensor(rows, Shape(b * h * n, m)), biasRepeat: 1)
    let o = work.batchedMatmul(a, flat(v))
    let dO = flat(dy)
    let ds = work.softmaxBackward(work.batchedMatmul(dO, flat(v), transposeB: true), y: a)
    var out = [
      "output.y": o.reshaped(q.shape),
      "grad.input.q": work.batchedMatmul(ds, flat(k), alpha: scale).reshaped(q.shape),
      "grad.input.k": work.batchedMatmul(ds, flat(q), transposeA: true, alpha: scale).reshaped(
        k.shape),
      "grad.input.v": work.batchedMatmul(a, dO, transposeA: true).reshaped(v.shape),
    ]
    if let bias {
      out["grad.input.bias"] = Tensor(broadcast.sums(ds.doubles), bias.shape, as: .f32)
    }
    return out
  }

  /// Which element of a small tensor every element of a larger shape reads, by the usual rule:
  /// missing leading axes and axes of extent 1 are repeated.
  private struct Broadcast {
    let sources: [Int], count: Int

    init(_ shape: Shape, to target: [Int]) {
      let small = Array(repeating: 1, count: target.count - shape.rank) + shape.dims
      count = shape.count
      sources = (0..<target.reduce(1, *)).map { index in
        var rest = index
        var source = 0
        var stride = 1
        for axis in target.indices.reversed() {
          if small[axis] > 1 { source += rest % target[axis] * stride }
          stride *= small[axis]
          rest /= target[axis]
        }
        return source
      }
    }
    /// The mirror: sums of what was read from each element.
    func sums(_ values: [Double]) -> [Double] {
      var sums = Array(repeating: 0.0, count: count)
      for (source, value) in zip(sources, values) { sums[source] += value }
      return sums
    }
  }

  private static func adamW(_ g: GoldenCase) throws -> [String: Tensor] {
    struct Bag: Layer {
      var parameters: [Parameter]
      mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
        for i in parameters.indices { try body(&parameters[i]) }
      }
    }
    let work = Workspace()
    let names = ["a", "b", "c"].filter { g.has("input.grad.\($0)") }
    var bag = Bag(
      parameters: try names.map {
        Parameter(
          $0,
          try g.has("input.\($0)")
            ? g.input($0) : g.has("weight.\($0)") ? g.weight($0) : g.input("param.\($0)"))
      })
    bag.makeTrainable(in: work)
    let betas = g.config["betas"]!.array!.map { $0.number! }
    var optimizer = AdamW(
      .init(
        beta1: betas[0], beta2: betas[1], epsilon: g.number("eps"),
        weightDecay: g.number("weight_decay")), for: bag, in: work)
    let emaDecay = g.config["ema_decay"]?.number
    var average = emaDecay.map { MovingAverage(decay: $0, of: bag, in: work) }
    let rates = g.config["lr"]!.array?.map { $0.number! }
    let maximum = g.config["max_grad_norm"]?.number ?? 0
    var out: [String: Tensor] = [:]
    for step in 0..<g.integer("steps") {
      for i in names.indices {
        bag.parameters[i].gradient = try g.input("grad.\(names[i])")[row: step]
      }
      average?.update(from: bag, in: work)
      let norm = bag.gradientNorm(in: work)
      optimizer.step(
        &bag, learningRate: rates?[step] ?? g.number("lr"),
        gradientScale: clippingFactor(norm: norm, maximum: maximum), in: work)
      out["output.step\(step + 1).grad_norm"] = Tensor(scalar: Float(norm))
      for i in names.indices {
        out["output.step\(step + 1).\(names[i])"] = bag.parameters[i].value
        if let average { out["output.step\(step + 1).ema.\(names[i])"] = average.values[i].value }
      }
    }
    return out
  }
}

extension GoldenCase {
  /// Weights of a layer case have no prefix; layers name theirs `.weight`, so the dot is dropped.
  var bare: ParameterSource { source(dropping: ".") }
  func bareGradients(of layer: some Layer) -> [String: Tensor] {
    var all: [String: Tensor] = [:]
    layer.readParameters {
      if let g = $0.gradient { all["grad.weight.\($0.name.dropFirst())"] = g }
    }
    return all
  }
}
