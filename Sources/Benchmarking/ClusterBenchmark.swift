import Cluster
import Layers
public import TensorRuntime
import Training

/// What the links between ranks give, and what a step's sums cost on them. Every rank calls these;
/// results are the same on all.
public enum ClusterBenchmark {
  /// Pairs of ranks that differ in one bit of their numbers, measured at the same time.
  public struct Link: Sendable {
    public let distance: Int
    /// Of the median pair: seconds of a message of 8 bytes each way, and bytes a second each way of
    /// 1 MiB with both directions busy.
    public let latency, bytesPerSecond: Double
    /// The slowest pair, and its bytes a second.
    public let slowest: (ranks: (Int, Int), bytesPerSecond: Double)
  }
  public static func links(in work: borrowing Workspace) throws -> [Link] {
    let cluster = Cluster.current
    var links: [Link] = []
    var distance = 1
    while distance < cluster.size {
      let peer = cluster.rank ^ distance
      var (latency, seconds) = (Double.infinity, Double.infinity)
      try cluster.barrier()
      if peer < cluster.size {
        latency = try median(21, bytes: 8, with: peer, in: work)
        seconds = try median(9, bytes: 1 << 20, with: peer, in: work)
      }
      let rows = try cluster.gather([latency, seconds])
      let pairs = rows.indices.filter { $0 < $0 ^ distance && rows[$0][1].isFinite }
      let slowest = pairs.max { rows[$0][1] < rows[$1][1] }!
      func middle(_ k: Int) -> Double { pairs.map { rows[$0][k] }.sorted()[pairs.count / 2] }
      links.append(
        Link(
          distance: distance, latency: middle(0),
          bytesPerSecond: Double(1 << 20) / middle(1),
          slowest: ((slowest, slowest ^ distance), Double(1 << 20) / rows[slowest][1])))
      distance *= 2
    }
    return links
  }
  private static func median(
    _ times: Int, bytes: Int, with peer: Int, in work: borrowing Workspace
  ) throws -> Double {
    let message = work.zeros(Shape(bytes), .u8)
    let clock = ContinuousClock()
    var seconds: [Double] = []
    for _ in 0..<times {
      let start = clock.now
      var transfer = Transfer(Cluster.current)
      transfer.receive(message.shape, .u8, from: peer, in: work)
      transfer.send(message, to: peer)
      _ = try transfer.wait()
      seconds.append((clock.now - start) / .seconds(1))
    }
    return seconds.sorted()[times / 2]
  }

  /// A step of `count` parameters with one leaf a rank.
  public struct Step: Sendable {
    /// Summing the gradients, and updating and exchanging the parameters.
    public let sum, update: Double
    /// Whether the parameters are those of one process, to the bit.
    public let isVerified: Bool
  }
  public static func step(of count: Int, in work: borrowing Workspace) throws -> Step {
    struct One: Layer {
      var weight: Parameter
      mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
        try body(&weight)
      }
    }
    func gradient(_ leaf: Int, _ step: Int, in work: borrowing Workspace) -> Tensor {
      RandomStream(seed: 5, .bench, step: step, sample: leaf).normal(Shape(count), in: work)
    }
    let cluster = Cluster.current
    let clock = ContinuousClock()
    var model = One(weight: Parameter("weight", work.zeros(Shape(count))))
    model.makeTrainable(in: work)
    var alone = model
    var optimizer = AdamW(.init(), for: alone, in: work)
    var training = TrainableModel(model, .init(), in: work)
    var (sums, updates) = ([Double](), [Double]())
    for step in 0..<5 {
      var sum = LeafSum(leaves: cluster.size)
      for leaf in sum.mine(in: work) {
        sum.begin(&training, in: work)
        training.model.weight.gradient = gradient(leaf, step, in: work)
        sum.add([], from: &training, leaf: leaf, in: work)
      }
      try cluster.barrier()
      let start = clock.now
      _ = try sum.finish(&training, in: work)
      let middle = clock.now
      let norm = try training.update(loss: 0, rate: 0.01, maximumNorm: 1, step: step, in: work)
      if step > 0 {
        sums.append((middle - start) / .seconds(1))
        updates.append((clock.now - middle) / .seconds(1))
      }
      // The same by this rank alone.
      var tree = TreeSum()
      for leaf in 0..<cluster.size {
        tree.push(leaf: leaf, [gradient(leaf, step, in: work)], in: work)
      }
      alone.weight.gradient = tree.finish(in: work)[0]
      optimizer.step(
        &alone, learningRate: 0.01, gradientScale: clippingFactor(norm: norm, maximum: 1), in: work)
    }
    let differs = work.sumOfAbsoluteDifferences(training.model.weight.value, alone.weight.value)
    let rows = try cluster.gather([sums.min()!, updates.min()!, differs])
    return Step(
      sum: rows.map { $0[0] }.max()!, update: rows.map { $0[1] }.max()!,
      isVerified: rows.allSatisfy { $0[2] == 0 })
  }
}
