import Cluster
import Layers
import TensorRuntime

/// Early sums (`GradientSums.early`): what ranks send each other after every round.
extension LeafSum {
  /// Ends a round, on all ranks, of which `mine` is this one's part, if it has any.
  mutating func endRound(
    _ mine: consuming TreeSum.Part?, _ shards: Shards, in work: borrowing Workspace
  ) {
    do {
      try Verdict.agree(on: failure, cluster, in: work)
      try give(mine, shards, in: work)
    } catch { fail(error) }
    round += 1
  }
  /// Every rank gives the owner of a shard what it has of the round's leaves.
  private mutating func give(
    _ mine: TreeSum.Part?, _ shards: Shards, in work: borrowing Workspace
  ) throws {
    let first = round * groups.count
    let givers = (0..<min(groups.count, leaves - first)).flatMap { group in
      (0..<groups.size).map { (rank: groups.rank($0, of: group), group: group, place: $0) }
    }
    if owned.isEmpty { owned = shards.starts.map { _ in TreeSum() } }
    for (message, start) in shards.starts.enumerated() {
      let own = shards.part(start, of: cluster.rank)
      var transfer = Transfer(cluster)
      for giver in givers where giver.rank != cluster.rank {
        transfer.receive(Shape(own.count), shards.type, from: giver.rank, in: work)
      }
      for peer in cluster.others {
        guard let mine else { break }
        transfer.send(
          shards.packed(mine.value, shards.part(start, of: peer), in: work), to: peer, .sample,
          in: work)
      }
      var received = try transfer.wait()
      for giver in givers {
        let strips = groups.rows.strips(of: giver.place)
        let value =
          giver.rank == cluster.rank
          ? shards.packed(mine!.value, own, in: work) : received.next()!
        owned[message].push(
          .init(
            first: (first + giver.group) * self.strips + strips.lowerBound, leaves: strips.count,
            value: [value]), in: work)
      }
    }
  }
  /// The sum of all leaves' gradients of this rank's shard.
  mutating func ownedSum(_ shards: Shards, in work: borrowing Workspace) -> Tensor {
    let mine = shards.elements(of: cluster.rank)
    var sum = work.tensor(Shape(mine.count), shards.type)
    for (message, start) in shards.starts.enumerated() {
      let own = shards.part(start, of: cluster.rank)
      work.paste(
        owned[message].take().finish(in: work)[0], into: &sum, at: own.lowerBound - mine.lowerBound)
    }
    unsign(&sum, in: work)
    return sum
  }
}
