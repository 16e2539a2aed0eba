import Synchronization

/// Multiplications and additions of products, attention and convolutions so far, as the plain
/// algorithms count them: what a rate of arithmetic is measured with. Everything else is left out.
public enum OperationCount {
  private static let sum = Atomic<Int>(0)
  public static var total: Int { sum.load(ordering: .relaxed) }
  static func add(_ count: Int) {
    if MemoryPlan.current == nil { sum.wrappingAdd(count, ordering: .relaxed) }
  }
}
