import Cluster
import Files
public import Layers
public import TensorRuntime

/// The gradient of one optimiser step as a sum of leaves, parts of the step that depend on nothing
/// but the state, the step and their index. Each rank computes some of them. The sums are made
/// along a tree (`TreeSum`), so that they are the same bits for any number of ranks.
///
/// Where a group of ranks shares a leaf (`RankGroups`), the strips of its rows are the leaves of
/// the tree: strip s of leaf i is number i C + s.
///
/// A rank's leaves lie side by side and are added up before anything is sent; or (`GradientSums`)
/// round t of all groups computes the leaves behind t times their number, and everything is sent at
/// once.
///
///     var sum = LeafSum(leaves: 8)
///     for leaf in sum.mine(in: work) {
///       sum.begin(&training, in: work)
///       sum.add(try numbers(leaf), from: &training, leaf: leaf, in: work)   // adds gradients
///     }
///     let rows = try sum.finish(&training, in: work)        // numbers of all leaves, in order
public struct LeafSum: ~Copyable {
  private let groups: RankGroups
  private let leaves: Int
  /// Of whole gradients; in a group, of this rank's slice of them (`slice`).
  private var tree = TreeSum()
  /// With early sums: of this rank's shard, one for each message, and the rounds that are done.
  private var owned: [TreeSum] = []
  private var round = 0
  private var rows: [[Double]] = []
  private var failure: (any Error)?
  private let canBeGivenUp: Bool
  private let clock = ContinuousClock(), start: ContinuousClock.Instant
  /// In a plan: the sums that would be alive in the last leaf, beside those that are.
  private var ballast: [[Tensor]] = []

  /// `canBeGivenUp`: nothing of the state has changed in this step yet.
  public init(leaves: Int, _ groups: RankGroups = .single, canBeGivenUp: Bool = true) {
    (self.groups, self.leaves, self.canBeGivenUp) = (groups, leaves, canBeGivenUp)
    start = clock.now
  }
  private var cluster: Cluster { groups.cluster }
  private var strips: Int { groups.rows.strips }
  private var isEarly: Bool { groups.sums == .early && cluster.size > 1 }
  /// The leaves of group `group`, if these lie side by side.
  private func share(_ group: Int) -> Range<Int> {
    group * leaves / groups.count..<(group + 1) * leaves / groups.count
  }
  private func leaves(of group: Int) -> [Int] {
    isEarly ? Array(stride(from: group, to: leaves, by: groups.count)) : Array(share(group))
  }
  /// The whole subtrees that they are made of.
  private func roots(_ group: Int) -> [Range<Int>] {
    let leaves = share(group)
    return TreeSum.parts(of: leaves.lowerBound * strips..<leaves.upperBound * strips)
  }
  /// The leaves of this rank; the first two of them in a plan.
  public func mine(in work: borrowing Workspace) -> [Int] {
    let own = leaves(of: groups.mine)
    return Array(own.prefix(work.rounds(own.count)))
  }
  /// The rows of leaf `leaf` of `leaves`, where a step has `count`.
  public static func rows(_ leaf: Int, of leaves: Int, count: Int) -> Range<Int> {
    leaf * count / leaves..<(leaf + 1) * count / leaves
  }
  /// Makes the model's gradients zero, for the next leaf.
  public mutating func begin<Model: Layer>(
    _ training: inout TrainableModel<Model>, in work: borrowing Workspace
  ) {
    training.model.forEachParameter { p in
      guard p.isTrainable else { return }
      p.gradient = work.tensor(p.value.shape, p.gradient!.type)
      work.fill(&p.gradient!, with: 0)
    }
    if work.isPlanned, ballast.isEmpty { addBallast(in: work) }
  }
  private mutating func addBallast(in work: borrowing Workspace) {
    func doublings(_ n: Int) -> Int { Int.bitWidth - 1 - max(n, 1).leadingZeroBitCount }
    let (alive, missing) =
      isEarly
      ? (
        owned.compactMap { $0.parts.first?.value[0] },
        doublings(leaves) - doublings(2 * groups.count)
      )
      : (tree.parts.first?.value ?? [], doublings(share(groups.mine).count) - 1)
    if alive.isEmpty { return }
    for _ in 0..<max(missing, 0) { ballast.append(alive.map { work.zeros($0.shape, $0.type) }) }
  }
  /// Takes a leaf's gradients from the model, and remembers its numbers, as many for every leaf.
  public mutating func add<Model: Layer>(
    _ numbers: [Double], from training: inout TrainableModel<Model>, leaf: Int,
    in work: borrowing Workspace
  ) {
    rows.append(numbers)
    var value: [Tensor] = []
    training.model.forEachParameter { p in
      guard let gradient = p.gradient else { return }
      value.append(gradient)
      p.gradient = work.tensor(Shape(0), gradient.type)
    }
    let own = groups.rows.mine
    let part = TreeSum.Part(
      first: leaf * strips + own.lowerBound, leaves: own.count, value: value)
    value = []
    do {
      try groups.check()
      if !isEarly {
        tree.push(
          groups.size == 1 ? part : try sliced(part, training.shards, in: work), in: work)
      }
    } catch { fail(error) }
    if stops() && !work.isPlanned { fail(StepGivenUp()) }
    if isEarly { endRound(part, training.shards, in: work) }
  }
  /// Whether a stop is requested that the leaves which are left would keep waiting for too long.
  /// The ranks of a group would wait for each other: they end the step.
  private func stops() -> Bool {
    let left = leaves(of: groups.mine).count - rows.count
    if !canBeGivenUp || groups.size > 1 || left == 0 || !StopRequest.isPending { return false }
    let seconds = (clock.now - start) / .seconds(1)
    return seconds / Double(rows.count) * Double(left) > StopRequest.grace
  }
  /// Remembers why a leaf could not be computed. `finish` throws it, on all ranks.
  public mutating func fail(_ error: any Error) { failure = failure ?? error }
  public var hasFailed: Bool { failure != nil }

  /// Puts the summed gradients where `TrainableModel.update` finds them. Returns the numbers of all
  /// leaves, in order. Throws what stopped a leaf of this rank, or what another rank says of its
  /// own.
  public mutating func finish<Model: Layer>(
    _ training: inout TrainableModel<Model>, in work: borrowing Workspace
  ) throws -> [[Double]] {
    // The last round has no leaf for some ranks.
    let rounds = (leaves + groups.count - 1) / groups.count
    while isEarly && !work.isPlanned && !hasFailed && round < rounds {
      endRound(nil, training.shards, in: work)
    }
    let told = try Verdict.agree(on: failure, telling: rows.flatMap { $0 }, cluster, in: work)
    if cluster.size == 1 {
      var sums = tree.take().finish(in: work)
      var i = 0
      training.model.forEachParameter { p in
        guard p.isTrainable else { return }
        p.gradient = sums[i]
        sums[i] = p.gradient!.flat(0..<0)
        i += 1
      }
      sums = []
      training.model.forEachParameter { p in
        if p.isTrainable { unsign(&p.gradient!, in: work) }
      }
      return rows
    }
    training.shardGradient =
      try isEarly ? ownedSum(training.shards, in: work) : exchanged(training.shards, in: work)
    tree = TreeSum()
    if work.isPlanned { return rows }
    var all = Array(repeating: [Double](), count: leaves)
    for group in 0..<groups.count {
      let (own, numbers) = (leaves(of: group), told[groups.rank(0, of: group)])
      let width = numbers.count / max(own.count, 1)
      for (i, leaf) in own.enumerated() { all[leaf] = Array(numbers[i * width..<(i + 1) * width]) }
    }
    return all
  }
  /// Where strips have no rows of a parameter, the zeros that are added or not change -0 to 0.
  private func unsign(_ sum: inout Tensor, in work: borrowing Workspace) {
    if strips > 1 { work.add(work.zeros(sum.shape, sum.type), to: &sum) }
  }
}

/// Early sums.
extension LeafSum {
  /// Ends a round, on all ranks, of which `mine` is this one's part, if it has any.
  private mutating func endRound(
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
      var received = try transfer.wait()[...]
      for giver in givers {
        let strips = groups.rows.strips(of: giver.place)
        let value =
          giver.rank == cluster.rank
          ? shards.packed(mine!.value, own, in: work) : received.removeFirst()
        owned[message].push(
          .init(
            first: (first + giver.group) * self.strips + strips.lowerBound, leaves: strips.count,
            value: [value]), in: work)
      }
    }
  }
  /// The sum of all leaves' gradients of this rank's shard.
  private mutating func ownedSum(_ shards: Shards, in work: borrowing Workspace) -> Tensor {
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

/// What ranks send each other for a late sum.
extension LeafSum {
  /// The elements that the rank at `place` in its group adds up: the shards of `groups.count`
  /// ranks.
  private func slice(_ place: Int, _ shards: Shards) -> Range<Int> {
    shards.grains.elements(shards.grains.share(place, of: groups.size))
  }
  /// The place in each group that adds up the shard of rank `rank`.
  private func place(ofShard rank: Int) -> Int { rank / groups.count }

  /// This rank's slice of the sum of a leaf, of which every rank of the group gives its strips.
  private func sliced(
    _ part: TreeSum.Part, _ shards: Shards, in work: borrowing Workspace
  ) throws -> TreeSum.Part {
    let mine = slice(groups.place, shards)
    var sum = work.tensor(Shape(mine.count), shards.type)
    let largest = (0..<groups.size).map { slice($0, shards).count }.max()!
    for start in stride(from: 0, to: largest, by: Shards.bucket) {
      let own = Shards.part(start, of: mine)
      var transfer = Transfer(cluster)
      for place in groups.others {
        let rank = groups.rank(place, of: groups.mine)
        transfer.receive(Shape(own.count), shards.type, from: rank, in: work)
      }
      for place in groups.others {
        let packed = shards.packed(
          part.value, Shards.part(start, of: slice(place, shards)), in: work)
        transfer.send(packed, to: groups.rank(place, of: groups.mine), .sample, in: work)
      }
      var received = try transfer.wait()[...]
      var tree = TreeSum()
      for place in 0..<groups.size {
        let strips = groups.rows.strips(of: place)
        let value =
          place == groups.place
          ? shards.packed(part.value, own, in: work) : received.removeFirst()
        tree.push(.init(first: strips.lowerBound, leaves: strips.count, value: [value]), in: work)
      }
      work.paste(tree.finish(in: work)[0], into: &sum, at: own.lowerBound - mine.lowerBound)
    }
    return .init(first: part.first - groups.rows.mine.lowerBound, leaves: strips, value: [sum])
  }

  /// The sum of all leaves' gradients of this rank's shard. Every rank sends the owner of a shard
  /// the subtrees that its leaves are made of.
  private func exchanged(_ shards: Shards, in work: borrowing Workspace) throws -> Tensor {
    let type = shards.type
    let mine = shards.elements(of: cluster.rank)
    let place = place(ofShard: cluster.rank)
    var sum = work.tensor(Shape(mine.count), type)
    for start in shards.starts {
      let own = shards.part(start, of: cluster.rank)
      var transfer = Transfer(cluster)
      for group in 0..<groups.count where groups.rank(place, of: group) != cluster.rank {
        for _ in roots(group) {
          transfer.receive(
            Shape(own.count), type, from: groups.rank(place, of: group), in: work)
        }
      }
      for peer in cluster.others where self.place(ofShard: peer) == groups.place {
        for root in tree.parts {
          let packed = packed(root, shards.part(start, of: peer), shards, in: work)
          transfer.send(packed, to: peer, .step, in: work)
        }
      }
      var received = try transfer.wait()[...]
      var owned = TreeSum()
      for group in 0..<groups.count {
        let isMine = groups.rank(place, of: group) == cluster.rank
        for (i, root) in roots(group).enumerated() {
          if work.isPlanned && isMine && i >= tree.parts.count { break }
          let value =
            isMine ? packed(tree.parts[i], own, shards, in: work) : received.removeFirst()
          owned.push(
            .init(first: root.lowerBound, leaves: root.count, value: [value]), in: work)
        }
        if work.isPlanned { break }
      }
      if !work.isPlanned {
        work.paste(owned.finish(in: work)[0], into: &sum, at: own.lowerBound - mine.lowerBound)
      }
    }
    unsign(&sum, in: work)
    return sum
  }
  /// Elements `range` of all, from whole gradients or from this rank's slice.
  private func packed(
    _ part: TreeSum.Part, _ range: Range<Int>, _ shards: Shards, in work: borrowing Workspace
  ) -> Tensor {
    if groups.size == 1 { return shards.packed(part.value, range, in: work) }
    let first = slice(groups.place, shards).lowerBound
    return work.copy(part.value[0].flat(range.lowerBound - first..<range.upperBound - first))
  }
}
