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

  /// Called before anything is opened. SIGPIPE is handled by `result`.
  static func secure() {
    Descriptor.secureStandardStreams()
    signal(SIGPIPE, SIG_IGN)
  }

  /// Writes one line of a result at once.
  static func result(_ line: String) {
    let code = Descriptor.write(line + "\n", to: STDOUT_FILENO)
    if code == EPIPE { Glibc.exit(readerGone) }
    if code != 0 {
      let mend =
        code == ENOSPC || code == EDQUOT
        ? "free some disk space" : "send the results to a file or a program that takes them"
      Failure.fail(74, "cannot write (\(Descriptor.reason(code))): standard output: \(mend)")
    }
  }
  static func error(_ line: String) { _ = Descriptor.write(line + "\n", to: STDERR_FILENO) }
}
