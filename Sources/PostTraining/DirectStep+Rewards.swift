import Diffusion
import Layers
import Models
import Pipelines
import Rewards
import TensorRuntime

/// Both rewards of the prediction of clean latents, and their gradient at the student's output
/// (algorithm.md 5.4, 7.6; videocrafter.md 9).
extension DirectStep {
  /// Fills what `out` says of the rewards; returns the gradient of the output. `gradients` gives
  /// the gradients of the student's trainable parameters for a gradient of its output.
  func rewards(
    decoder: inout LatentDecoder, _ model: inout RewardModel, _ batch: Batch,
    _ captions: CaptionBatch, _ phases: StepPhases?, _ out: inout Output,
    gradients: (Tensor, borrowing Workspace) -> [Tensor], in work: borrowing Workspace
  ) -> Tensor {
    let o = options
    let clean = batch.indices.map { schedule.clean($0) }
    let prediction = work.mixed(clean, out.noisy, out.output)
    let rows = halves?.rows ?? rows
    let (frames, decoded) = decoder.forward(
      prediction, frames: batch.rewardFrames, sharing: rows, in: work)
    phases?.end("decode", in: work)
    let (scores, scored) = model.forward(
      frames, captions, crop: batch.crop, checkpointing: o.checkpointing, sharing: rows, in: work)
    phases?.end("rewards", in: work)
    let g = Double(o.accumulation)
    let weight = -o.rewardGradientScale / (Double(clean.count) * g)
    func slopes(_ rewards: [Double], _ w: Double) -> [Double] {
      let unit = o.normalisesRewards ? GRPO.deviation(rewards) + 1e-6 : 1
      return rewards.map { _ in weight * w / unit }
    }
    let dFrames = model.backward(
      dQuality: slopes(scores.quality, o.qualityWeight),
      dSemantic: slopes(scores.semantic, o.semanticWeight), scored, in: work)
    phases?.end("rewards backward", in: work)
    let dClean = decoder.backward(dFrames, decoded, in: work)
    if o.comparesRewards, !scores.quality.isEmpty, !scores.semantic.isEmpty {
      out.rewardCosine = gradientCosine(
        scores.quality.map { _ in weight }, in: work
      ) { dQuality, dSemantic, work in
        var (reward, decoder) = (model, decoder)
        let dClean = decoder.backward(
          reward.backward(dQuality: dQuality, dSemantic: dSemantic, scored, in: work), decoded,
          in: work)
        return gradients(work.mixedBackward(clean, dClean), work)
      }
    }
    phases?.end("decode backward", in: work)
    (out.clean, out.frames) = (prediction, frames)
    note(scores, in: &out)
    return work.mixedBackward(clean, dClean)
  }
  /// The rewards and their part of the loss.
  func note(_ scores: RewardModel.Scores, in out: inout Output) {
    let g = Double(options.accumulation)
    func mean(_ x: [Double]) -> Double { x.reduce(0, +) / Double(x.count) }
    out.scores = scores
    if !scores.quality.isEmpty { out.qualityLoss = -mean(scores.quality) / g }
    if !scores.semantic.isEmpty { out.semanticLoss = -mean(scores.semantic) / g }
    if let loss = out.qualityLoss { out.loss += options.qualityWeight * loss }
    if let loss = out.semanticLoss { out.loss += options.semanticWeight * loss }
  }

  /// Cosine of the two rewards' gradients on the trainable parameters (PISCES, appendix N).
  /// `gradient` gives the parameters' gradients for slopes of quality and of semantic reward.
  private func gradientCosine(
    _ slopes: [Double], in work: borrowing Workspace,
    gradient: ([Double], [Double], borrowing Workspace) -> [Tensor]
  ) -> Double {
    let none = slopes.map { _ in 0.0 }
    let a = gradient(slopes, none, work)
    let b = gradient(none, slopes, work)
    func dot(_ x: [Tensor], _ y: [Tensor]) -> Double {
      zip(x, y).reduce(0) { $0 + work.dot($1.0, $1.1) }
    }
    return dot(a, b) / max((dot(a, a) * dot(b, b)).squareRoot(), 1e-300)
  }
}
