internal import CInterface
internal import Models
internal import Pipelines
internal import Rewards
internal import TensorRuntime

/// What the functions compute, as the program does.
extension Handle {
  /// The scores of one clip `[1, T, 3, H, W]` and each caption.
  func scores(_ x: Tensor, _ captions: [String]) throws -> [pisces_scores] {
    try compute { work in
      let video = withTransport.videos(x, in: work)
      let fusion = withTransport.fusion(of: video, in: work)
      return try captions.prefix(work.rounds(captions.count)).map { caption in
        let s = model.scores(video, fusion, caption, in: work).scores
        if !work.isPlanned && !s.isFinite {
          throw Refusal(.badData, "a score is not finite", "check the frames and the weights")
        }
        return pisces_scores(
          quality: s.quality?[0] ?? .nan, semantic: s.semantic[0],
          vanilla_quality: s.vanillaQuality[0], vanilla_semantic: s.vanillaSemantic[0],
          truncated: withTransport.truncates(caption) ? 1 : 0)
      }
    }
  }

  /// Where the words of a caption are transported to in one clip `[1, T, 3, H, W]`.
  func plans(_ x: Tensor, _ caption: String) throws -> WordPlans {
    try compute { work -> WordPlans? in
      let video = withTransport.videos(x, in: work)
      let captions = withTransport.captions([caption], in: work)
      if work.isPlanned {
        _ = withTransport.fusion(of: video, in: work)
        return nil
      }
      return WordPlans(withTransport, video, captions, in: work)
    }!
  }

  /// Both rewards of clips `[B, T, 3, H, W]` and their captions, and the gradient of the weighted
  /// sum of all. Activations of the encoder's blocks are recomputed.
  func gradient(
    _ x: Tensor, _ captions: [String], _ quality: [Double], _ semantic: [Double],
    wantsGradient: Bool
  ) throws -> (scores: RewardModel.Scores, gradient: Tensor?) {
    try compute { work in
      let batch = withTransport.captions(captions, in: work)
      let (scores, saved) = withTransport.forward(x, batch, checkpointing: true, in: work)
      if !work.isPlanned && !(scores.quality + scores.semantic).allSatisfy(\.isFinite) {
        throw Refusal(.badData, "a reward is not finite", "check the frames and the weights")
      }
      guard wantsGradient else { return (scores, nil) }
      var reward = withTransport
      return (
        scores, reward.backward(dQuality: quality, dSemantic: semantic, saved, in: work)
      )
    }
  }
}
