internal import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 ask the loop to write a checkpoint and stop (exit status
/// 75). Launchers and shells send the same signal to a process and to its group, so signals within
/// a second count as one request. A later one of the same kind ends the process at once. (SLURM
/// sends SIGUSR1 and, before the checkpoint may be done, SIGTERM.)
public enum StopRequest {
  /// Nanoseconds of the monotonic clock at the first request of each kind; 0: none.
  private static let term = Atomic<UInt64>(0), int = Atomic<UInt64>(0), usr1 = Atomic<UInt64>(0),
    usr2 = Atomic<UInt64>(0)
  private static let second: UInt64 = 1_000_000_000

  public static var isPending: Bool {
    term.load(ordering: .relaxed) | int.load(ordering: .relaxed) | usr1.load(ordering: .relaxed)
      | usr2.load(ordering: .relaxed) > 0
  }

  private static let graceMilliseconds = Atomic<UInt64>(0)
  public static let defaultGrace = 20.0
  /// Seconds that a step may still take once a stop is requested. A longer one is given up.
  public static var grace: Double { Double(graceMilliseconds.load(ordering: .relaxed)) / 1000 }

  /// Installs the handlers. They use only atomics and the clock, which is allowed in a signal
  /// handler.
  public static func install(grace: Double = defaultGrace) {
    graceMilliseconds.store(UInt64(grace * 1000), ordering: .relaxed)
    signal(SIGTERM) { StopRequest.note($0, at: StopRequest.term) }
    signal(SIGINT) { StopRequest.note($0, at: StopRequest.int) }
    signal(SIGUSR1) { StopRequest.note($0, at: StopRequest.usr1) }
    signal(SIGUSR2) { StopRequest.note($0, at: StopRequest.usr2) }
  }
  private static func note(_ number: Int32, at first: borrowing Atomic<UInt64>) {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    let now = UInt64(time.tv_sec) * second + UInt64(time.tv_nsec)
    let (isFirst, earlier) = first.compareExchange(
      expected: 0, desired: now, ordering: .relaxed)
    if !isFirst && now >= earlier + second { _exit(128 + number) }
  }
}
