internal import Glibc

/// Text files, UTF-8.
public enum TextFile {
  /// The whole text, without a byte-order mark. Throws `missingInput`, or `badData` with the line
  /// if the text is not UTF-8.
  public static func read(_ path: String) throws(FileError) -> String {
    try text(try MappedFile(path).region.array, path)
  }

  /// The lines, without their line ends (`TextLines`). A line end at the end of the text does not
  /// begin another line.
  public static func lines(_ path: String) throws(FileError) -> [String] {
    var lines = try TextLines(path)
    var all: [String] = []
    while let line = try lines.next() { all.append(line.text) }
    return all
  }

  static func text(_ bytes: [UInt8], _ name: String) throws(FileError) -> String {
    let rest = bytes[try markLength(bytes, name)...]
    if let text = String(validating: rest, as: UTF8.self) { return text }
    // The line is found by reading up to the fault.
    var lines = try TextLines(bytes, name: name)
    while try lines.next() != nil {}
    throw FileError.bad("not UTF-8 text", name, mend: asUTF8)
  }

  static let asUTF8 = "save it as plain text in UTF-8"
  /// The number of bytes of the byte-order mark before the text. Throws `badData` for text in
  /// another encoding, and for files that only stand for another (Git LFS).
  static func markLength(_ bytes: [UInt8], _ name: String) throws(FileError) -> Int {
    if bytes.starts(with: [0xef, 0xbb, 0xbf]) { return 3 }
    if let nature = FileNature.pointer(bytes) { throw nature.error(name) }
    let isWide = bytes.starts(with: [0xff, 0xfe, 0, 0]) || bytes.starts(with: [0, 0, 0xfe, 0xff])
    // Without a byte-order mark UTF-16 shows as letters with zero bytes between them.
    let pair = bytes.prefix(2)
    let isHalf = pair.count == 2 && pair.contains(0) && pair.contains { $0 != 0 }
    if isWide || isHalf || bytes.starts(with: [0xff, 0xfe]) || bytes.starts(with: [0xfe, 0xff]) {
      let form = isWide ? "UTF-32" : "UTF-16"
      throw FileError.bad(
        "\(form) text where UTF-8 was expected", name, mend: "convert it: iconv -f \(form) -t UTF-8"
      )
    }
    return 0
  }
}

extension TextFile {
  /// Adds `text` at the end of a file, which is made if it does not exist. Throws `cannotCreate` or
  /// `readWrite`.
  public static func append(_ text: String, to path: String) throws(FileError) {
    let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw OutputFile.createError(path, errno) }
    defer { close(descriptor) }
    let code = Descriptor.write(text, to: descriptor)
    if code != 0 { throw OutputFile.writeError(path, code) }
  }
  /// Whether `path` exists and may be read.
  public static func exists(_ path: String) -> Bool {
    if let kind = EmbeddedFiles.kind(path) { return kind == .file }
    return unsafe access(path, R_OK) == 0
  }

  /// The text of a file whose length the system does not know before it is read (`/proc`, `/sys`).
  /// Reads to the end, at most 16 MiB. nil if there is no such file or it cannot be read.
  public static func system(_ path: String) -> String? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count < 16 << 20 {
      let n = unsafe Glibc.read(descriptor, &block, block.count)
      if n < 0 && errno == EINTR { continue }
      if n <= 0 { return n < 0 ? nil : String(decoding: bytes, as: UTF8.self) }
      bytes += block[..<n]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
