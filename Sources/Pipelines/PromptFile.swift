public import Files
public import Models
public import TensorRuntime

/// Precomputed prompt embeddings (interfaces.md 5): `prompt_embeds` `[L, D]`,
/// `prompt_attention_mask` `[L]`, and `pooled_prompt_embeds` `[P]` where the generator reads it, in
/// one tensor file.
public enum PromptFile {
  public static func read(
    _ path: String, for model: any VideoDenoiser, in work: borrowing Workspace
  )
    throws(FileError) -> PromptEmbedding
  {
    let file = try SafetensorsFile(path)
    let width = model.textWidth
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
      try tensor("prompt_embeds", { $0 == width }, "[L, \(width)]"), to: .f32)
    var pooled: Tensor?
    if let width = model.pooledWidth {
      pooled = work.converted(
        try tensor("pooled_prompt_embeds", { $0 == width }, "[\(width)]"), to: .f32
      ).reshaped(Shape(1, width))
    }
    let l = states.count / width
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
      states: states.reshaped(Shape(1, l, width)), counts: [Int32(count)], pooled: pooled)
  }
}
