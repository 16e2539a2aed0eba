internal import CMpi
internal import FoundationEssentials
public import TensorRuntime

/// What has arrived, in order. It gives every tensor away, so that sums may be made in its memory.
public struct Received: Sequence, IteratorProtocol {
  private var reversed: [Tensor]
  fileprivate init(reversed: [Tensor]) { self.reversed = reversed }
  public mutating func next() -> Tensor? { reversed.popLast() }
  public mutating func next(_ count: Int) -> [Tensor] { (0..<count).map { _ in next()! } }
}

/// Messages of tensors, posted at once and waited for together. Two ranks must post what they send
/// each other in the same order.
public struct Transfer: ~Copyable {
  private let cluster: Cluster
  private var sent: [(number: UInt64, tensor: Tensor, peer: Int)] = []
  private var received: [(number: UInt64, tensor: Tensor, peer: Int)] = []
  public init(_ cluster: Cluster) { self.cluster = cluster }

  /// In a plan it is only counted.
  public mutating func send(
    _ x: Tensor, to peer: Int, _ occasion: MemoryPlan.Occasion, in work: borrowing Workspace
  ) {
    if work.isPlanned { work.countSent(x.byteCount, occasion) } else { send(x, to: peer) }
  }
  public mutating func send(_ x: Tensor, to peer: Int) {
    if x.byteCount == 0 { return }
    let number = unsafe x.withBytes { unsafe pm_send($0.baseAddress!, $0.count, Int32(peer)) }
    sent.append((number, x, peer))
  }
  /// The tensor is among the results of `wait`, in the order of these calls.
  public mutating func receive(
    _ shape: Shape, _ type: ElementType, from peer: Int, in work: borrowing Workspace
  ) {
    var x = work.tensor(shape, type)
    let number =
      x.byteCount == 0 || work.isPlanned
      ? 0
      : unsafe x.withMutableBytes { unsafe pm_receive($0.baseAddress!, $0.count, Int32(peer)) }
    received.append((number, x, peer))
  }
  /// Waits until everything has arrived and everything sent may be written again. Throws status 71
  /// if a rank gives no sign of life for the cluster's patience.
  public consuming func wait() throws(ClusterError) -> Received {
    for (number, _, peer) in received where number > 0 { try Self.wait(number, peer, cluster) }
    for (number, _, peer) in sent { try Self.wait(number, peer, cluster) }
    return Received(reversed: received.reversed().map(\.tensor))
  }
  static func wait(_ number: UInt64, _ peer: Int, _ cluster: Cluster) throws(ClusterError) {
    let begin = Date.now
    let code = pm_wait(number)
    Waiting.add(Date.now.timeIntervalSince(begin))
    if code == 0 { return }
    let silent = code < 0 ? Int(pm_silent_rank()) : peer
    let how =
      code < 0
      ? "no sign of life for \(Int(cluster.patience)) s" : "MPI returned error \(code)"
    throw ClusterError(
      status: ClusterError.lost,
      what: "waiting for rank \(silent) (\(cluster.hosts[silent])), \(how)",
      place: cluster.activity,
      mend: "a process or link of the job is lost: start it again with --resume")
  }
}
