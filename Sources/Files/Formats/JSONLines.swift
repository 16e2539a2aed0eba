internal import Glibc

/// A growing file with one JSON value in each line. Each line is given to the system in one write,
/// so that a reader, or a crash, finds only whole lines.
public final class JSONLinesWriter: Sendable {
  public let path: String
  private let descriptor: Int32

  /// Opens `path` for appending, and creates it if it does not exist. If a crash left a last line
  /// without a line break, that line is ended first. Throws `cannotCreate`.
  public init(_ path: String) throws(FileError) {
    let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
    if descriptor < 0 || path.utf8.contains(0) { throw OutputFile.createError(path, errno) }
    (self.path, self.descriptor) = (path, descriptor)
    let end = lseek(descriptor, 0, SEEK_END)
    var last: UInt8 = 0x0a
    if end > 0 { unsafe pread(descriptor, &last, 1, end - 1) }
    if last != 0x0a { try append(bytes: [0x0a]) }
  }
  deinit { close(descriptor) }

  public func append(_ value: JSONValue) throws(FileError) {
    try append(line: value.line)
  }
  /// Appends a value that is a line already.
  public func append(line: String) throws(FileError) {
    try append(bytes: Array(line.utf8) + [0x0a])
  }
  private func append(bytes: [UInt8]) throws(FileError) {
    let code = unsafe bytes.withUnsafeBytes { unsafe Descriptor.write($0, to: descriptor) }
    if code != 0 { throw OutputFile.writeError(path, code) }
  }
}

/// Reads JSON Lines: one value a line, blank lines skipped.
public enum JSONLines {
  /// All the values with their line numbers (from 1). Throws `badData` naming the file and line.
  public static func read(_ path: String) throws(FileError) -> [(line: Int, value: JSONValue)] {
    var values: [(Int, JSONValue)] = []
    var lines = try TextLines(path)
    while let (number, text) = try lines.next() {
      if let value = try parse(text, name: "\(path), line \(number)") {
        values.append((number, value))
      }
    }
    return values
  }
  /// One line; nil if it is blank.
  public static func parse(_ line: String, name: String) throws(FileError) -> JSONValue? {
    if line.utf8.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0d }) { return nil }
    return try JSONValue(parsing: line, name: name)
  }
}
