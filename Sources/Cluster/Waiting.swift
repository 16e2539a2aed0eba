internal import Synchronization

/// Seconds that this rank has waited for others.
public enum Waiting {
  private static let total = Mutex(0.0)
  public static var seconds: Double { total.withLock { $0 } }
  static func add(_ seconds: Double) { total.withLock { $0 += seconds } }
}
