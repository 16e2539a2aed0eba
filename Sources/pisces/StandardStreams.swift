import Files

#if canImport(Glibc)
  import Glibc
#endif

/// Standard output and standard error. If results cannot be written, the program ends with status
/// 74. If the reader has gone away, it ends without a message, with the status that a shell gives
/// to SIGPIPE. Messages that cannot be written are dropped.
enum StandardStreams {
  /// 128 + SIGPIPE.
  static let readerGone = FileError.Kind.readerGone.exitStatus

  /// Called before anything is opened. A closed standard descriptor is replaced by one that refuses
  /// to be read (0) or written (1, 2). So no file of ours gets its number, and results are never
  /// written into it. SIGPIPE is handled by `write`.
  static func secure() {
    for descriptor in STDIN_FILENO...STDERR_FILENO where fcntl(descriptor, F_GETFD) < 0 {
      // If it is opened again by a name such as /dev/stdout, it behaves like a full disk.
      let filler =
        descriptor == STDIN_FILENO ? open("/dev/null", O_WRONLY) : open("/dev/full", O_RDONLY)
      if filler >= 0 && filler != descriptor {
        dup2(filler, descriptor)
        close(filler)
      }
    }
    signal(SIGPIPE, SIG_IGN)
  }

  /// Writes one line of a result at once.
  static func result(_ line: String) {
    let code = write(line + "\n", to: STDOUT_FILENO)
    if code == EPIPE { Glibc.exit(readerGone) }
    if code != 0 {
      let reason = strerror(code).map { String(cString: $0) } ?? "error \(code)"
      let mend =
        code == ENOSPC || code == EDQUOT
        ? "free some disk space" : "send the results to a file or a program that takes them"
      Failure.fail(74, "cannot write (\(reason)): standard output: \(mend)")
    }
  }
  static func error(_ line: String) { _ = write(line + "\n", to: STDERR_FILENO) }

  /// Writes all of `text`. Returns the error number, 0 if all was written. Waits for a descriptor
  /// that does not block.
  private static func write(_ text: String, to descriptor: Int32) -> Int32 {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
      let n = Glibc.write(descriptor, Array(bytes), bytes.count)
      if n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) {
        var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&ready, 1, -1)
      } else if n < 0 && errno != EINTR {
        return errno
      }
      bytes = bytes.dropFirst(max(n, 0))
    }
    return 0
  }
}
