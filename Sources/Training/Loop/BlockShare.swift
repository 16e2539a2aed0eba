import Cluster
public import TensorRuntime

/// Work in blocks that do not depend on each other: samples, latents, rollouts. Block i is computed
/// by rank i mod N, and every rank gets the results of all. What a block is does not depend on the
/// number of ranks, so neither do its bits.
public enum BlockShare {
  /// How many blocks are computed at the same time.
  public static var width: Int { Cluster.current.size }
  /// `shapes(i)` and types of the tensors that `body` makes of block i; `take` gets them, in any
  /// order. A plan runs the first two blocks.
  public static func run(
    _ count: Int, in work: borrowing Workspace,
    shapes: (Int) -> [(Shape, ElementType)], body: (Int, borrowing Workspace) throws -> [Tensor],
    take: (Int, [Tensor], borrowing Workspace) -> Void
  ) throws {
    let cluster = Cluster.current
    let mine = Array(stride(from: cluster.rank, to: count, by: cluster.size))
    var own: [(block: Int, results: [Tensor])] = []
    var failure: (any Error)?
    for block in mine.prefix(work.rounds(mine.count)) {
      do {
        let results = try body(block, work)
        if cluster.size > 1 { own.append((block, results)) }
        take(block, results, work)
      } catch {
        failure = error
        break
      }
    }
    try Verdict.agree(on: failure, cluster, in: work)
    if cluster.size == 1 || work.isPlanned { return }
    var transfer = Transfer(cluster)
    var expected: [(block: Int, tensors: Int)] = []
    for peer in cluster.others {
      for block in stride(from: peer, to: count, by: cluster.size) {
        let shapes = shapes(block)
        for (shape, type) in shapes { transfer.receive(shape, type, from: peer, in: work) }
        expected.append((block, shapes.count))
      }
      for (_, results) in own { for x in results { transfer.send(x, to: peer) } }
    }
    var received = try transfer.wait()
    for (block, tensors) in expected { take(block, received.next(tensors), work) }
  }
}
