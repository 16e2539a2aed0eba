internal import Glibc

/// Writing to open file descriptors: files, pipes and the standard streams.
public enum Descriptor {
  /// Writes all of `text`. Returns the error number, 0 if all was written.
  public static func write(_ text: String, to descriptor: Int32) -> Int32 {
    unsafe Array(text.utf8).withUnsafeBytes { unsafe write($0, to: descriptor) }
  }
  /// Writes all bytes. Waits for a descriptor that does not block.
  static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Int32 {
    var rest = unsafe bytes[...]
    while unsafe !rest.isEmpty {
      let part = unsafe UnsafeRawBufferPointer(rebasing: rest.prefix(1 << 30))
      let n = unsafe Glibc.write(descriptor, part.baseAddress, part.count)
      if n >= 0 {
        unsafe rest = unsafe rest.dropFirst(n)
      } else if errno == EAGAIN || errno == EWOULDBLOCK {
        var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        unsafe poll(&ready, 1, -1)
      } else if errno != EINTR {
        return errno
      }
    }
    return 0
  }
  /// The system's words for an error number.
  public static func reason(_ code: Int32) -> String {
    unsafe strerror(code).map { unsafe String(cString: $0) } ?? "error \(code)"
  }

  /// A closed standard descriptor is replaced by one that refuses to be read (0) or written (1, 2).
  /// So no file of ours gets its number, and results are never written into it. If it is opened
  /// again by a name such as /dev/stdout, it behaves like a full disk. Called before anything is
  /// opened.
  public static func secureStandardStreams() {
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
      let isInput = descriptor == STDIN_FILENO
      let filler = unsafe open(isInput ? "/dev/null" : "/dev/full", isInput ? O_WRONLY : O_RDONLY)
      if filler >= 0 && filler != descriptor {
        dup2(filler, descriptor)
        close(filler)
      }
    }
  }
}
