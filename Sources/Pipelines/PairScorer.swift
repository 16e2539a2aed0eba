public import Models
public import Rewards
public import TensorRuntime

/// A reward model with both sets of options that a score needs: with transport, and without it.
public struct PairScorer: Sendable {
  public let withTransport, plain: RewardModel

  public init(_ folder: RewardFolder, storage: ElementType? = nil) throws {
    withTransport = try folder.reward(storage: storage)
    var options = RewardOptions()
    options.useTransport = false
    plain = try withTransport.with(options)
  }

  /// The scores of one video and one caption, and what the rewards read of the caption. The text
  /// layers run once if both sets of options read the same tokens.
  public func scores(
    _ video: RewardModel.VideoFeatures, _ fusion: TextEncoder.FusionVision, _ caption: String,
    in work: borrowing Workspace
  ) -> (scores: RewardModel.AllScores, caption: CaptionBatch) {
    let long = withTransport.captions([caption], in: work)
    let short =
      plain.tokens([caption]).ids == long.tokens.ids ? long : plain.captions([caption], in: work)
    return (
      withTransport.allScores(video, fusion, withTransport: long, plain: short, in: work), long
    )
  }
}

extension RewardModel.AllScores {
  /// Whether every score that exists is a number.
  public var isFinite: Bool {
    ((quality ?? []) + semantic + vanillaQuality + vanillaSemantic).allSatisfy(\.isFinite)
  }
}
