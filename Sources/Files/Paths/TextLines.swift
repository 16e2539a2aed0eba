internal import Glibc

/// The lines of a text, one after another. Everything that is read line by line uses this reader. A
/// line ends at LF, CR LF or CR, or at the end of the text. A UTF-8 byte-order mark at the start is
/// not part of the first line. Text must be UTF-8: UTF-16 and UTF-32 are refused by name. A line
/// that is not UTF-8 is refused by its number, and reading can continue after it.
public struct TextLines {
  /// A line without its end, and its number from 1.
  public typealias Line = (number: Int, text: String)

  private let name: String
  /// Bytes that were read but not returned yet: `bytes[at...]`.
  private var bytes: [UInt8]
  private var at = 0
  /// The source of further bytes; nil if `bytes` is everything.
  private var descriptor: Int32?
  private var number = 0
  private var isAtStart = true
  /// After a CR, a following LF belongs to it.
  private var skipsLineFeed = false
  /// Whether no more lines can follow, also after an error after which reading cannot continue.
  public private(set) var isOver = false

  /// The lines of a file. Throws `missingInput`, `readWrite`, or `badData` for UTF-16 and files
  /// that are not text.
  public init(_ path: String) throws(FileError) {
    try self.init(try MappedFile(path).region.array, name: path)
  }
  init(_ bytes: [UInt8], name: String) throws(FileError) {
    (self.name, self.bytes, descriptor) = (name, bytes, nil)
    try start()
  }
  /// Standard input. Each line is returned as soon as it is complete.
  public static var standardInput: TextLines {
    TextLines(descriptor: STDIN_FILENO, name: "standard input")
  }
  init(descriptor: Int32, name: String) {
    (self.name, bytes, self.descriptor) = (name, [], descriptor)
  }

  /// The next line; nil at the end. Throws `badData` for a line that is not UTF-8 text, and for the
  /// whole text if `isOver` is set then.
  public mutating func next() throws(FileError) -> Line? {
    if isOver { return nil }
    var end = at
    while true {
      if skipsLineFeed && at < bytes.count {
        if bytes[at] == 0x0a { (at, end) = (at + 1, max(end, at + 1)) }
        skipsLineFeed = false
      }
      while end < bytes.count && bytes[end] != 0x0a && bytes[end] != 0x0d { end += 1 }
      if end < bytes.count {
        let line = bytes[at..<end]
        skipsLineFeed = bytes[end] == 0x0d
        at = end + 1
        return try decoded(line)
      }
      let kept = end - at
      guard try more() else { break }
      end = at + kept
    }
    isOver = true
    return at < bytes.count ? try decoded(bytes[at...]) : nil
  }
  private mutating func decoded(_ line: ArraySlice<UInt8>) throws(FileError) -> Line {
    number += 1
    guard let text = String(validating: line, as: UTF8.self) else {
      throw FileError.bad("not UTF-8 text", "\(name), line \(number)", mend: TextFile.asUTF8)
    }
    if line.contains(0) {
      throw FileError.bad(
        "a byte of zero in a text", "\(name), line \(number)", mend: TextFile.asUTF8)
    }
    return (number, text)
  }

  /// Reads more bytes; false at the end.
  private mutating func more() throws(FileError) -> Bool {
    guard let descriptor else { return false }
    bytes.removeFirst(at)
    at = 0
    var block = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let n = unsafe read(descriptor, &block, block.count)
      if n < 0 && errno == EINTR { continue }
      if n < 0 && errno == EAGAIN {
        var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        unsafe poll(&ready, 1, -1)
        continue
      }
      if n < 0 {
        isOver = true
        throw MappedFile.readError(name, errno)
      }
      bytes += block[..<n]
      // The byte-order mark has up to four bytes, which may arrive one by one.
      if isAtStart && (n == 0 || bytes.count >= 4 || bytes.contains(0x0a)) { try start() }
      return n > 0
    }
  }
  private mutating func start() throws(FileError) {
    isAtStart = false
    do {
      at = try TextFile.markLength(bytes, name)
    } catch {
      isOver = true
      throw error
    }
  }
}
