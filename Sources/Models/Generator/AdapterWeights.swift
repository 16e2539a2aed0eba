import Layers
public import TensorRuntime

/// The low-rank change of one layer: ΔW = s B A, with A `[r, in]`, B `[out, r]`; of a convolution A
/// `[r, in, k...]`, B `[out, r, 1...]`, which are multiplied as matrices (checkpoints.md 6).
public struct AdapterWeights: Sendable {
  /// Name of the adapted layer, without `.weight`.
  public var module: String
  public var a, b: Tensor
  /// α / r (or α / √r, rank-stabilised).
  public var scale: Double
  public init(module: String, a: Tensor, b: Tensor, scale: Double) {
    (self.module, self.a, self.b, self.scale) = (module, a, b, scale)
  }
  public var rank: Int { a.shape[0] }

  private func matrix(_ x: Tensor, _ rows: Int) -> Tensor {
    x.reshaped(Shape(rows, x.count / max(rows, 1)))
  }
  /// Whether the factors are those of a weight of this shape.
  public func fits(_ weight: Shape) -> Bool {
    weight.rank >= 2 && a.shape.rank >= 2 && rank > 0
      && b.shape.dims == [weight[0], rank] + b.shape.dims.dropFirst(2).map { _ in 1 }
      && a.shape.dims == [rank] + weight.dims.dropFirst()
  }

  /// W + s B A, in f32. The factors must fit the weight.
  public func merged(into weight: Tensor, in work: borrowing Workspace) -> Tensor {
    var w = work.copy(work.widened(weight))
    let delta = work.matmul(
      work.widened(matrix(b, b.shape[0])), work.widened(matrix(a, rank)), alpha: scale)
    work.add(delta.reshaped(w.shape), to: &w)
    return w
  }
  /// The same change with s = 1: B contains the factor.
  public func normalised(in work: borrowing Workspace) -> AdapterWeights {
    scale == 1
      ? self
      : AdapterWeights(module: module, a: a, b: work.scaled(work.widened(b), by: scale), scale: 1)
  }
}

extension TransformerLayouts {
  /// Adapters of one layout, converted to the other. The adapter of a fused layer is split: B by
  /// rows, A repeated. Several adapters are fused with one A if it is the same for all; otherwise
  /// their factors are joined side by side, and the rank is the sum of their ranks. Modules without
  /// a rule are returned unchanged.
  public func adapters(_ all: [AdapterWeights], to layout: Layout, in work: borrowing Workspace)
    -> [AdapterWeights]
  {
    let byName = Dictionary(all.map { ("\($0.module).weight", $0) }) { a, _ in a }
    var done: [AdapterWeights] = []
    let (steps, unknown) = steps(
      all.map { "\($0.module).weight" } + missingFirstParts(all, layout), to: layout)
    for step in steps {
      func module(_ i: Int) -> String { String(step.targets[i].dropLast(".weight".count)) }
      switch step.operation {
      case .rename, .swapHalves:
        let x = byName[step.sources[0]]!
        let b = step.operation == .rename ? x.b : work.swappedHalves(x.b)
        done.append(AdapterWeights(module: module(0), a: x.a, b: b, scale: x.scale))
      case .split:
        let x = byName[step.sources[0]]!
        for i in step.targets.indices {
          done.append(
            AdapterWeights(
              module: module(i), a: x.a, b: Self.target(i, of: step, [x.b], in: work),
              scale: x.scale))
        }
      case .join:
        let parts = step.sources.map { byName[$0] }
        done.append(fused(module(0), parts, in: work))
      }
    }
    return done + unknown.compactMap { byName[$0] }
  }
  /// The model's width D, taken from adapters: the input width of an attention projection, or the
  /// output width of a block's last layer.
  public static func width(of all: [AdapterWeights]) -> Int? {
    let takers = [
      "attn_qkv", "attn.qkv", "linear1", "attn_proj", "attn.to_q", "attn.to_k", "attn.to_v",
      "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_out.0", "attn.to_add_out",
      "proj_mlp", "fc1", "net.0.proj",
    ]
    let givers = ["linear2", "fc2", "net.2", "proj_out"]
    for x in all where takers.contains(where: { x.module.hasSuffix($0) }) { return x.a.shape[1] }
    for x in all where givers.contains(where: { x.module.hasSuffix($0) }) { return x.b.shape[0] }
    // Only names change: no part needs the width.
    return all.first?.a.shape[1]
  }
  /// Whether an adapter's rows can be split as the other layout requires.
  public func fits(_ x: AdapterWeights, to layout: Layout) -> Bool {
    steps(["\(x.module).weight"], to: layout).steps.allSatisfy { Self.fits($0, rows: x.b.shape[0]) }
  }
  /// First parts of fused layers whose later parts alone are adapted: a rule is found by its first
  /// part.
  private func missingFirstParts(_ all: [AdapterWeights], _ layout: Layout) -> [String] {
    guard layout == .original else { return [] }
    let present = Set(all.map { "\($0.module).weight" })
    var missing: [String] = []
    for name in present {
      for (part, first) in [
        ("to_k", "to_q"), ("to_v", "to_q"), ("add_k_proj", "add_q_proj"),
        ("add_v_proj", "add_q_proj"),
      ] {
        if name.hasSuffix("attn.\(part).weight") {
          missing.append(String(name.dropLast("\(part).weight".count)) + "\(first).weight")
        }
      }
      if name.hasPrefix("single_transformer_blocks."), name.hasSuffix(".proj_mlp.weight") {
        missing.append(String(name.dropLast("proj_mlp.weight".count)) + "attn.to_q.weight")
      }
    }
    return Set(missing).subtracting(present).sorted()
  }
  /// One adapter of a fused layer. A missing part of q, k or v changes nothing: its rows are zeros.
  private func fused(_ module: String, _ parts: [AdapterWeights?], in work: borrowing Workspace)
    -> AdapterWeights
  {
    let there = parts.compactMap { $0?.normalised(in: work) }
    let a = there.map { work.widened($0.a) }
    let isShared =
      there.dropFirst().allSatisfy { $0.rank == there[0].rank }
      && a.dropFirst().allSatisfy { $0.floats == a[0].floats }
    let rank = isShared ? a[0].shape[0] : a.reduce(0) { $0 + $1.shape[0] }
    var rows: [Tensor] = []
    var column = 0
    var next = 0
    for part in parts {
      guard part != nil else {
        // The height of a missing last part (proj_mlp) is unknown: it is the rest of linear1, four
        // widths in every published model.
        rows.append(work.zeros(Shape(rows.count == 3 ? 4 * width : width, rank)))
        continue
      }
      let b = work.widened(there[next].b)
      var wide = work.zeros(Shape(b.shape[0], rank))
      work.place(b, into: &wide, axis: 1, at: isShared ? 0 : column)
      rows.append(wide)
      column += b.shape[1]
      next += 1
    }
    return AdapterWeights(
      module: module, a: isShared ? a[0] : work.joinedRows(a), b: work.joinedRows(rows), scale: 1)
  }
}
