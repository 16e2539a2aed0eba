import Synchronization

/// Multiplications and additions of products, attention and convolutions so far, counted as in the
/// plain algorithms. Rates of arithmetic are computed from it. All other operations are left out.
public enum OperationCount {
  private static let sum = Atomic<Int>(0)
  public static var total: Int { sum.load(ordering: .relaxed) }
  static func add(_ count: Int) { sum.wrappingAdd(count, ordering: .relaxed) }
}
