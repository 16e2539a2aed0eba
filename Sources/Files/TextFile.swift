internal import Glibc

/// Text files, UTF-8.
public enum TextFile {
  /// The whole text. Throws `missingInput`, or `badData` when it is not UTF-8.
  public static func read(_ path: String) throws(FileError) -> String {
    guard let text = try MappedFile(path).region.string else { throw FileError.bad("not UTF-8 text", path) }
    return text
  }
  /// The lines, without their line ends; a last line end closes the last line.
  public static func lines(_ path: String) throws(FileError) -> [String] {
    let lines = try read(path).split(separator: "\n", omittingEmptySubsequences: false).map { $0.hasSuffix("\r") ? String($0.dropLast()) : String($0) }
    return lines.last == "" ? Array(lines.dropLast()) : lines
  }
}

extension TextFile {
  /// Whether there is something at `path` that may be read.
  public static func exists(_ path: String) -> Bool { EmbeddedFiles.kind(path).map { $0 == .file } ?? (access(path, R_OK) == 0) }

  /// The text of a file whose length the system makes up as it is read (`/proc`, `/sys`): read to its end, at most 16 MiB.
  /// Nil if there is no such file or it cannot be read.
  public static func system(_ path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = [], block = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < 16 << 20 {
      let n = Glibc.read(descriptor, &block, block.count)
      if n < 0 && errno == EINTR { continue }
      if n <= 0 { return n < 0 ? nil : String(decoding: bytes, as: UTF8.self) }
      bytes += block[..<n]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
