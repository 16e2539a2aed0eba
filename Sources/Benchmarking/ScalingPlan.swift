import Layers

#if canImport(Glibc)
  import Glibc
#endif

/// Time, traffic and memory of a training step on N nodes, one rank a node, predicted from a run of
/// one process and from the links. `Documentation/cluster.md` has the formulas.
public struct ScalingPlan: Sendable {
  /// Of a step of one process: seconds, leaves, trained parameters, peak memory.
  public var seconds: Double, leaves: Int, parameters: Int, peakBytes: Int
  /// Memory of a gradient of all parameters, and of all that ranks share out: both moments, and the
  /// masters of parameters in bf16.
  public var gradientBytes, sharedBytes: Int
  /// Bytes of a parameter as it is stored and sent.
  public var parameterBytes = 4
  /// Whether gradients are sent after every leaf (`GradientSums.early`).
  public var sendsEarly = false
  /// Bytes of a checkpoint.
  public var checkpointBytes: Int
  /// Of a link: seconds of a message, and bytes a second each way with both directions busy.
  public var latency: Double, bytesPerSecond: Double
  /// Memory bandwidth of a node, and bytes a second of the file system.
  public var memoryRate: Double, fileRate: Double
  /// Seconds between two failures of one node.
  static let failure = 365.0 * 86400
  /// Young's interval (1974) between checkpoints, with one failure a node and year.
  static func interval(_ checkpoint: Double, nodes: Int) -> Double {
    (2 * checkpoint * failure / Double(nodes)).squareRoot()
  }
  public init(
    seconds: Double, leaves: Int, parameters: Int, peakBytes: Int, gradientBytes: Int,
    sharedBytes: Int, checkpointBytes: Int, latency: Double, bytesPerSecond: Double,
    memoryRate: Double, fileRate: Double
  ) {
    (self.seconds, self.leaves, self.parameters, self.peakBytes) = (
      seconds, leaves, parameters, peakBytes
    )
    (self.gradientBytes, self.sharedBytes) = (gradientBytes, sharedBytes)
    (self.checkpointBytes, self.latency, self.bytesPerSecond) = (
      checkpointBytes, latency, bytesPerSecond
    )
    (self.memoryRate, self.fileRate) = (memoryRate, fileRate)
  }

  public struct Point: Sendable, Equatable {
    public let nodes: Int
    /// Ranks that share a leaf.
    public var group = 1
    /// Of a step: all of it; what the slowest rank computes; what is exchanged, and its bytes sent
    /// by a rank.
    public let seconds, compute, exchange: Double
    public let bytesSent: Int
    /// Speed-up, divided by the number of nodes.
    public let efficiency: Double
    /// Of a rank.
    public let peakBytes: Int
    public let checkpointSeconds: Double
    /// Young's interval (1974): √(2 x time of a checkpoint x time between failures).
    public let checkpointInterval: Double
    /// The shortest notice before a time limit in which a step and a checkpoint end.
    public let notice: Double
  }
  /// nil if there are more nodes than leaves.
  public subscript(nodes: Int) -> Point? {
    if nodes < 1 || nodes > leaves { return nil }
    let n = Double(nodes)
    let gradient = 4 * Double(parameters)
    // Gradient, value and both moments are read, three of them written.
    let update = 7 * gradient / memoryRate
    let leaf = max(seconds - update, 0) / Double(leaves)
    let own = (leaves + nodes - 1) / nodes
    let compute = Double(own) * leaf + update / n
    let share = (n - 1) / n
    let roots = (0..<nodes).map { rank in
      TreeSum.parts(of: rank * leaves / nodes..<(rank + 1) * leaves / nodes).count
    }.max()!
    let sent = sendsEarly ? own : roots
    let values = Double(parameterBytes * parameters)
    let bytes = nodes == 1 ? 0 : (gradient * Double(sent) + values) * share
    // Packed before it is sent, and put into its place afterwards; five rounds of small rows.
    let exchange =
      nodes == 1
      ? 0
      : bytes / bytesPerSecond + 3 * bytes / memoryRate + latency * (2 * (n - 1) + 5)
    let step = (compute + exchange) * (nodes == 1 ? 1 : 1.02)
    func alive(_ leaves: Int) -> Double {
      Double(Int.bitWidth - 1 - max(leaves, 1).leadingZeroBitCount + 1)
    }
    let saved =
      Double(sharedBytes) * share
      + Double(gradientBytes)
      * (alive(leaves) - (sendsEarly && nodes > 1 ? 1 + (alive(own) - 1) / n : alive(own)))
    let checkpoint = Double(checkpointBytes) / fileRate
    return Point(
      nodes: nodes, seconds: step, compute: compute, exchange: exchange, bytesSent: Int(bytes),
      efficiency: seconds / step / n, peakBytes: max(peakBytes - Int(saved), 0),
      checkpointSeconds: checkpoint,
      checkpointInterval: Self.interval(checkpoint, nodes: nodes), notice: step + checkpoint)
  }
}
