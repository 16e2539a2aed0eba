public import TensorRuntime

/// Embeds prompts for a generator's network.
public protocol PromptEmbedder: Sendable {
  /// A message that names what is left out of a prompt; nil if nothing is.
  func truncation(of prompt: String) -> String?
  /// One row a prompt. The empty prompt is the unconditional one.
  func callAsFunction(_ captions: [String], in work: borrowing Workspace) -> PromptEmbedding
}
extension PromptEncoder: PromptEmbedder {}

extension PromptEmbedder {
  /// The same for clips of another frame rate than 8, for networks that embed it.
  public func at(framesPerSecond: Float) -> any PromptEmbedder {
    FrameRateEmbedder(base: self, framesPerSecond: framesPerSecond)
  }
}

private struct FrameRateEmbedder: PromptEmbedder {
  let base: any PromptEmbedder, framesPerSecond: Float

  func truncation(of prompt: String) -> String? { base.truncation(of: prompt) }
  func callAsFunction(_ captions: [String], in work: borrowing Workspace) -> PromptEmbedding {
    let embed = base
    var prompt = embed(captions, in: work)
    prompt.framesPerSecond = framesPerSecond
    return prompt
  }
}
