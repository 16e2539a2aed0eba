internal import CMpi

extension Cluster {
  /// A row of every rank, by rank, on every rank. All rows have the same number of elements.
  public func gather(_ row: [UInt64]) throws(ClusterError) -> [[UInt64]] {
    try gather(row, counts: Array(repeating: row.count, count: size))
  }
  /// Rows of unequal lengths, which are known: `counts[r]` words of rank r.
  public func gather(_ row: [UInt64], counts: [Int]) throws(ClusterError) -> [[UInt64]] {
    precondition(row.count == counts[rank], "\(row.count) words, \(counts[rank]) promised")
    return size == 1
      ? [row] : try exchange(Words.bytes(row), counts: counts.map { 8 * $0 }).map(Words.of)
  }
  /// The same of numbers.
  public func gather(_ row: [Double]) throws(ClusterError) -> [[Double]] {
    try gather(row, counts: Array(repeating: row.count, count: size))
  }
  public func gather(_ row: [Double], counts: [Int]) throws(ClusterError) -> [[Double]] {
    try gather(row.map(\.bitPattern), counts: counts).map { $0.map { Double(bitPattern: $0) } }
  }
  /// Words of every rank, of any number, on every rank.
  public func gather(words: [UInt64]) throws(ClusterError) -> [[UInt64]] {
    try gather(words, counts: try gather([UInt64(words.count)]).map { Int($0[0]) })
  }
  /// Bytes of every rank, of any number, on every rank.
  public func gather(bytes: [UInt8]) throws(ClusterError) -> [[UInt8]] {
    size == 1
      ? [bytes] : try exchange(bytes, counts: try gather([UInt64(bytes.count)]).map { Int($0[0]) })
  }
  /// The first rank's bytes, on every rank. The others give nothing.
  public func broadcast(_ bytes: [UInt8]) throws(ClusterError) -> [UInt8] {
    try gather(bytes: isFirst ? bytes : [])[0]
  }
  /// Waits for all ranks.
  public func barrier() throws(ClusterError) { _ = try gather([0 as UInt64]) }

  /// Sends `mine` to every other rank; returns what each rank has sent, `counts[r]` bytes of rank
  /// r.
  private func exchange(_ mine: [UInt8], counts: [Int]) throws(ClusterError) -> [[UInt8]] {
    var all = Array(repeating: mine, count: size)
    let received = others.map { (Message(receiving: counts[$0], from: $0), $0) }
    let sent = others.map { (Message(sending: mine, to: $0), $0) }
    for (message, peer) in received {
      try message.wait(peer, self)
      all[peer] = message.bytes
    }
    for (message, peer) in sent { try message.wait(peer, self) }
    return all
  }
}

/// What a rank sends to another one without waiting, in the order in which it is received.
public final class Outbox {
  private let cluster: Cluster
  private var sent: [(Message, Int)] = []
  public init(_ cluster: Cluster) { self.cluster = cluster }
  public func send(_ bytes: [UInt8], to peer: Int) {
    let length = Words.bytes([UInt64(bytes.count)])
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
    let bytes = Message(receiving: Int(Words.of(length.bytes)[0]), from: peer)
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
