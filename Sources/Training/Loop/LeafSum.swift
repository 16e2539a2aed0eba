public import Cluster
public import Layers
public import TensorRuntime

/// The gradient of one optimiser step as a sum of leaves, parts of the step that depend on nothing
/// but the state, the step and their index. Each rank computes some of them. The sums are made along
/// a tree (`TreeSum`), so that they are the same bits for any number of ranks.
///
///     var sum = LeafSum(leaves: 8)
///     for leaf in sum.mine(in: work) {
///       sum.begin(&training, in: work)
///       sum.add(try numbers(leaf), from: &training, leaf: leaf, in: work)   // adds gradients
///     }
///     let rows = try sum.finish(&training, in: work)        // numbers of all leaves, in order
public struct LeafSum: ~Copyable {
  private let cluster: Cluster
  private let leaves: Int
  private var tree = TreeSum()
  private var rows: [[Double]] = []
  private var failure: (any Error)?
  /// In a plan: the sums that would be alive in the last leaf, beside those that are.
  private var ballast: [[Tensor]] = []

  public init(leaves: Int, _ cluster: Cluster = .current) {
    (self.cluster, self.leaves) = (cluster, leaves)
  }
  private func share(_ rank: Int) -> Range<Int> {
    rank * leaves / cluster.size..<(rank + 1) * leaves / cluster.size
  }
  /// The leaves of this rank; the first two of them in a plan.
  public func mine(in work: borrowing Workspace) -> Range<Int> {
    let own = share(cluster.rank)
    return own.lowerBound..<own.lowerBound + work.rounds(own.count)
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
      p.gradient = work.tensor(p.value.shape, p.value.type)
      work.fill(&p.gradient!, with: 0)
    }
    if work.isPlanned, let value = tree.parts.first?.value, ballast.isEmpty {
      let most = (Int.bitWidth - 1) - max(share(cluster.rank).count, 1).leadingZeroBitCount
      for _ in 0..<max(most - 1, 0) { ballast.append(value.map { work.zeros($0.shape, $0.type) }) }
    }
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
    tree.push(leaf: leaf, value, in: work)
  }
  /// Remembers why a leaf could not be computed. `finish` throws it, on all ranks.
  public mutating func fail(_ error: any Error) { failure = failure ?? error }
  public var hasFailed: Bool { failure != nil }

  /// Puts the summed gradients where `TrainableModel.update` finds them. Returns the numbers of all
  /// leaves, in order. Throws what stopped a leaf of this rank, or what another rank says of its own.
  public mutating func finish<Model: Layer>(
    _ training: inout TrainableModel<Model>, in work: borrowing Workspace
  ) throws -> [[Double]] {
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
      return rows
    }
    training.shardGradient = try exchanged(training.shards, in: work)
    tree = TreeSum()
    if work.isPlanned { return rows }
    return told.indices.flatMap { rank in
      let leaves = share(rank).count
      let width = told[rank].count / max(leaves, 1)
      return (0..<leaves).map { Array(told[rank][$0 * width..<($0 + 1) * width]) }
    }
  }

  /// The sum of all leaves' gradients of this rank's shard. Every rank sends the owner of a shard
  /// the subtrees that its leaves are made of.
  private func exchanged(_ shards: Shards, in work: borrowing Workspace) throws -> Tensor {
    let type = shards.type
    let roots = (0..<cluster.size).map { TreeSum.parts(of: share($0)) }
    let mine = shards.elements(of: cluster.rank)
    var sum = work.tensor(Shape(mine.count), type)
    for start in shards.starts {
      let own = shards.part(start, of: cluster.rank)
      var transfer = Transfer(cluster)
      for peer in cluster.others {
        for _ in roots[peer] { transfer.receive(Shape(own.count), type, from: peer, in: work) }
      }
      for peer in cluster.others {
        for root in tree.parts {
          let packed = shards.packed(root.value, shards.part(start, of: peer), in: work)
          if !work.isPlanned { transfer.send(packed, to: peer) }
        }
      }
      var received = try transfer.wait()[...]
      var owned = TreeSum()
      for rank in 0..<cluster.size {
        for (i, root) in roots[rank].enumerated() {
          if work.isPlanned && rank == cluster.rank && i >= tree.parts.count { break }
          let value =
            rank == cluster.rank
            ? shards.packed(tree.parts[i].value, own, in: work) : received.removeFirst()
          owned.push(
            .init(first: root.lowerBound, leaves: root.count, value: [value]), in: work)
        }
        if work.isPlanned { break }
      }
      if !work.isPlanned {
        work.paste(owned.finish(in: work)[0], into: &sum, at: own.lowerBound - mine.lowerBound)
      }
    }
    return sum
  }
}
