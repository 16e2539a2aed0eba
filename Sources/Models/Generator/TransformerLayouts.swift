public import TensorRuntime

/// The two layouts of a HunyuanVideo transformer's parameters, and the conversion between them
/// (checkpoints.md 4.3).
///
/// The original fuses q, k, v (and in single blocks the first matrix of the MLP) into one matrix,
/// by rows; diffusers keeps them separate. The halves of the last modulation are (shift, scale) in
/// the original and (scale, shift) in diffusers. Everything else is a change of names.
public struct TransformerLayouts: Sendable {
  public enum Layout: String, Sendable, CaseIterable { case original, diffusers }

  /// How source tensors become target tensors.
  public enum Operation: Sendable, Equatable {
    case rename
    /// One into several, by rows; the last takes the remaining rows.
    case split(rows: [Int])
    /// Several into one, by rows.
    case join
    case swapHalves
  }
  public struct Step: Sendable, Equatable {
    public let sources, targets: [String]
    public let operation: Operation
  }

  /// The model's width D, which is the number of rows of q.
  public let width: Int
  public init(width: Int) { self.width = width }

  /// The layout of a checkpoint with these names; nil if it is not a transformer.
  public static func layout(of names: some Sequence<String>) -> Layout? {
    for name in names {
      if name.hasPrefix("double_blocks.") || name.hasPrefix("single_blocks.")
        || name.hasPrefix("img_in.")
      {
        return .original
      }
      if name.hasPrefix("transformer_blocks.") || name.hasPrefix("single_transformer_blocks.")
        || name.hasPrefix("x_embedder.")
      {
        return .diffusers
      }
    }
    return nil
  }

  /// The steps that convert all of `names`, given in the other layout, to `layout`; and the names
  /// without a rule.
  public func steps(_ names: [String], to layout: Layout) -> (steps: [Step], unknown: [String]) {
    var steps: [Step] = []
    var unknown: [String] = []
    for name in names {
      guard let dot = name.lastIndex(of: ".") else {
        unknown.append(name)
        continue
      }
      let module = String(name[..<dot])
      let field = name[dot...]
      var found = false
      for rule in Self.rules {
        if layout == .diffusers {
          guard let block = Self.match(module, rule.original) else { continue }
          let targets = rule.diffusers.map { Self.fill($0, block) + field }
          steps.append(Step(sources: [name], targets: targets, operation: operation(rule)))
        } else {
          guard let part = rule.diffusers.firstIndex(where: { Self.match(module, $0) != nil })
          else { continue }
          found = true
          // The first part stands for the whole group.
          if part > 0 { break }
          let block = Self.match(module, rule.diffusers[0])!
          let isJoin = rule.diffusers.count > 1
          steps.append(
            Step(
              sources: rule.diffusers.map { Self.fill($0, block) + field },
              targets: [Self.fill(rule.original, block) + field],
              operation: isJoin ? .join : operation(rule)))
        }
        found = true
        break
      }
      if !found { unknown.append(name) }
    }
    return (steps, unknown)
  }
  private func operation(_ rule: Rule) -> Operation {
    if rule.swaps { return .swapHalves }
    return rule.diffusers.count == 1
      ? .rename : .split(rows: Array(repeating: width, count: rule.diffusers.count - 1))
  }

  /// Shapes of a step's targets, computed from those of its sources.
  public static func shapes(_ step: Step, _ sources: [Shape]) -> [Shape] {
    switch step.operation {
    case .rename, .swapHalves: return sources
    case .join:
      var shape = sources[0]
      for s in sources.dropFirst() { shape[0] += s[0] }
      return [shape]
    case .split(let rows):
      return ranges(rows, of: sources[0][0]).map { range in
        var shape = sources[0]
        shape[0] = range.count
        return shape
      }
    }
  }
  /// Target `index` of a step. It shares memory with the sources where possible.
  public static func target(
    _ index: Int, of step: Step, _ sources: [Tensor], in work: borrowing Workspace
  ) -> Tensor {
    switch step.operation {
    case .rename: sources[0]
    case .swapHalves: work.swappedHalves(sources[0])
    case .join: work.joinedRows(sources)
    case .split(let rows): sources[0].slice(ranges(rows, of: sources[0].shape[0])[index])
    }
  }
  /// Whether a tensor with this number of rows can be split.
  public static func fits(_ step: Step, rows: Int) -> Bool {
    switch step.operation {
    case .split(let parts): rows > parts.reduce(0, +)
    case .swapHalves: rows % 2 == 0
    case .rename, .join: true
    }
  }
  private static func ranges(_ rows: [Int], of total: Int) -> [Range<Int>] {
    var start = 0
    var all: [Range<Int>] = []
    for n in rows {
      all.append(start..<start + n)
      start += n
    }
    return all + [start..<total]
  }

  // MARK: names

  /// The layout to which a module's name belongs. The name must be one of the model's.
  public static func layout(ofModule name: String) -> Layout {
    rules.contains { match(name, $0.original) != nil } ? .original : .diffusers
  }
  /// A module's name in one of the layouts. The source may be either layout or ComfyUI, whose names
  /// are the original's with renamed parts. nil if the model has no such module.
  public static func module(_ name: String) -> String? {
    for rule in rules {
      if match(name, rule.original) != nil
        || rule.diffusers.contains(where: { match(name, $0) != nil })
      {
        return name
      }
    }
    for rule in rules {
      if let block = match(name, comfy(rule.original)) { return fill(rule.original, block) }
    }
    return nil
  }
  /// The same for a name in which every dot has become `_`.
  public static func module(flattened name: String) -> String? {
    func flat(_ pattern: String) -> String { pattern.replacing(".", with: "_") }
    for rule in rules {
      for pattern in [rule.original] + rule.diffusers {
        if let block = match(name, flat(pattern)) { return fill(pattern, block) }
      }
      if let block = match(name, flat(comfy(rule.original))) { return fill(rule.original, block) }
    }
    return nil
  }
  /// A parameter's name in one of the layouts; nil if the model has no such parameter. ComfyUI
  /// calls the weight of a norm `scale`.
  public static func parameter(_ name: String) -> String? {
    guard let dot = name.lastIndex(of: "."), let module = module(String(name[..<dot])) else {
      return nil
    }
    let field = name[name.index(after: dot)...]
    return "\(module).\(field == "scale" ? "weight" : field)"
  }
  private static func comfy(_ original: String) -> String {
    [
      ("t_embedder.mlp.0", "t_embedder.in_layer"), ("t_embedder.mlp.2", "t_embedder.out_layer"),
      ("c_embedder.linear_1", "c_embedder.in_layer"),
      ("c_embedder.linear_2", "c_embedder.out_layer"), ("_mod.linear", "_mod.lin"),
      ("_attn_qkv", "_attn.qkv"), ("_attn_proj", "_attn.proj"), ("mlp.fc1", "mlp.0"),
      ("mlp.fc2", "mlp.2"),
      ("_attn_q_norm", "_attn.norm.query_norm"), ("_attn_k_norm", "_attn.norm.key_norm"),
      (".q_norm", ".norm.query_norm"), (".k_norm", ".norm.key_norm"),
      (".modulation.linear", ".modulation.lin"), ("_in.mlp.0", "_in.in_layer"),
      ("_in.mlp.2", "_in.out_layer"),
    ].reduce(original) { $0.replacing($1.0, with: $1.1) }
  }

  private struct Rule: Sendable {
    let original: String, diffusers: [String], swaps: Bool
    init(_ original: String, _ diffusers: String..., swaps: Bool = false) {
      (self.original, self.diffusers, self.swaps) = (original, diffusers, swaps)
    }
  }
  /// `#` stands for the number of a block. A module has exactly one rule.
  private static let rules: [Rule] = {
    let refiner = "context_embedder.token_refiner.refiner_blocks.#"
    let oldRefiner = "txt_in.individual_token_refiner.blocks.#"
    let text = "context_embedder.time_text_embed"
    let time = "time_text_embed"
    var all = [
      Rule("img_in.proj", "x_embedder.proj"),
      Rule("txt_in.input_embedder", "context_embedder.proj_in"),
      Rule("txt_in.t_embedder.mlp.0", "\(text).timestep_embedder.linear_1"),
      Rule("txt_in.t_embedder.mlp.2", "\(text).timestep_embedder.linear_2"),
      Rule("txt_in.c_embedder.linear_1", "\(text).text_embedder.linear_1"),
      Rule("txt_in.c_embedder.linear_2", "\(text).text_embedder.linear_2"),
      Rule("\(oldRefiner).norm1", "\(refiner).norm1"),
      Rule("\(oldRefiner).norm2", "\(refiner).norm2"),
      Rule(
        "\(oldRefiner).self_attn_qkv", "\(refiner).attn.to_q", "\(refiner).attn.to_k",
        "\(refiner).attn.to_v"),
      Rule("\(oldRefiner).self_attn_proj", "\(refiner).attn.to_out.0"),
      Rule("\(oldRefiner).mlp.fc1", "\(refiner).ff.net.0.proj"),
      Rule("\(oldRefiner).mlp.fc2", "\(refiner).ff.net.2"),
      Rule("\(oldRefiner).adaLN_modulation.1", "\(refiner).norm_out.linear"),
      Rule("time_in.mlp.0", "\(time).timestep_embedder.linear_1"),
      Rule("time_in.mlp.2", "\(time).timestep_embedder.linear_2"),
      Rule("vector_in.in_layer", "\(time).text_embedder.linear_1"),
      Rule("vector_in.out_layer", "\(time).text_embedder.linear_2"),
      Rule("guidance_in.mlp.0", "\(time).guidance_embedder.linear_1"),
      Rule("guidance_in.mlp.2", "\(time).guidance_embedder.linear_2"),
      Rule("final_layer.linear", "proj_out"),
      Rule("final_layer.adaLN_modulation.1", "norm_out.linear", swaps: true),
    ]
    let double = "transformer_blocks.#"
    for (stream, norm, projections, norms, out, feedForward) in [
      ("img", "norm1", ["to_q", "to_k", "to_v"], ["norm_q", "norm_k"], "to_out.0", "ff"),
      (
        "txt", "norm1_context", ["add_q_proj", "add_k_proj", "add_v_proj"],
        ["norm_added_q", "norm_added_k"], "to_add_out", "ff_context"
      ),
    ] {
      let old = "double_blocks.#.\(stream)"
      let attention = "\(double).attn"
      all += [
        Rule("\(old)_mod.linear", "\(double).\(norm).linear"),
        Rule(
          "\(old)_attn_qkv", "\(attention).\(projections[0])", "\(attention).\(projections[1])",
          "\(attention).\(projections[2])"),
        Rule("\(old)_attn_q_norm", "\(attention).\(norms[0])"),
        Rule("\(old)_attn_k_norm", "\(attention).\(norms[1])"),
        Rule("\(old)_attn_proj", "\(attention).\(out)"),
        Rule("\(old)_mlp.fc1", "\(double).\(feedForward).net.0.proj"),
        Rule("\(old)_mlp.fc2", "\(double).\(feedForward).net.2"),
      ]
    }
    let single = "single_transformer_blocks.#"
    let oldSingle = "single_blocks.#"
    all += [
      Rule(
        "\(oldSingle).linear1", "\(single).attn.to_q", "\(single).attn.to_k", "\(single).attn.to_v",
        "\(single).proj_mlp"),
      Rule("\(oldSingle).linear2", "\(single).proj_out"),
      Rule("\(oldSingle).q_norm", "\(single).attn.norm_q"),
      Rule("\(oldSingle).k_norm", "\(single).attn.norm_k"),
      Rule("\(oldSingle).modulation.linear", "\(single).norm.linear"),
    ]
    return all
  }()
  /// The number of the block if `name` matches (empty if the pattern has no number), else nil.
  private static func match(_ name: String, _ pattern: String) -> Substring? {
    guard let mark = pattern.firstIndex(of: "#") else { return name == pattern ? "" : nil }
    let head = pattern[..<mark]
    let tail = pattern[pattern.index(after: mark)...]
    guard name.hasPrefix(head), name.hasSuffix(tail),
      name.utf8.count > head.utf8.count + tail.utf8.count
    else { return nil }
    let number = name.dropFirst(head.count).dropLast(tail.count)
    return number.allSatisfy({ $0.isASCII && $0.isNumber }) ? number : nil
  }
  private static func fill(_ pattern: String, _ number: Substring) -> String {
    pattern.split(separator: "#", omittingEmptySubsequences: false).joined(
      separator: String(number))
  }
}
