internal import Glibc

/// Resident sizes of this process in bytes; 0 if the system does not report them.
public enum ProcessMemory {
  public static var resident: Int { value("VmRSS:", in: status) }
  /// The largest size so far.
  public static var peak: Int { value("VmHWM:", in: status) }
  /// Forgets `peak`: it begins again at the size of now. A child process begins with it, too.
  public static func resetPeak() {
    let file = unsafe open("/proc/self/clear_refs", O_WRONLY)
    if file < 0 { return }
    _ = Descriptor.write("5", to: file)
    close(file)
  }
  /// The largest size of any child process that has ended.
  public static var largestChild: Int {
    var usage = rusage()
    return unsafe getrusage(RUSAGE_CHILDREN.rawValue, &usage) == 0
      ? usage.ru_maxrss << 10 : 0
  }
  static let status = "/proc/self/status"
  /// A size in the file `status`, or one like it: kilobytes after spaces, or right after a tab if
  /// they have eight digits or more.
  static func value(_ key: String, in path: String) -> Int {
    (ControlGroup.value(after: key, in: ControlGroup.words(path)) ?? 0) << 10
  }
}
