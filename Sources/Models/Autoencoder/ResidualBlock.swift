public import Layers
public import TensorRuntime

/// conv2(SiLU(GN(conv1(SiLU(GN(x)))))) + shortcut(x) (algorithm.md 6.14). Shapes `[B, C, T, H, W]`.
public struct ResidualBlock: Layer {
  public var norm1: GroupNorm
  public var conv1: Convolution
  public var norm2: GroupNorm
  public var conv2: Convolution
  public var shortcut: Convolution?

  public struct Saved: SavedTensors {
    var conv1, conv2: GroupNorm.Saved, shortcut: Convolution.Saved?
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      conv1.forEachTensor(body)
      conv2.forEachTensor(body)
      shortcut.forEachTensor(body)
    }
  }

  init(
    _ name: String, _ input: Int, _ output: Int, groups: Int, family: AutoencoderFamily,
    from source: ParameterSource
  ) throws {
    func norm(_ part: String, _ channels: Int) throws -> GroupNorm {
      try GroupNorm(
        "\(name).\(part)", channels, groups: groups, epsilon: 1e-6, silu: true, from: source)
    }
    func convolution(_ part: String, _ input: Int, kernel: Int) throws -> Convolution {
      try family.convolution("\(name).\(part)", input, output, kernel: kernel, from: source)
    }
    norm1 = try norm("norm1", input)
    conv1 = try convolution("conv1", input, kernel: 3)
    norm2 = try norm("norm2", output)
    conv2 = try convolution("conv2", output, kernel: 3)
    if input != output { shortcut = try convolution(family.shortcut, input, kernel: 1) }
  }
  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    let (h, c1) = conv1.forward(x, after: norm1, in: work)
    let (side, cs) = shortcut?.forward(x, in: work) ?? (x, nil)
    let (y, c2) = conv2.forward(h, after: norm2, adding: side, in: work)
    return (y, Saved(conv1: c1, conv2: c2, shortcut: cs))
  }
  public mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    // Intermediate gradients have no names: a name would keep their memory until its scope ends.
    guard let saved = s.shortcut else {
      return conv1.backward(
        conv2.backward(dy, s.conv2, after: &norm2, in: work), s.conv1, after: &norm1, adding: dy,
        in: work)
    }
    var dx = conv1.backward(
      conv2.backward(dy, s.conv2, after: &norm2, in: work), s.conv1, after: &norm1, in: work)
    work.add(shortcut!.backward(dy, saved, in: work), to: &dx)
    return dx
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try norm1.forEachParameter(body)
    try conv1.forEachParameter(body)
    try norm2.forEachParameter(body)
    try conv2.forEachParameter(body)
    try shortcut.forEachParameter(body)
  }
}

/// Single-head attention over all positions: x + out(Attention(GN(x))). A query sees the frames up
/// to its own.
public struct FrameCausalAttention: Layer {
  public var norm: GroupNorm
  public var query, key, value, out: Linear

  public struct Saved: Sendable {
    let norm: GroupNorm.Saved, query, key, value, out: Linear.Saved
    let q, k, v, o, lse: Tensor
    let shape: Shape
  }

  init(
    _ name: String, _ channels: Int, groups: Int, family: AutoencoderFamily,
    from source: ParameterSource
  ) throws {
    let parts = family.attention
    norm = try GroupNorm(
      "\(name).\(parts.norm)", channels, groups: groups, epsilon: 1e-6, silu: false, from: source)
    func linear(_ part: String) throws -> Linear {
      try Linear(
        "\(name).\(part)", channels, channels, cellAxes: family.cellAxes, from: source)
    }
    (query, key, value, out) = (
      try linear(parts.query), try linear(parts.key), try linear(parts.value),
      try linear(parts.out)
    )
  }
  var scale: Double { 1 / Double(query.outputWidth).squareRoot() }
  private func visible(_ s: Shape) -> Workspace.Visibility { .init(causalBlock: s[3] * s[4]) }

  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    let s = x.shape
    let (n, ns) = norm.forward(x, in: work)
    let tokens = work.permuted(n.reshaped(Shape(s[0], s[1], s.count / (s[0] * s[1]))), [0, 2, 1])
    let (q, qs) = query.forward(tokens, in: work)
    let (k, ks) = key.forward(tokens, in: work)
    let (v, vs) = value.forward(tokens, in: work)
    let (o, lse) = work.attention(q: q, k: k, v: v, heads: 1, scale: scale, visible: visible(s))
    let (r, os) = out.forward(o, in: work)
    var y = work.permuted(r, [0, 2, 1]).reshaped(s)
    work.add(x, to: &y)
    return (
      y,
      Saved(
        norm: ns, query: qs, key: ks, value: vs, out: os, q: q, k: k, v: v, o: o, lse: lse, shape: s
      )
    )
  }
  public mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    let dr = work.permuted(
      dy.reshaped(Shape(s.shape[0], s.shape[1], s.shape.count / (s.shape[0] * s.shape[1]))),
      [0, 2, 1])
    let dO = out.backward(dr, s.out, in: work)
    let (dq, dk, dv) = work.attentionBackward(
      dO, q: s.q, k: s.k, v: s.v, o: s.o, lse: s.lse, heads: 1, scale: scale,
      visible: visible(s.shape))
    var dTokens = query.backward(dq, s.query, in: work)
    work.add(key.backward(dk, s.key, in: work), to: &dTokens)
    work.add(value.backward(dv, s.value, in: work), to: &dTokens)
    return norm.backward(
      work.permuted(dTokens, [0, 2, 1]).reshaped(s.shape), s.norm, adding: dy, in: work)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try norm.forEachParameter(body)
    try query.forEachParameter(body)
    try key.forEachParameter(body)
    try value.forEachParameter(body)
    try out.forEachParameter(body)
  }
}

/// Residual block, attention, residual block.
public struct MiddleBlock: Layer {
  public var first: ResidualBlock
  public var attention: FrameCausalAttention?
  public var second: ResidualBlock

  public struct Saved: Sendable {
    let first: ResidualBlock.Saved, attention: FrameCausalAttention.Saved?,
      second: ResidualBlock.Saved
  }

  init(
    _ name: String, _ channels: Int, groups: Int, attends: Bool = true, family: AutoencoderFamily,
    from source: ParameterSource
  ) throws {
    let parts = family.middle
    func residual(_ part: String) throws -> ResidualBlock {
      try ResidualBlock(
        "\(name).\(part)", channels, channels, groups: groups, family: family, from: source)
    }
    first = try residual(parts.first)
    attention =
      attends
      ? try FrameCausalAttention(
        "\(name).\(parts.attention)", channels, groups: groups, family: family, from: source)
      : nil
    second = try residual(parts.second)
  }
  public func forward(_ x: Tensor, in work: borrowing Workspace) -> (y: Tensor, saved: Saved) {
    var (h, s1) = first.forward(x, in: work)
    var sa: FrameCausalAttention.Saved?
    if let attention { (h, sa) = attention.forward(h, in: work) }
    let (y, s2) = second.forward(h, in: work)
    return (y, Saved(first: s1, attention: sa, second: s2))
  }
  public mutating func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    var dh = second.backward(dy, s.second, in: work)
    if let sa = s.attention { dh = attention!.backward(dh, sa, in: work) }
    return first.backward(dh, s.first, in: work)
  }
  public mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
    try first.forEachParameter(body)
    try attention.forEachParameter(body)
    try second.forEachParameter(body)
  }
}
