import Models
import TensorRuntime

/// Words that are hidden in captions for the model to predict (Devlin et al. 2019,
/// arXiv:1810.04805). Every hidden word becomes [MASK].
enum MaskedWords {
  struct Target { let row, position: Int, id: Int32 }

  /// Token rows with masked words, and the ids that were masked. At least one word of every caption
  /// that has a word is masked.
  static func draw(
    _ rows: [[Int32]], _ tokenizer: WordPieceTokenizer, mask: Int32, share: Double,
    from stream: inout RandomStream
  ) -> ([[Int32]], [Target]) {
    var targets: [Target] = []
    let masked = rows.enumerated().map { r, row in
      let lexical = row.indices.filter { !tokenizer.special.contains(row[$0]) }
      var chosen = lexical.filter { _ in stream.uniform() < share }
      if chosen.isEmpty, let any = lexical.isEmpty ? nil : lexical[stream.below(lexical.count)] {
        chosen = [any]
      }
      var out = row
      for p in chosen {
        targets.append(Target(row: r, position: p, id: row[p]))
        out[p] = mask
      }
      return out
    }
    return (masked, targets)
  }
}
