internal import CInterface
internal import Models
internal import Pipelines
internal import Rewards
internal import TensorRuntime

/// What the functions compute, as the program does.
extension Handle {
  /// The scores of one clip `[1, T, 3, H, W]` and each caption.
  func scores(_ x: Tensor, _ captions: [String]) throws -> [pisces_scores] {
    try computeWithinMemory { work in
      let video = withTransport.videos(x, in: work)
      let fusion = withTransport.fusion(of: video, in: work)
      return try captions.map { caption in
        let long = withTransport.captions([caption], in: work)
        let short =
          plain.tokens([caption]).ids == long.tokens.ids
          ? long : plain.captions([caption], in: work)
        if work.isPlanned { return pisces_scores() }
        let s = withTransport.allScores(
          video, fusion, withTransport: long, plain: short, in: work)
        let all = [s.quality?[0] ?? 0, s.semantic[0], s.vanillaQuality[0], s.vanillaSemantic[0]]
        if all.contains(where: { !$0.isFinite }) {
          throw Refusal(.badData, "a score is not finite", "check the frames and the weights")
        }
        return pisces_scores(
          quality: s.quality?[0] ?? .nan, semantic: s.semantic[0],
          vanilla_quality: s.vanillaQuality[0], vanilla_semantic: s.vanillaSemantic[0],
          truncated: withTransport.truncates(caption) ? 1 : 0)
      }
    }
  }

  func plans(_ x: Tensor, _ caption: String) throws -> WordPlans {
    try compute { work in
      let video = withTransport.videos(x, in: work)
      return WordPlans(
        withTransport, video, withTransport.captions([caption], in: work), in: work)
    }
  }

  /// Both rewards of clips `[B, T, 3, H, W]` and their captions, and the gradient of the weighted sum
  /// of all. Activations of the encoder's blocks are recomputed.
  func gradient(
    _ x: Tensor, _ captions: [String], _ quality: [Double], _ semantic: [Double],
    wantsGradient: Bool
  ) throws -> (scores: RewardModel.Scores, gradient: Tensor?) {
    try computeWithinMemory { work in
      let batch = withTransport.captions(captions, in: work)
      let (scores, saved) = withTransport.forward(x, batch, checkpointing: true, in: work)
      if !work.isPlanned && (scores.quality + scores.semantic).contains(where: { !$0.isFinite }) {
        throw Refusal(.badData, "a reward is not finite", "check the frames and the weights")
      }
      guard wantsGradient else { return (scores, nil) }
      var model = withTransport
      return (
        scores, model.backward(dQuality: quality, dSemantic: semantic, saved, in: work)
      )
    }
  }
}
