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

  struct Saved: SavedTensors {
    var conv1, conv2: GroupNorm.Saved, shortcut: Convolution.Saved?
    let embedding: Linear.Saved
    var temporal: [GroupNorm.Saved]
    mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      conv1.forEachTensor(body)
      conv2.forEachTensor(body)
      shortcut.forEachTensor(body)
      temporal.forEachTensor(body)
    }
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
    var (h, c1) = conv1.forward(x, after: norm1, in: work)
    let (e, es) = embedding.forward(active, in: work)
    work.addToPlanes(e, of: &h)
    let (side, ss) = shortcut?.forward(x, in: work) ?? (x, nil)
    let (middle, c2) = conv2.forward(h, after: norm2, adding: side, in: work)
    var y = middle
    var saved: [GroupNorm.Saved] = []
    for (i, layer) in temporal.enumerated() {
      let (z, s) = layer.forward(y, adding: i == 3 ? middle : nil, in: work)
      saved.append(s)
      y = z
    }
    return (y, Saved(conv1: c1, conv2: c2, shortcut: ss, embedding: es, temporal: saved))
  }
  /// The result alone.
  func callAsFunction(_ x: Tensor, _ active: Tensor, in work: borrowing Workspace) -> Tensor {
    var h = conv1.forward(x, after: norm1, in: work).y
    work.addToPlanes(embedding(active, in: work), of: &h)
    let side = shortcut?.forward(x, in: work).y ?? x
    let middle = conv2.forward(h, after: norm2, adding: side, in: work).y
    h = middle
    for (i, layer) in temporal.enumerated() {
      h = layer.forward(h, adding: i == 3 ? middle : nil, in: work).y
    }
    return h
  }
  func run(_ x: Tensor, _ active: Tensor, keeping: Keeping, in work: borrowing Workspace) -> (
    Tensor, Kept<Saved, Tensor>
  ) {
    keeping.run(x, in: work) {
      forward($0, active, in: work)
    } plain: {
      self($0, active, in: work)
    }
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
    let dh = conv2.backward(dMiddle, s.conv2, after: &norm2, in: work)
    let de = work.planeSums(dh)
    if dActive != nil {
      embedding.backward(de, s.embedding, addingTo: &dActive!, in: work)
    } else {
      embedding.backwardParameters(de, s.embedding, in: work)
    }
    guard let saved = s.shortcut else {
      return conv1.backward(dh, s.conv1, after: &norm1, adding: dMiddle, in: work)
    }
    var dx = conv1.backward(dh, s.conv1, after: &norm1, in: work)
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
    y: Tensor, saved: GroupNorm.Saved
  ) { conv.forward(x, after: norm, adding: side, in: work) }
  mutating func backward(
    _ dy: Tensor, _ saved: GroupNorm.Saved, adding side: Tensor?, in work: borrowing Workspace
  ) -> Tensor { conv.backward(dy, saved, after: &norm, adding: side, in: work) }
  mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try norm.forEachParameter(body)
    try conv.forEachParameter(body)
  }
}
