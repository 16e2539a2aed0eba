internal import Glibc

/// What tells a state of a file from another: which file it is, its size, and when it was last
/// written.
public struct FileIdentity: Equatable, Sendable {
  private let device, inode, size, seconds, nanoseconds: Int

  /// nil when `path` is no file of its own: missing, a device or pipe, a frame pattern, a tensor's
  /// name inside a file, embedded.
  public init?(_ path: String) {
    var status = stat()
    guard !path.utf8.contains(0), stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG
    else { return nil }
    (device, inode, size) = (
      Int(truncatingIfNeeded: status.st_dev), Int(truncatingIfNeeded: status.st_ino),
      Int(status.st_size)
    )
    (seconds, nanoseconds) = (status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
  }
}
