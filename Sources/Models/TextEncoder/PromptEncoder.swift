import Layers
public import TensorRuntime

/// Prompt embeddings for a small generator: the hidden states of a text encoder's text layers, and
/// the [CLS] state as pooled vector.
public struct PromptEncoder: Sendable {
  public let encoder: TextEncoder
  public let tokenizer: WordPieceTokenizer
  public let maxLength: Int

  public init(encoder: TextEncoder, tokenizer: WordPieceTokenizer, maxLength: Int) {
    (self.encoder, self.tokenizer, self.maxLength) = (
      encoder, tokenizer, min(maxLength, encoder.config.maxPositionEmbeddings)
    )
  }
  /// A message that names what is left out of a prompt; nil if nothing is.
  public func truncation(of prompt: String) -> String? {
    tokenizer.truncation(of: prompt, maxLength: maxLength)
  }
  /// The empty prompt is [CLS] alone, which is the unconditional prompt.
  public func callAsFunction(_ captions: [String], in work: borrowing Workspace) -> PromptEmbedding
  {
    let tokens = TokenBatch(
      captions.map { tokenizer.encode($0, maxLength: maxLength) }, padding: tokenizer.pad,
      special: tokenizer.special)
    let hidden = encoder.text(tokens, in: work).hidden
    return PromptEmbedding(
      states: hidden, counts: tokens.counts, pooled: VideoTextModel.cls(hidden, in: work))
  }
}
