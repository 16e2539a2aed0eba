internal import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// SIGTERM, SIGINT and SIGUSR1 ask the loop to write a checkpoint and stop (exit status 75).
/// Launchers and shells send the same signal to a process and to its group, so signals within a
/// second count as one request. A later one ends the process at once.
public enum StopRequest {
  /// Nanoseconds of the monotonic clock at the first request; 0: none.
  private static let first = Atomic<UInt64>(0)
  private static let second: UInt64 = 1_000_000_000

  public static var isPending: Bool { first.load(ordering: .relaxed) > 0 }

  /// Installs the handlers. They use only an atomic and the clock, which is allowed in a signal
  /// handler.
  public static func install() {
    for number in [SIGTERM, SIGINT, SIGUSR1] {
      signal(number) { number in
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        let now = UInt64(time.tv_sec) * StopRequest.second + UInt64(time.tv_nsec)
        let (isFirst, earlier) = StopRequest.first.compareExchange(
          expected: 0, desired: now, ordering: .relaxed)
        if !isFirst && now >= earlier + StopRequest.second { _exit(128 + number) }
      }
    }
  }
}
