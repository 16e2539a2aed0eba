import Cluster
import Layers
import TensorRuntime

/// Late sums (`GradientSums.late`): what ranks send each other once a step, and those of a group
/// after every leaf.
extension LeafSum {
  /// The elements that the rank at `place` in its group adds up: the shards of `groups.count`
  /// ranks.
  private func slice(_ place: Int, _ shards: Shards) -> Range<Int> {
    shards.grains.elements(shards.grains.share(place, of: groups.size))
  }
  /// The place in each group that adds up the shard of rank `rank`.
  private func place(ofShard rank: Int) -> Int { rank / groups.count }

  /// This rank's slice of the sum of a leaf, of which every rank of the group gives its strips.
  func sliced(
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
      var received = try transfer.wait()
      var tree = TreeSum()
      for place in 0..<groups.size {
        let strips = groups.rows.strips(of: place)
        let value =
          place == groups.place
          ? shards.packed(part.value, own, in: work) : received.next()!
        tree.push(.init(first: strips.lowerBound, leaves: strips.count, value: [value]), in: work)
      }
      work.paste(tree.finish(in: work)[0], into: &sum, at: own.lowerBound - mine.lowerBound)
    }
    return .init(first: part.first - groups.rows.mine.lowerBound, leaves: strips, value: [sum])
  }

  /// The sum of all leaves' gradients of this rank's shard. Every rank sends the owner of a shard
  /// the subtrees that its leaves are made of.
  func exchanged(_ shards: Shards, in work: borrowing Workspace) throws -> Tensor {
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
      var received = try transfer.wait()
      var owned = TreeSum()
      for group in 0..<groups.count {
        let isMine = groups.rank(place, of: group) == cluster.rank
        for (i, root) in roots(group).enumerated() {
          if work.isPlanned && isMine && i >= tree.parts.count { break }
          let value =
            isMine ? packed(tree.parts[i], own, shards, in: work) : received.next()!
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
