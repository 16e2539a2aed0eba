import TensorRuntime
import Testing

@Suite struct WorkspaceTests {
  @Test func blocksAreRecycled() {
    let work = Workspace()
    for _ in 0..<3 { _ = work.tensor(Shape(100, 10)) }
    #expect(work.pool.statistics.allocations == 1)
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
}
