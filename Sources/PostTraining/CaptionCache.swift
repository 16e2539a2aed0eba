import Models
import Rewards
import TensorRuntime

/// The text side of the rewards depends on the caption alone, so it is computed once and kept. The
/// captions of a batch are padded to one length, which changes no value (algorithm.md 2.1).
struct CaptionCache: Sendable {
  private var rows: [String: CaptionBatch] = [:]
  private let limit = 4096

  mutating func batch(_ captions: [String], _ reward: RewardModel, in work: borrowing Workspace)
    -> CaptionBatch
  {
    if rows.count > limit { rows = [:] }
    for c in captions where rows[c] == nil { rows[c] = reward.captions([c], in: work) }
    return CaptionBatch(joining: captions.map { rows[$0]! }, in: work)
  }
}
