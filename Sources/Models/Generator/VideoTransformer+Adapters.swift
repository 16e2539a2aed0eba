public import Layers
public import TensorRuntime

/// Low-rank adapters on the attention and projection layers (algorithm.md 8).
extension VideoTransformer {
  /// The layers that the published recipe adapts, by diffusers' names. They match the last
  /// components of a module's name.
  public static let defaultTargets = [
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj",
    "attn.add_v_proj", "attn.to_add_out", "proj_mlp", "proj_out",
  ]
  /// Visits every linear layer of the double- and single-stream blocks.
  public mutating func forEachBlockLinear(_ body: (inout Linear) throws -> Void) rethrows {
    for i in double.indices {
      try double[i].image.forEachLinear(body)
      try double[i].text.forEachLinear(body)
    }
    for i in single.indices {
      try single[i].projection.forEachLinear(body)
      try body(&single[i].up)
      try body(&single[i].out)
    }
  }
  private static func module(_ l: Linear) -> String {
    String(l.weight.name.dropLast(".weight".count))
  }
  private static func matches(_ module: String, _ targets: [String]) -> Bool {
    targets.contains { module == $0 || module.hasSuffix(".\($0)") }
  }

  /// Freezes everything and adds trainable adapters to the block layers that match `targets`.
  /// Returns their number.
  @discardableResult
  public mutating func attachAdapters(
    targets: [String] = defaultTargets, rank: Int, alpha: Double, from source: ParameterSource,
    in work: borrowing Workspace
  ) throws -> Int {
    freeze()
    var count = 0
    try forEachBlockLinear { l in
      let module = Self.module(l)
      guard Self.matches(module, targets) else { return }
      var adapter = try LowRankAdapter(
        module, input: l.inputWidth, output: l.outputWidth, rank: rank, alpha: alpha, from: source)
      adapter.makeTrainable(in: work)
      l.adapter = adapter
      count += 1
    }
    return count
  }
  /// W ← W + s B A in every adapted layer; the adapters are removed.
  public mutating func mergeAdapters(in work: borrowing Workspace) {
    forEachBlockLinear { $0.mergeAdapter(in: work) }
  }
  /// The same network with every adapter's scale multiplied by `factor`.
  public func scalingAdapters(by factor: Double) -> VideoTransformer {
    var copy = self
    copy.forEachBlockLinear { $0.adapter?.scale *= factor }
    return copy
  }
  /// Only the adapters' parameters.
  public func adapterParameters() -> [Parameter] {
    var copy = self
    var list: [Parameter] = []
    copy.forEachBlockLinear { l in
      if let a = l.adapter { list += [a.a, a.b] }
    }
    return list
  }
}
extension StreamProjection {
  mutating func forEachLinear(_ body: (inout Linear) throws -> Void) rethrows {
    try body(&query)
    try body(&key)
    try body(&value)
  }
}
extension DoubleStreamBlock.Stream {
  mutating func forEachLinear(_ body: (inout Linear) throws -> Void) rethrows {
    try projection.forEachLinear(body)
    try body(&out)
    try body(&feedForward.up)
    try body(&feedForward.down)
  }
}
