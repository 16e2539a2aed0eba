import Layers
import TensorRuntime

/// Two convolutions of each frame with the embedding between them, then four convolutions over
/// neighbouring frames (videocrafter.md 2.6). x `[B, C, T, H, W]`, active = SiLU(emb) `[B, 4 mc]`.
struct UNetResidualBlock: Layer {
  var norm1: GroupNorm, conv1: Convolution
  var embedding: Linear
  var norm2: GroupNorm, conv2: Convolution
  var shortcut: Convolution?
  var temporal: [TemporalConvolution]

  struct Saved: Sendable {
    let norm1: GroupNorm.Saved, conv1: Convolution.Saved
    let embedding: Linear.Saved
    let norm2: GroupNorm.Saved, conv2: Convolution.Saved
    let shortcut: Convolution.Saved?
    let temporal: [TemporalConvolution.Saved]
  }

  init(
    _ name: String, _ input: Int, _ output: Int, _ c: VideoUNetConfig, from source: ParameterSource
  ) throws {
    func norm(_ part: String, _ width: Int) throws -> GroupNorm {
      try GroupNorm(
        "\(name).\(part)", width, groups: c.normNumGroups, epsilon: 1e-5, silu: true,
        eachFrame: true, from: source)
    }
    norm1 = try norm("in_layers.0", input)
    conv1 = try .image("\(name).in_layers.2", input, output, kernel: 3, from: source)
    embedding = try Linear("\(name).emb_layers.1", c.embeddingWidth, output, from: source)
    norm2 = try norm("out_layers.0", output)
    conv2 = try .image(
      "\(name).out_layers.3", output, output, kernel: 3, initial: .zeros, from: source)
    if input != output {
      shortcut = try .image("\(name).skip_connection", input, output, kernel: 1, from: source)
    }
    temporal = try (1...4).map {
      try TemporalConvolution("\(name).temopral_conv", $0, output, c, from: source)
    }
  }

  func forward(_ x: Tensor, _ active: Tensor, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    var (h, n1, c1) = conv1.forward(x, after: norm1, in: work)
    let (e, es) = embedding.forward(active, in: work)
    work.addToPlanes(e, of: &h)
    let (side, ss) = shortcut?.forward(x, in: work) ?? (x, nil)
    let (middle, n2, c2) = conv2.forward(h, after: norm2, adding: side, in: work)
    var y = middle
    var saved: [TemporalConvolution.Saved] = []
    for (i, layer) in temporal.enumerated() {
      let (z, s) = layer.forward(y, adding: i == 3 ? middle : nil, in: work)
      saved.append(s)
      y = z
    }
    return (
      y,
      Saved(
        norm1: n1, conv1: c1, embedding: es, norm2: n2, conv2: c2, shortcut: ss, temporal: saved)
    )
  }
  /// Adds the gradient of `active` to `dActive` if it is wanted.
  mutating func backward(
    _ dy: Tensor, _ s: Saved, addingTo dActive: inout Tensor?, in work: borrowing Workspace
  ) -> Tensor {
    var dMiddle = dy
    for i in temporal.indices.reversed() {
      dMiddle = temporal[i].backward(
        dMiddle, s.temporal[i], adding: i == 0 ? dy : nil, in: work)
    }
    let dh = norm2.backward(conv2.backward(dMiddle, s.conv2, in: work), s.norm2, in: work)
    let de = work.planeSums(dh)
    if dActive != nil {
      embedding.backward(de, s.embedding, addingTo: &dActive!, in: work)
    } else {
      embedding.backwardParameters(de, s.embedding, in: work)
    }
    guard let saved = s.shortcut else {
      return norm1.backward(
        conv1.backward(dh, s.conv1, in: work), s.norm1, adding: dMiddle, in: work)
    }
    var dx = norm1.backward(conv1.backward(dh, s.conv1, in: work), s.norm1, in: work)
    work.add(shortcut!.backward(dMiddle, saved, in: work), to: &dx)
    return dx
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try norm1.forEachParameter(body)
    try conv1.forEachParameter(body)
    try embedding.forEachParameter(body)
    try norm2.forEachParameter(body)
    try conv2.forEachParameter(body)
    try shortcut.forEachParameter(body)
    try temporal.forEachParameter(body)
  }
  mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows {
    try conv1.asAdaptable(body)
    try embedding.asAdaptable(body)
    try conv2.asAdaptable(body)
    try shortcut?.asAdaptable(body)
    for i in temporal.indices { try temporal[i].conv.asAdaptable(body) }
  }
}

/// Conv(SiLU(GN(x))) over three neighbouring frames; the norm is of the whole clip.
struct TemporalConvolution: Layer {
  var norm: GroupNorm
  var conv: Convolution

  struct Saved: Sendable { let norm: GroupNorm.Saved, conv: Convolution.Saved }

  /// Number `i` of the four; a dropout lies before the convolutions of all but the first.
  init(
    _ name: String, _ i: Int, _ width: Int, _ c: VideoUNetConfig, from source: ParameterSource
  ) throws {
    norm = try GroupNorm(
      "\(name).conv\(i).0", width, groups: c.normNumGroups, epsilon: 1e-5, silu: true, from: source)
    conv = try Convolution(
      "\(name).conv\(i).\(i == 1 ? 2 : 3)", width, width, .temporal(kernel: 3),
      initial: i == 4 ? .zeros : nil, from: source)
  }
  func forward(_ x: Tensor, adding side: Tensor?, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let (y, ns, cs) = conv.forward(x, after: norm, adding: side, in: work)
    return (y, Saved(norm: ns, conv: cs))
  }
  mutating func backward(
    _ dy: Tensor, _ s: Saved, adding side: Tensor?, in work: borrowing Workspace
  ) -> Tensor {
    norm.backward(conv.backward(dy, s.conv, in: work), s.norm, adding: side, in: work)
  }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try norm.forEachParameter(body)
    try conv.forEachParameter(body)
  }
}
