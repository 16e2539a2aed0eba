internal import Glibc

/// Resident sizes of this process in bytes; 0 if the system does not report them.
public enum ProcessMemory {
  public static var resident: Int { value("VmRSS:") }
  /// The largest size so far.
  public static var peak: Int { value("VmHWM:") }
  /// The largest size of any child process that has ended.
  public static var largestChild: Int {
    var usage = rusage()
    return unsafe getrusage(RUSAGE_CHILDREN.rawValue, &usage) == 0
      ? usage.ru_maxrss << 10 : 0
  }
  private static func value(_ key: String) -> Int {
    let line = TextFile.system("/proc/self/status")?.split(separator: "\n").first {
      $0.hasPrefix(key)
    }
    return (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) << 10
  }
}
