internal import Glibc

/// Identifies one state of a file: which file it is, its size, and the time of its last change.
public struct FileIdentity: Equatable, Sendable {
  private let device, inode, size, seconds, nanoseconds: Int

  /// nil if `path` is not a file of its own: missing, a device or pipe, a frame pattern, the name
  /// of a tensor inside a file, or embedded.
  public init?(_ path: String) {
    var status = stat()
    guard !path.utf8.contains(0), unsafe stat(path, &status) == 0,
      status.st_mode & S_IFMT == S_IFREG
    else { return nil }
    (device, inode, size) = (
      Int(truncatingIfNeeded: status.st_dev), Int(truncatingIfNeeded: status.st_ino),
      Int(status.st_size)
    )
    (seconds, nanoseconds) = (status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
  }
}
