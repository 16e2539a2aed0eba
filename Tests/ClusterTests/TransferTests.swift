import Cluster
import TensorRuntime
import Testing

@Suite struct TransferTests {
  /// A sum takes the memory of what has arrived: nothing else holds that.
  @Test func sumsLieInWhatArrived() throws {
    let n = 1 << 18
    var rest = -1
    let plan = Cluster.imagining(rank: 0, size: 4) {
      MemoryPlan(BufferPool()) { work in
        var transfer = Transfer(.current)
        for peer in 1...3 { transfer.receive(Shape(n), .f32, from: peer, in: work) }
        var received = try transfer.wait()
        var sum = received.next()!
        for x in received.next(2) { work.add(x, to: &sum) }
        rest = Array(received).count
      }
    }
    #expect(rest == 0 && plan?.stepBytes == 3 * BufferPool.blockBytes(4 * n))
  }
}
