import Layers
import Models
import Rewards
import TensorRuntime
import Transport

/// Matching (VTM) and masked words (MLM), which share one pass of the fusion layers.
extension EncoderTask {
  /// One row of the fusion batch: a text against a video, and whether they match (nil: only words
  /// are predicted).
  struct Pair { let text: Int, video: Int, match: Bool? }

  /// What the pass leaves for its backward. P pairs, of which the first `matched` are judged.
  struct MatchingPass {
    let pairs: [Pair], matched: Int
    let match, word: (loss: Double, gradient: [Double], hits: Int)
    /// Shapes of texts `[R, L, D]`, video tokens `[V, M, E]` and fused texts `[P, L, D]`.
    let hidden, tokens, fused: Shape
    /// Rows of the fused texts, `[P L, D]`, at which words are predicted.
    let wordRows: [Int32]
    let matchLogits, wordLogits: Shape
    let fusionSaved: TextEncoder.FusionSaved, headSaved: Linear.Saved,
      wordSaved: FeedForwardHead.Saved
  }

  /// Captions with their clips; swapped captions; a hard text of the batch for a share of the
  /// clips, drawn by `hardness` (rows of probabilities); generated clips with their own captions;
  /// and the captions with masked words.
  func pairs(_ batch: EncoderBatch, _ hardness: [[Double]], _ step: Int) -> [Pair] {
    let b = settings.batch
    var pairs = (0..<b).map { Pair(text: $0, video: $0, match: true) }
    pairs += batch.swapped.map { Pair(text: $0, video: batch.doubted[$0 - b], match: false) }
    var draw = RandomStream(seed: UInt64(settings.seed), .order, step: step, sample: 1)
    for i in 0..<Int(Double(b) * (batch.swapped.isEmpty ? 1 : settings.hard_share)) {
      if let j = Self.draw(hardness[i], &draw) {
        pairs.append(Pair(text: j, video: i, match: false))
      }
    }
    let first = batch.generated.lowerBound
    pairs += batch.generated.map { Pair(text: $0, video: b + $0 - first, match: false) }
    return pairs
      + (0..<b).map { Pair(text: batch.masked.lowerBound + $0, video: $0, match: nil) }
  }

  /// An index drawn by probabilities; nil where all are 0.
  private static func draw(_ p: [Double], _ stream: inout RandomStream) -> Int? {
    var u = stream.uniform()
    for (i, w) in p.enumerated() where w > 0 {
      u -= w
      if u <= 0 { return i }
    }
    return p.lastIndex { $0 > 0 }
  }

  /// Losses of matching and of masked words, for texts `hidden` `[R, L, D]` and video tokens
  /// `[V, M, E]`.
  func matching(
    _ batch: EncoderBatch, _ pairs: [Pair], _ hidden: Tensor, _ tokens: Tensor,
    in work: borrowing Workspace
  ) -> MatchingPass {
    let (l, d) = (hidden.shape[1], hidden.shape[2])
    let matched = pairs.count { $0.match != nil }
    let pairTokens = TokenBatch(
      pairs.map { batch.rows[$0.text] }, length: l, padding: tokenizer.pad,
      special: tokenizer.special)
    func gathered(_ x: Tensor, _ rows: [Int]) -> Tensor {
      let flat = x.reshaped(Shape(x.shape[0], x.shape[1] * x.shape[2]))
      return work.gather(flat, rows.map { Int32($0) }).reshaped(
        Shape(rows.count, x.shape[1], x.shape[2]))
    }
    let (fused, fusionSaved) = model.base.text.fusion(
      gathered(hidden, pairs.map(\.text)), pairTokens,
      vision: gathered(tokens, pairs.map(\.video)),
      prior: transport.map {
        AttentionPrior($0, skipping: settings.model.textEncoder.numHiddenLayers - 1)
      }, in: work)
    let (matchLogits, headSaved) = model.base.matchingHead.forward(
      VideoTextModel.cls(fused, in: work).slice(0..<matched), in: work)
    let match = CrossEntropy.rows(
      matchLogits.doubles, columns: 2, targets: pairs.prefix(matched).map { $0.match! ? 1 : 0 },
      weights: pairs.prefix(matched).map { $0.match! ? 1.5 : 1 })
    let wordRows = batch.targets.map { Int32((matched + $0.row) * l + $0.position) }
    let (wordLogits, wordSaved) = model.wordHead.forward(
      work.gather(fused.reshaped(Shape(pairs.count * l, d)), wordRows), in: work)
    let word = CrossEntropy.rows(
      wordLogits.doubles, columns: wordLogits.shape[1],
      targets: batch.targets.map { Int($0.id) })
    return MatchingPass(
      pairs: pairs, matched: matched, match: match, word: word, hidden: hidden.shape,
      tokens: tokens.shape, fused: fused.shape, wordRows: wordRows, matchLogits: matchLogits.shape,
      wordLogits: wordLogits.shape, fusionSaved: fusionSaved, headSaved: headSaved,
      wordSaved: wordSaved)
  }

  /// Gradients of the texts, as rows `[R L, D]`, and of the video tokens `[V, M, E]`; adds those of
  /// the parameters.
  mutating func matchingBackward(_ s: MatchingPass, in work: borrowing Workspace) -> (
    dHidden: Tensor, dTokens: Tensor
  ) {
    let (l, d) = (s.fused[1], s.fused[2])
    var dFused: Tensor? = work.zeros(Shape(s.pairs.count * l, d))
    work.scatterAdd(
      model.wordHead.backward(
        Tensor(s.word.gradient, s.wordLogits, as: .f32), s.wordSaved, in: work), s.wordRows,
      to: &dFused)
    let dCls = model.base.matchingHead.backward(
      Tensor(s.match.gradient, s.matchLogits, as: .f32), s.headSaved, in: work)
    work.scatterAdd(dCls, (0..<s.matched).map { Int32($0 * l) }, to: &dFused)
    let (dText, dVideo) = model.base.text.fusionBackward(
      dFused!.reshaped(s.fused), s.fusionSaved, in: work)
    func scattered(_ dx: Tensor, _ rows: [Int], _ shape: Shape) -> Tensor {
      let width = shape[1] * shape[2]
      var sum: Tensor? = work.zeros(Shape(shape[0], width))
      work.scatterAdd(
        dx.reshaped(Shape(rows.count, width)), rows.map { Int32($0) }, to: &sum)
      return sum!
    }
    return (
      scattered(dText!, s.pairs.map(\.text), s.hidden).reshaped(Shape(s.hidden[0] * l, d)),
      scattered(dVideo, s.pairs.map(\.video), s.tokens).reshaped(s.tokens)
    )
  }
}
