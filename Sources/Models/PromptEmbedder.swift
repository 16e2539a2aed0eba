public import TensorRuntime

/// Embeds prompts for a generator's network.
public protocol PromptEmbedder: Sendable {
  /// A message that names what is left out of a prompt; nil if nothing is.
  func truncation(of prompt: String) -> String?
  /// One row a prompt. The empty prompt is the unconditional one.
  func callAsFunction(_ captions: [String], in work: borrowing Workspace) -> PromptEmbedding
}
extension PromptEncoder: PromptEmbedder {}
