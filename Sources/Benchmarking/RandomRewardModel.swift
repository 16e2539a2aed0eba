public import Files
import Layers
public import Models
import Pipelines
import TensorRuntime
import Transport

/// A reward-model directory with random weights: the cost of a model does not depend on what it has
/// learned. Matrices are stored in bf16.
public struct RandomRewardModel: Sendable {
  public enum Preset: String, Sendable, CaseIterable {
    /// InternVideo2 1B with BERT-large: 1.4 billion parameters.
    case full
    /// The same layers, two video blocks and three text layers of them.
    case thin
  }
  public let config: VideoTextConfig
  /// `config` has a vocabulary of at least 1,200 words.
  public init(_ config: VideoTextConfig) { self.config = config }
  public init(_ preset: Preset) {
    var c = VideoTextConfig()
    // Blocks that change what passes through them: γ of LayerScale is not that of a fresh model.
    c.visionEncoder.initValues = 0.1
    if preset == .thin {
      c.visionEncoder.depth = 2
      (c.textEncoder.numHiddenLayers, c.textEncoder.fusionLayer) = (3, 1)
    }
    self.init(c)
  }

  /// Writes `config.json`, `model.safetensors`, `ot_map.safetensors` and `vocab.txt`. The folder
  /// appears whole or not at all.
  public func write(to folder: String) throws(FileError) {
    let c = config
    try AtomicDirectory.write(to: folder) { (folder) throws(FileError) in
      do {
        let source = BenchmarkReference.parameters(.bf16)
        try ModelFolder.write(
          try VideoTextModel(c, from: source), config: c, weights: "model.safetensors", to: folder)
        let map = c.otMap
        try OTMapFile.write(
          try NeuralMap(
            .init(input: map.inputDim, hidden: map.hiddenDim, output: map.outputDim),
            from: BenchmarkReference.parameters(.f32)), normalizesText: true, step: 0,
          to: "\(folder)/ot_map.safetensors")
        try OutputFile.write(
          vocabulary(c.textEncoder.vocabSize).joined(separator: "\n") + "\n",
          to: "\(folder)/vocab.txt")
      } catch let error as FileError { throw error } catch {
        preconditionFailure("a random model: \(error)")
      }
    }
  }
  /// BERT's special words at their places, words of captions, letters and pieces of one letter.
  private func vocabulary(_ size: Int) -> [String] {
    var words = (0..<size).map { "[unused\($0)]" }
    words[0] = "[PAD]"
    for (i, word) in ["[UNK]", "[CLS]", "[SEP]", "[MASK]"].enumerated() { words[100 + i] = word }
    let letters = (97...122).map { String(UnicodeScalar($0)) } + (0...9).map { "\($0)" }
    let others =
      """
      a an the of and in on above below under over left right up down small large big red green \
      blue yellow purple cyan white black circle square triangle star cross ring cat dog man woman \
      person child road street beach water playing walking running riding driving moving growing \
      turning spinning standing drifting falling rising still
      """.split(separator: " ").map(String.init)
    for (i, word) in (letters + letters.map { "##\($0)" } + others.filter { $0.count > 1 })
      .enumerated()
    { words[1000 + i] = word }
    return words
  }
}
