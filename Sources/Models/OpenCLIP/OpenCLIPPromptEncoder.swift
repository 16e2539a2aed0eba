import Layers
public import TensorRuntime

/// Prompts to the states of OpenCLIP's text tower. All rows count, those of the padding too
/// (videocrafter.md 4.1); the empty prompt is the unconditional one.
public struct OpenCLIPPromptEncoder: PromptEmbedder {
  public let encoder: OpenCLIPTextEncoder
  public let tokenizer: BytePairTokenizer

  /// `ids` of the tokenizer against the `rows` of the encoder's table.
  public struct VocabularyMismatch: Error, Equatable { public let ids, rows: Int }

  public init(encoder: OpenCLIPTextEncoder, tokenizer: BytePairTokenizer) throws(VocabularyMismatch)
  {
    let ids = Int(tokenizer.end) + 1
    if ids > encoder.config.vocabSize {
      throw VocabularyMismatch(ids: ids, rows: encoder.config.vocabSize)
    }
    (self.encoder, self.tokenizer) = (encoder, tokenizer)
  }
  /// A message that names what is left out of a prompt; nil if nothing is.
  public func truncation(of prompt: String) -> String? {
    tokenizer.truncation(of: prompt, length: encoder.config.contextLength)
  }
  /// States `[B, contextLength, width]`.
  public func callAsFunction(_ prompts: [String], in work: borrowing Workspace) -> PromptEmbedding {
    let length = encoder.config.contextLength
    let states = encoder(prompts.map { tokenizer.encode($0, length: length) }, in: work)
    return PromptEmbedding(states: states, counts: prompts.map { _ in Int32(length) })
  }
}
