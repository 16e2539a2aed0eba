import Cluster
import TensorRuntime

/// What all ranks agree on before any of them goes on.
enum Verdict {
  /// Throws `failure`, or what another rank has met: a fault, else the non-finite value of the
  /// lowest leaf, else that the step is given up. Otherwise returns the numbers of every rank, by
  /// rank, of any length.
  @discardableResult
  static func agree(
    on failure: (any Error)?, telling numbers: [Double] = [], _ cluster: Cluster,
    in work: borrowing Workspace
  ) throws -> [[Double]] {
    if cluster.size == 1 || work.isPlanned {
      if let failure { throw failure }
      return [numbers]
    }
    let none = UInt64.max
    let finite = failure as? NonFinite
    let isGivenUp = failure is StepGivenUp
    let verdict =
      failure == nil
      ? none
      : isGivenUp ? none - 1 : finite == nil ? 0 : 1 + UInt64(max(finite?.sample ?? 0, 0))
    let told = try cluster.gather(words: [verdict] + numbers.map(\.bitPattern))
    let verdicts = told.map { $0[0] }
    guard let worst = verdicts.min(), worst != none else {
      return told.map { $0.dropFirst().map { Double(bitPattern: $0) } }
    }
    if worst == none - 1 { throw StepGivenUp() }
    if let failure, finite == nil, !isGivenUp { throw failure }
    if worst == 0 { throw OtherRankFailed() }
    let rank = verdicts.firstIndex(of: worst)!
    let said = try cluster.gather(bytes: Array((finite?.what ?? "").utf8))
    let step = try cluster.gather([UInt64(finite?.step ?? 0)])[rank][0]
    throw NonFinite(
      String(decoding: said[rank], as: UTF8.self), step: Int(step), sample: Int(worst - 1))
  }
}

/// A step was left before its end because a stop was requested. The state is that before the step.
public struct StepGivenUp: Error {}

/// Another rank has failed, and says why. This one ends without a word.
public struct OtherRankFailed: Error {}
