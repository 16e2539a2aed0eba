internal import CMpi

extension Cluster {
  /// A row of every rank, by rank, on every rank. All rows have the same number of elements.
  public func gather(_ row: [UInt64]) throws(ClusterError) -> [[UInt64]] {
    if size == 1 { return [row] }
    var rows = Array(repeating: row, count: size)
    try exchange(
      sending: { _ in unsafe row.withUnsafeBytes { unsafe Array($0) } },
      receiving: { _ in row.count * 8 }
    ) { peer, bytes in
      rows[peer] = (0..<row.count).map { i in
        (0..<8).reduce(0) { $0 | UInt64(bytes[i * 8 + $1]) << UInt64(8 * $1) }
      }
    }
    return rows
  }
  /// The same of numbers.
  public func gather(_ row: [Double]) throws(ClusterError) -> [[Double]] {
    try gather(row.map(\.bitPattern)).map { $0.map { Double(bitPattern: $0) } }
  }
  /// Bytes of every rank, of any length, on every rank.
  public func gather(bytes: [UInt8]) throws(ClusterError) -> [[UInt8]] {
    if size == 1 { return [bytes] }
    let lengths = try gather([UInt64(bytes.count)]).map { Int($0[0]) }
    var all = Array(repeating: bytes, count: size)
    try exchange(sending: { _ in bytes }, receiving: { lengths[$0] }) { all[$0] = $1 }
    return all
  }
  /// Rows of unequal lengths, which are known: `counts[r]` numbers of rank r.
  public func gather(_ row: [Double], counts: [Int]) throws(ClusterError) -> [[Double]] {
    precondition(row.count == counts[rank], "\(row.count) numbers, \(counts[rank]) promised")
    if size == 1 { return [row] }
    var rows = Array(repeating: row, count: size)
    let bits = row.map(\.bitPattern)
    try exchange(
      sending: { _ in unsafe bits.withUnsafeBytes { unsafe Array($0) } },
      receiving: { counts[$0] * 8 }
    ) { peer, bytes in
      rows[peer] = (0..<counts[peer]).map { i in
        Double(
          bitPattern: (0..<8).reduce(0) { $0 | UInt64(bytes[i * 8 + $1]) << UInt64(8 * $1) })
      }
    }
    return rows
  }
  /// The first rank's bytes, on every rank. The others give nothing.
  public func broadcast(_ bytes: [UInt8]) throws(ClusterError) -> [UInt8] {
    try gather(bytes: isFirst ? bytes : [])[0]
  }
  /// Waits for all ranks.
  public func barrier() throws(ClusterError) { _ = try gather([0 as UInt64]) }

  /// Sends `sending(r)` to every other rank r, and gives `take` what each of them sent.
  private func exchange(
    sending: (Int) -> [UInt8], receiving: (Int) -> Int, take: (Int, [UInt8]) -> Void
  ) throws(ClusterError) {
    let others = (0..<size).filter { $0 != rank }
    var transfers: [(message: Message, peer: Int, isReceived: Bool)] = []
    for peer in others {
      transfers.append((Message(receiving: receiving(peer), from: peer), peer, true))
      transfers.append((Message(sending: sending(peer), to: peer), peer, false))
    }
    for (message, peer, _) in transfers { try message.wait(peer, self) }
    for (message, peer, isReceived) in transfers where isReceived { take(peer, message.bytes) }
  }
}

/// What a rank sends to another one without waiting, in the order in which it is received.
public final class Outbox {
  private let cluster: Cluster
  private var sent: [(Message, Int)] = []
  public init(_ cluster: Cluster) { self.cluster = cluster }
  public func send(_ bytes: [UInt8], to peer: Int) {
    let length = (0..<8).map { UInt8(truncatingIfNeeded: bytes.count >> (8 * $0)) }
    sent += [(Message(sending: length, to: peer), peer), (Message(sending: bytes, to: peer), peer)]
  }
  /// Waits until all of it has been received.
  public func finish() throws(ClusterError) {
    for (message, peer) in sent { try message.wait(peer, cluster) }
    sent = []
  }
}
extension Cluster {
  /// What `peer` has sent by an outbox.
  public func receive(from peer: Int) throws(ClusterError) -> [UInt8] {
    let length = Message(receiving: 8, from: peer)
    try length.wait(peer, self)
    let bytes = Message(
      receiving: length.bytes.reversed().reduce(0) { $0 << 8 | Int($1) }, from: peer)
    try bytes.wait(peer, self)
    return bytes.bytes
  }
}

/// Bytes under way. They stay where they are until they have arrived; those of a message that never
/// does are not given back.
@safe private final class Message {
  private let buffer: UnsafeMutableRawBufferPointer
  private let number: UInt64
  private var hasArrived = false

  init(sending bytes: [UInt8], to peer: Int) {
    unsafe buffer = .allocate(byteCount: max(bytes.count, 1), alignment: 8)
    unsafe buffer.copyBytes(from: bytes)
    number = bytes.isEmpty ? 0 : unsafe pm_send(buffer.baseAddress!, bytes.count, Int32(peer))
  }
  init(receiving count: Int, from peer: Int) {
    unsafe buffer = .allocate(byteCount: max(count, 1), alignment: 8)
    self.count = count
    number = count == 0 ? 0 : unsafe pm_receive(buffer.baseAddress!, count, Int32(peer))
  }
  private var count = 0
  var bytes: [UInt8] { unsafe Array(buffer.prefix(count)) }
  func wait(_ peer: Int, _ cluster: Cluster) throws(ClusterError) {
    if number > 0 { try Transfer.wait(number, peer, cluster) }
    hasArrived = true
  }
  deinit { if hasArrived { unsafe buffer.deallocate() } }
}
