import Synchronization
#if canImport(Glibc)
import Glibc
#endif

/// SIGTERM and SIGINT ask the loop to write a checkpoint and stop (exit status 75); a second one leaves at once.
public enum StopRequest {
  private static let count = Atomic<Int>(0)

  public static var isPending: Bool { count.load(ordering: .relaxed) > 0 }

  /// Installs the handlers. Only an atomic is touched inside them.
  public static func install() {
    for number in [SIGTERM, SIGINT] {
      signal(number) { number in
        if StopRequest.count.add(1, ordering: .relaxed).oldValue > 0 { _exit(128 + number) }
      }
    }
  }
}
