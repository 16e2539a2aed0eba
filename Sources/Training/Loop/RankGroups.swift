public import Cluster
public import Files
public import Layers
public import Models
import Synchronization
import TensorRuntime

/// When ranks give each other the gradients of a step. The bits are the same.
public enum GradientSums: String, Codable, Sendable, CaseIterable {
  /// At its end: each rank the sums of its own leaves.
  case late
  /// After every leaf: a rank never holds more than one whole gradient, and sends as many as it has
  /// leaves.
  case early
}

/// The ranks of a run in groups, each of which shares the rows of a sample (`RowShare`).
/// Consecutive ranks are a group, so that those of one host are.
///
/// The bits depend on the number of strips alone. So groups are made no larger than the number of
/// ranks allows: a run goes on with any number of them.
public struct RankGroups: Sendable {
  public let cluster: Cluster
  /// Ranks of a group.
  public let size: Int
  /// What this rank has of a sample's rows.
  public let rows: RowShare
  public let sums: GradientSums
  private let exchange: GroupExchange?

  /// `group` is the largest number of ranks of a group, `strips` that of strips.
  public init(
    group: Int = 1, strips: Int = 1, sums: GradientSums = .late, _ cluster: Cluster = .current
  ) {
    var size = group
    while cluster.size % size != 0 { size /= 2 }
    exchange = size > 1 ? GroupExchange(cluster, count: size) : nil
    (self.cluster, self.size, rows) = (cluster, size, RowShare(strips: strips, exchange))
    self.sums = sums
  }
  /// Every rank by itself.
  public static var single: RankGroups { RankGroups() }

  /// Groups, the one of this rank, and its place in it.
  var count: Int { cluster.size / size }
  var mine: Int { cluster.rank / size }
  var place: Int { cluster.rank % size }
  func rank(_ place: Int, of group: Int) -> Int { group * size + place }
  /// The other places of this group.
  var others: [Int] { (0..<size).filter { $0 != place } }

  /// Says that groups are smaller than `group`; nil if they are not, or in one process.
  public static func note(group: Int) -> String? {
    let groups = RankGroups(group: group, strips: group)
    guard groups.size < group, groups.cluster.size > 1 else { return nil }
    return """
      groups of \(groups.size) rank\(groups.size == 1 ? "" : "s"): cluster.group \(group) does not \
      divide \(groups.cluster.size) ranks
      """
  }

  /// Throws what has cut this rank off from its group.
  public func check() throws { try exchange?.check() }

  /// Refuses numbers that do not go together.
  public static func check(group: Int, strips: Int) throws(ConfigurationError) {
    if group & (group - 1) != 0 {
      throw ConfigurationError(
        "groups of \(group) ranks", "cluster.group", "give a power of two: 1, 2, 4, 8")
    }
    if strips & (strips - 1) != 0 || strips % group != 0 {
      throw ConfigurationError(
        "\(strips) strips for groups of \(group) ranks", "cluster.strips",
        "give a power of two that is at least cluster.group: \(max(group, 1))")
    }
  }
  /// Refuses a network or latents `[C, n, h, w]` that are too small for these groups.
  public func check(
    _ model: some VideoDenoiser, latentShape shape: [Int]
  ) throws(ConfigurationError) {
    if rows.strips == 1 { return }
    guard let (tokens, heads) = model.shared(latentShape: shape) else {
      throw ConfigurationError(
        "this network is not cut into strips", "cluster.strips",
        "set cluster.strips and cluster.group to 1")
    }
    if size > heads {
      throw ConfigurationError(
        "groups of \(size) ranks for \(heads) heads of attention", "cluster.group",
        "give at most as many ranks as heads")
    }
    if rows.strips > tokens {
      throw ConfigurationError(
        "\(rows.strips) strips of \(tokens) rows", "cluster.strips", "give at most as many as rows")
    }
  }
}

/// Messages among the ranks of a group. The first fault is kept, and nothing is sent after it.
final class GroupExchange: RowExchange {
  private let cluster: Cluster
  let count: Int
  private let fault = Mutex<ClusterError?>(nil)

  init(_ cluster: Cluster, count: Int) { (self.cluster, self.count) = (cluster, count) }
  var index: Int { cluster.rank % count }
  func check() throws(ClusterError) {
    if let fault = fault.withLock({ $0 }) { throw fault }
  }

  func exchange(_ pieces: [[Tensor]], shapes: [[Shape]], in work: borrowing Workspace)
    -> [[Tensor]]
  {
    let first = cluster.rank - index
    let others = (0..<count).filter { $0 != index }
    var transfer = Transfer(cluster)
    if fault.withLock({ $0 != nil }) { return zeros(pieces, shapes, in: work) }
    for place in others {
      for (shape, own) in zip(shapes[place], pieces[index]) {
        transfer.receive(shape, own.type, from: first + place, in: work)
      }
    }
    for place in others {
      for x in pieces[place] { transfer.send(x, to: first + place, .sample, in: work) }
    }
    do {
      var received = try transfer.wait()
      return (0..<count).map { place in
        place == index ? pieces[index] : received.next(shapes[place].count)
      }
    } catch {
      fault.withLock { $0 = error }
      return zeros(pieces, shapes, in: work)
    }
  }
  private func zeros(_ pieces: [[Tensor]], _ shapes: [[Shape]], in work: borrowing Workspace)
    -> [[Tensor]]
  {
    shapes.map { list in zip(list, pieces[index]).map { work.zeros($0, $1.type) } }
  }
}
