import ArgumentParser
import Cluster
import Files

/// `--shard I/N`: part I of N, 0 ≤ I < N.
enum ShardOption {
  static let help = """
    Do part I of N, I from 0 on, and write its results alone; for job arrays, without MPI.
    """
  static func parse(_ text: String) throws -> PairQueue.Share {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let i = parts[0], let n = parts[1], n > 0, (0..<n).contains(i) else {
      throw ValidationError(
        "--shard is \(text): write it as I/N with I from 0 to N - 1, such as 0/4")
    }
    return .init(i, of: n)
  }
  /// The share of this process: one of `--shard`, or its rank's.
  static func share(_ shard: String?) throws -> PairQueue.Share {
    let cluster = Cluster.current
    if let shard {
      if cluster.size > 1 {
        throw ValidationError("--shard and several ranks exclude each other")
      }
      return try parse(shard)
    }
    return .init(cluster.rank, of: cluster.size)
  }
}
