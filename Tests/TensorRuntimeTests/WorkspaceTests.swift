import TensorRuntime
import Testing

@Suite struct WorkspaceTests {
  @Test func blocksAreRecycled() {
    let work = Workspace()
    for _ in 0..<3 { _ = work.tensor(Shape(100, 10)) }
    #expect(work.pool.statistics.allocations == 1)
  }
  /// A large block serves tensors of other sizes, in parts and together with its neighbours.
  @Test func largeBlocksAreCutAndMerged() {
    let work = Workspace()
    func bytes() -> Int { work.pool.statistics.bytes }
    do { _ = work.tensor(Shape(1_000_000)) }
    let first = bytes()
    #expect(first == BufferPool.blockBytes(4_000_000))
    work.pool.resetPeak()
    do {
      let parts = (1...3).map { work.full(Shape(100_000 * $0), Double($0)) }
      #expect(work.pool.statistics.allocations == 1 && bytes() == first)
      #expect(parts.enumerated().allSatisfy { i, x in x.floats.allSatisfy { $0 == Float(i + 1) } })
    }
    let sum = (1...3).reduce(0) { $0 + BufferPool.blockBytes(400_000 * $1) }
    #expect(work.pool.statistics.peakBytes == sum)
    do { _ = work.tensor(Shape(1_000_000)) }
    #expect(work.pool.statistics.allocations == 1 && bytes() == first)
    _ = work.tensor(Shape(1_500_000))
    #expect(work.pool.statistics.allocations == 2)
    #expect(bytes() == BufferPool.blockBytes(6_000_000))
  }
  /// Zeros take memory when they are read or written, and give it back when they are cleared.
  @Test func zerosOnDemand() {
    let work = Workspace()
    var x = work.zerosOnDemand(Shape(1000, 100))
    #expect(work.pool.statistics.bytes == 0)
    #expect(x.floats.allSatisfy { $0 == 0 })
    x.withMutableSpan(of: Float.self) { $0[7] = 3 }
    let y = x
    work.fill(&x, with: 0)
    #expect(y.floats[7] == 3 && x.floats.allSatisfy { $0 == 0 })
    work.pool.resetPeak()
    x.withMutableSpan(of: Float.self) { $0[7] = 3 }
    let peak = work.pool.statistics.peakBytes
    work.fill(&x, with: 0)
    work.pool.resetPeak()
    #expect(work.pool.statistics.peakBytes < peak)
    var part = y.slice(0..<500)
    work.fill(&part, with: 0)
    #expect(part.floats.allSatisfy { $0 == 0 } && y.floats[7] == 3)
  }
  /// A tensor that outlives a workspace with a pool of its own holds its own memory and no more.
  @Test func anEndedWorkspaceKeepsNothing() {
    func sum() -> (Tensor, BufferPool) {
      let work = Workspace()
      let terms = (0..<3).map { work.full(Shape(100, 10), Double($0)) }
      return (terms.dropFirst().reduce(terms[0]) { work.sum($0, $1) }, work.pool)
    }
    var (y, pool): (Tensor?, BufferPool) = sum()
    #expect(y!.floats == Array(repeating: 3, count: 1000))
    #expect(pool.statistics.bytes == BufferPool.blockBytes(4000))
    y = nil
    #expect(pool.statistics.bytes == 0)
  }
  @Test func writingASharedTensorCopiesIt() {
    let work = Workspace()
    let a = work.zeros(Shape(4))
    var b = a
    b.withMutableSpan(of: Float.self) { $0[0] = 1 }
    #expect(a.floats == [0, 0, 0, 0])
    #expect(b.floats == [1, 0, 0, 0])
    #expect(work.pool.statistics.copies == 1)
  }
  /// A planned step asks for what the step itself will, writes nothing of what it reads, and costs
  /// nothing where the pool holds enough.
  @Test func aPlanIsWhatTheStepTakes() throws {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let random = RandomStream(seed: 1, .test)
    let x = random.normal(Shape(300, 64), in: work)
    let weight = random.normal(Shape(96, 64), in: work)
    var gradient: Tensor? = work.full(Shape(96, 64), .nan)
    var state = work.zeros(Shape(1000))
    work.fill(&gradient!, with: 0)
    func step(_ gradient: inout Tensor?, _ state: inout Tensor, _ work: borrowing Workspace)
      -> Double
    {
      let y = work.linear(x, weight: weight, bias: nil, frozen: true)
      work.linearBackwardWeight(y, x: x, addingTo: &gradient)
      state.withMutableSpan(of: Float.self) { $0[0] += 1 }
      return work.sumOfSquares(y)
    }
    func plan() -> MemoryPlan? {
      var (g, s) = (gradient, state)
      return MemoryPlan(pool) { _ = step(&g, &s, $0) }
    }
    let first = try #require(plan())
    #expect(state.floats[0] == 0 && gradient!.floats.allSatisfy { $0 == 0 })
    let before = pool.statistics.bytes
    work.fill(&gradient!, with: 0)
    #expect(step(&gradient, &state, work) > 0 && state.floats[0] == 1)
    let taken = pool.statistics.bytes - before
    #expect(first.stepBytes == taken)
    #expect(first.panelBytes == 96 * 64 * 4)
    let second = try #require(plan())
    #expect(second.bytes == 0, "\(second)")
  }
  /// What the task alone holds is written in place. A mapped file is not, nor is what the step
  /// itself has made and shares; a gradient that is cleared gives its memory back.
  @Test func copiesThatAPlanCounts() throws {
    final class Nothing: Sendable {}
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let own = work.zeros(Shape(1 << 16))
    let file = unsafe Tensor(
      borrowing: UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: 64), count: 1 << 18),
      shape: own.shape, type: .f32, owner: Nothing())
    let block = BufferPool.blockBytes(own.byteCount)
    func bytes(_ step: (borrowing Workspace) -> Void) -> Int? {
      MemoryPlan(pool, step: step)?.bytes
    }
    func write(_ x: Tensor, _ work: borrowing Workspace) {
      var x = x
      x.makeUnique(in: work)
    }
    #expect(bytes { write(own, $0) } == 0)
    #expect(bytes { write(file, $0) } == block)
    let shared = bytes { work in
      let made = work.zeros(own.shape)
      withExtendedLifetime(made) { write(made, work) }
    }
    #expect(shared == 2 * block)
    let cleared = bytes { work in
      var gradient = own
      work.fill(&gradient, with: 0)
      _ = work.tensor(own.shape)
      gradient.makeUnique(in: work)
    }
    #expect(cleared == 0)
  }
  @Test func aStepThatThrowsHasNoPlan() {
    struct Refusal: Error {}
    #expect(MemoryPlan(BufferPool()) { _ in throw Refusal() } == nil)
  }
}
