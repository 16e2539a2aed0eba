import Layers
import Models
import TensorRuntime

/// What a step of the encoders is shown: clips, and texts as rows of tokens.
struct EncoderBatch {
  let indices: [Int]
  /// Clips of the captions, then generated and malformed ones, `[B + X, T, 3, H, W]` in [0, 1].
  let pixels: Tensor
  /// B captions; captions wrong in one attribute; those of the X generated and malformed clips; the
  /// B captions with masked words.
  let rows: [[Int32]]
  let swapped, generated, masked: Range<Int>
  /// The clips that also meet their swapped caption.
  let doubted: [Int]
  /// What stood at the masked places; `row` counts from the first masked caption.
  let targets: [MaskedWords.Target]
}

extension EncoderTask {
  /// Depends on the settings and the step alone.
  func batch(_ step: Int, in work: borrowing Workspace) -> EncoderBatch {
    var order = RandomStream(seed: UInt64(settings.seed), .order, step: step)
    var words = RandomStream(seed: UInt64(settings.seed), .caption, step: step)
    let b = settings.batch
    let indices = (0..<b).map { _ in order.below(1 << 30) }
    let captions = source.captions(indices, noise: settings.caption_noise, drawing: &words)
    let (pixels, wrong) = videos(step, indices, captions, drawing: &order, in: work)
    // Swapped captions for all clips, or for a share spread over the batch.
    let count = Int(Double(b) * settings.swapped_share)
    let doubted = (0..<count).map { $0 * b / max(count, 1) }
    let swapped =
      count > 0 ? source.swappedCaptions(doubted.map { indices[$0] }, drawing: &words) ?? [] : []
    func encoded(_ captions: [String]) -> [[Int32]] {
      captions.map { tokenizer.encode($0, maxLength: settings.model.maxTxtL) }
    }
    let positives = encoded(captions)
    var masking = RandomStream(seed: UInt64(settings.seed), .masking, step: step)
    let (masked, targets) = MaskedWords.draw(
      positives, tokenizer, mask: mask, share: settings.mask_share, from: &masking)
    let ends = [b, b + swapped.count, b + swapped.count + wrong.count]
    return EncoderBatch(
      indices: indices, pixels: pixels,
      rows: positives + encoded(swapped) + encoded(wrong) + masked, swapped: ends[0]..<ends[1],
      generated: ends[1]..<ends[2], masked: ends[2]..<ends[2] + b, doubted: doubted,
      targets: targets)
  }

  /// Pixels of a step: world (or own) clips, some reconstructed, some predicted, some degraded;
  /// then negatives of their captions, generated and malformed.
  func videos(
    _ step: Int, _ indices: [Int], _ captions: [String], drawing order: inout RandomStream,
    in work: borrowing Workspace
  ) -> (pixels: Tensor, generatedCaptions: [String]) {
    let b = settings.batch
    let predicted = b - Int(Double(b) * settings.prediction_share)..<b
    var clips = source.clips(indices, in: work)
    if !predictions.isEmpty, !predicted.isEmpty {
      var levels = RandomStream(seed: UInt64(settings.seed), .timestep, step: step)
      let noise = RandomStream(seed: UInt64(settings.seed), .noise, step: step)
      let predict = predictions[step % predictions.count]
      work.place(
        predict(
          clips.slice(predicted), Array(captions[predicted]), levels: &levels, noise: noise,
          in: work), into: &clips, axis: 0, at: predicted.lowerBound)
    }
    let rebuilt = Int(Double(b) * settings.reconstruction_share)
    if let reconstruct, rebuilt > 0 {
      work.place(reconstruct(clips.slice(0..<rebuilt), work), into: &clips, axis: 0, at: 0)
    }
    // Every fourth clip is noisy, the one after it blurred.
    for i in stride(from: 0, to: b - 1, by: 4) {
      let noise = RandomStream(seed: UInt64(settings.seed), .augmentation, step: step, sample: i)
        .normal(clips[row: i].shape, in: work)
      let noisy = work.combine(1, clips[row: i], order.uniform(0..<0.12), noise)
      work.place(
        work.affineClamp(noisy, alpha: 1, beta: 0, to: 0...1).reshaped(
          Shape([1] + noisy.shape.dims)), into: &clips, axis: 0, at: i)
      work.place(
        Blur.binomial(clips.slice(i + 1..<i + 2), in: work), into: &clips, axis: 0, at: i + 1)
    }
    let chosen = (0..<(generated.clips.isEmpty ? 0 : settings.generated_per_step)).map { _ in
      order.below(generated.clips.count)
    }
    var wrong = chosen.map { generated.captions[$0] }
    if !chosen.isEmpty {
      clips = work.concatenated([clips, work.stacked(chosen.map { generated.clips[$0] })], axis: 0)
    }
    let more = (0..<settings.malformed_per_step).map { _ in order.below(1 << 30) }
    if !more.isEmpty,
      case (var bad, let names)? = source.malformed(
        more, shares: settings.malformed_share[0]..<settings.malformed_share[1], drawing: &order,
        in: work)
    {
      let rebuilt = Int(Double(more.count) * settings.reconstruction_share)
      if let reconstruct, rebuilt > 0 {
        work.place(reconstruct(bad.slice(0..<rebuilt), work), into: &bad, axis: 0, at: 0)
      }
      clips = work.concatenated([clips, bad], axis: 0)
      wrong += names
    }
    return (clips, wrong)
  }
}
