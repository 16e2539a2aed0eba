import Synchronization

/// Multiplications and additions of products, attention and convolutions so far, counted as in the
/// plain algorithms. Rates of arithmetic are computed from it. All other operations are left out.
public enum OperationCount {
  /// Whose rates differ.
  public enum Kind: Sendable, CaseIterable { case product, attention, convolution }
  private static let sum = Atomic<Int>(0)
  public static var total: Int { sum.load(ordering: .relaxed) }
  static func add(_ count: Int) { sum.wrappingAdd(count, ordering: .relaxed) }
}
