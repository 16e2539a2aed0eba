public import Files
public import Models
public import TensorRuntime

/// Precomputed prompt embeddings (interfaces.md 5): `prompt_embeds` `[L, D]`,
/// `prompt_attention_mask` `[L]`, `pooled_prompt_embeds` `[P]` in one tensor file.
public enum PromptFile {
  public static func read(_ path: String, _ c: TransformerConfig, in work: borrowing Workspace)
    throws(FileError) -> PromptEmbedding
  {
    let file = try SafetensorsFile(path)
    func tensor(_ name: String, _ shape: (Int) -> Bool, _ expected: String) throws(FileError)
      -> Tensor
    {
      let t = try file.tensor(named: name)
      guard t.shape.rank > 0, shape(t.shape.last) else {
        throw FileError(
          .badData, "\(name) is \(t.shape), expected \(expected)", in: path,
          mend: "make the embeddings for this generator")
      }
      return t
    }
    let states = work.converted(
      try tensor("prompt_embeds", { $0 == c.textEmbedDim }, "[L, \(c.textEmbedDim)]"), to: .f32)
    let pooled = work.converted(
      try tensor(
        "pooled_prompt_embeds", { $0 == c.pooledProjectionDim }, "[\(c.pooledProjectionDim)]"),
      to: .f32)
    let l = states.count / c.textEmbedDim
    let mask = try file.tensor(named: "prompt_attention_mask")
    guard mask.count == l, !mask.type.isFloating else {
      throw FileError(
        .badData, "prompt_attention_mask is \(mask.shape), expected [\(l)] of integers", in: path,
        mend: "make the embeddings again")
    }
    let ones = mask.integers
    let count = ones.reduce(0, +)
    guard ones == ones.sorted(by: >) else {
      throw FileError(
        .badData, "valid tokens are not a prefix", in: "\(path), prompt_attention_mask",
        mend: "pad on the right")
    }
    return PromptEmbedding(
      states: states.reshaped(Shape(1, l, c.textEmbedDim)), counts: [Int32(count)],
      pooled: pooled.reshaped(Shape(1, c.pooledProjectionDim)))
  }
}
