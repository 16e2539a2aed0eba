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
  let groups: RankGroups
  let leaves: Int
  /// Of whole gradients; in a group, of this rank's slice of them (`slice`).
  var tree = TreeSum()
  /// With early sums: of this rank's shard, one for each message, and the rounds that are done.
  var owned: [TreeSum] = []
  var round = 0
  private var rows: [[Double]] = []
  private(set) var failure: (any Error)?
  private let canBeGivenUp: Bool
  private let clock = ContinuousClock(), start: ContinuousClock.Instant
  /// In a plan: the sums that would be alive in the last leaf, beside those that are.
  private var ballast: [[Tensor]] = []

  /// `canBeGivenUp`: nothing of the state has changed in this step yet.
  public init(leaves: Int, _ groups: RankGroups = .single, canBeGivenUp: Bool = true) {
    (self.groups, self.leaves, self.canBeGivenUp) = (groups, leaves, canBeGivenUp)
    start = clock.now
  }
  var cluster: Cluster { groups.cluster }
  var strips: Int { groups.rows.strips }
  private var isEarly: Bool { groups.sums == .early && cluster.size > 1 }
  /// The leaves of group `group`, if these lie side by side.
  private func share(_ group: Int) -> Range<Int> {
    group * leaves / groups.count..<(group + 1) * leaves / groups.count
  }
  private func leaves(of group: Int) -> [Int] {
    isEarly ? Array(stride(from: group, to: leaves, by: groups.count)) : Array(share(group))
  }
  /// The whole subtrees that they are made of.
  func roots(_ group: Int) -> [Range<Int>] {
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
      p.gradient = work.zerosOnDemand(p.value.shape, p.gradient!.type)
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
  func unsign(_ sum: inout Tensor, in work: borrowing Workspace) {
    if strips > 1 { work.add(work.zeros(sum.shape, sum.type), to: &sum) }
  }
}
