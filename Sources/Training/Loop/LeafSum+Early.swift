import Cluster
import Layers
import TensorRuntime

/// Early and overlapped sums (`GradientSums`): what ranks send each other after every round.
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
  /// What is given in a round: who gives, and this rank's part of its own shard, one tensor for
  /// each message.
  struct Round: Sendable {
    typealias Giver = (rank: Int, group: Int, place: Int)
    let firstLeaf: Int, givers: [Giver]
    var own: [Tensor] = []
  }
  /// Every rank gives the owner of a shard what it has of the round's leaves.
  private mutating func give(
    _ mine: consuming TreeSum.Part?, _ shards: Shards, in work: borrowing Workspace
  ) throws {
    let first = round * groups.count
    var given = Round(
      firstLeaf: first,
      givers: (0..<min(groups.count, leaves - first)).flatMap { group in
        (0..<groups.size).map { (rank: groups.rank($0, of: group), group: group, place: $0) }
      })
    if owned.isEmpty { owned = shards.starts.map { _ in TreeSum() } }
    if groups.sums == .overlapped {
      try arrive(in: work)
      var posted = Transfer(cluster)
      for start in shards.starts { post(mine, start, &given, &posted, shards, in: work) }
      travelling = given
      transfer = consume posted
      return
    }
    for (message, start) in shards.starts.enumerated() {
      var posted = Transfer(cluster)
      given.own = []
      post(mine, start, &given, &posted, shards, in: work)
      var received = try posted.wait()[...]
      push(given, given.own.first, message, &received, in: work)
    }
  }
  /// Posts the message that begins at `start`.
  private func post(
    _ mine: TreeSum.Part?, _ start: Int, _ given: inout Round, _ transfer: inout Transfer,
    _ shards: Shards, in work: borrowing Workspace
  ) {
    let own = shards.part(start, of: cluster.rank)
    for giver in given.givers where giver.rank != cluster.rank {
      transfer.receive(Shape(own.count), shards.type, from: giver.rank, in: work)
    }
    guard let mine else { return }
    for peer in cluster.others {
      transfer.send(
        shards.packed(mine.value, shards.part(start, of: peer), in: work), to: peer, .sample,
        in: work)
    }
    given.own.append(shards.packed(mine.value, own, in: work))
  }
  /// Waits for the round that is on its way, if there is one, and adds it.
  mutating func arrive(in work: borrowing Workspace) throws {
    guard let given = travelling, let posted = transfer.take() else { return }
    travelling = nil
    var received = try posted.wait()[...]
    for message in owned.indices {
      push(
        given, message < given.own.count ? given.own[message] : nil, message, &received, in: work)
    }
  }
  /// Adds the pieces of all givers, in the order of their leaves.
  private mutating func push(
    _ given: Round, _ own: Tensor?, _ message: Int, _ received: inout ArraySlice<Tensor>,
    in work: borrowing Workspace
  ) {
    for giver in given.givers {
      let strips = groups.rows.strips(of: giver.place)
      let value = giver.rank == cluster.rank ? own! : received.removeFirst()
      owned[message].push(
        .init(
          first: (given.firstLeaf + giver.group) * self.strips + strips.lowerBound,
          leaves: strips.count, value: [value]), in: work)
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
