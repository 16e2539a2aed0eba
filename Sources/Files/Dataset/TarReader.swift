/// A tar archive (ustar, with the long names of pax and GNU), mapped, or inflated if it is a
/// `.tar.gz`. Entries are found by walking the headers, and their data are not read. It is used for
/// WebDataset shards. Nothing is ever extracted, so names are only labels.
public final class TarReader: Sendable {
  public let path: String
  /// Regular files in the order of the archive.
  public let entries: [Entry]

  public struct Entry: Sendable {
    public let name: String
    /// The position of the data in the archive.
    public let range: Range<Int>
    /// The index of the entry in the archive.
    let index: Int
    let bytes: ByteRegion
    /// A copy of the contents.
    public var contents: [UInt8] { bytes.array }
  }
  /// The files of one sample: `key.mp4`, `key.txt`, ... share the key up to the first dot of the
  /// last path component.
  public struct Group: Sendable {
    public let key: String
    /// By extension, lower case, without the leading dot, in the order of the archive.
    public let files: [(suffix: String, entry: Entry)]
    public subscript(suffix: String) -> Entry? { files.first { $0.suffix == suffix }?.entry }
  }

  /// Walks the archive. Throws `missingInput`, `badData` (a broken header, a file cut short, a
  /// compressed archive) or `readWrite`.
  public convenience init(_ path: String) throws(FileError) { try self.init(try MappedFile(path)) }

  /// Whether the archive was compressed. Its entries are then in memory, which other programs reach
  /// under `location`.
  let isInflated: Bool
  let location: String

  init(_ given: MappedFile) throws(FileError) {
    isInflated = given.region.starts(with: [0x1f, 0x8b])
    let file = isInflated ? try given.gunzipped() : given
    (path, location) = (file.path, file.location)
    if let nature = FileNature(file.region), nature == .pointer || nature == .page {
      throw nature.error(file.path)
    }
    if file.count == 0 { throw FileError.bad("the file is empty", file.path) }
    var walk = Walk(file: file)
    while try walk.next() {}
    entries = walk.entries
  }

  /// The walk from header to header.
  private struct Walk {
    let file: MappedFile
    var entries: [Entry] = []
    private var at = 0
    /// Of the next entry, from an extended header before it.
    private var longName: String?, longSize: Int?
    init(file: MappedFile) { self.file = file }

    private func bad(_ what: String) -> FileError {
      FileError.bad(what, file.path, "byte \(at)", mend: "make the shard again")
    }
    /// Reads the entry at `at`; false at the end of the archive.
    mutating func next() throws(FileError) -> Bool {
      // Two blocks of zeros end an archive. In practice a single one, or the end of the file, does,
      // too.
      guard let header = file.region.region(at: at, count: 512) else {
        if at == file.count && !entries.isEmpty { return false }
        throw bad("cut short in the middle of a header")
      }
      let block = header.array
      if block.allSatisfy({ $0 == 0 }) { return false }
      guard checksum(block) == number(block[148..<156]) else {
        if at == 0, let nature = FileNature(file.region), nature != .tarTorch {
          throw nature.error(file.path)
        }
        throw bad("not a tar archive, or a broken header (checksum)")
      }
      guard let ownSize = number(block[124..<136]) else { throw bad("broken size field") }
      let type = block[156]
      let isFile = type == UInt8(ascii: "0") || type == 0 || type == UInt8(ascii: "7")
      let size = isFile ? longSize ?? ownSize : ownSize
      guard let data = file.region.region(at: at + 512, count: size) else {
        throw bad("cut short: an entry of \(size) bytes")
      }
      if isFile { add(block, data) } else { try readSpecial(type, data) }
      // The data lie inside the file, so this cannot overflow. The padding of the last entry may be
      // missing.
      at = min(at + 512 + (size + 511) / 512 * 512, file.count)
      return true
    }
    private mutating func add(_ block: [UInt8], _ data: ByteRegion) {
      let isUstar = block[257..<262].elementsEqual("ustar".utf8)
      let prefix = isUstar ? text(block[345..<500]) : ""
      let name = text(block[0..<100])
      entries.append(
        Entry(
          name: longName ?? (prefix.isEmpty ? name : prefix + "/" + name), range: data.range,
          index: entries.count, bytes: data))
      (longName, longSize) = (nil, nil)
    }
    /// An entry that is no file: a header about the next one, or one that is skipped.
    private mutating func readSpecial(_ type: UInt8, _ data: ByteRegion) throws(FileError) {
      switch type {
      case UInt8(ascii: "L"):
        guard data.count <= 1 << 20 else { throw bad("a name of \(data.count) bytes") }
        longName = text(data.array[...])
      case UInt8(ascii: "x"):
        guard data.count <= 1 << 20 else {
          throw bad("an extended header of \(data.count) bytes")
        }
        guard let records = extended(data.array) else { throw bad("broken extended header") }
        longName = records["path"] ?? longName
        if let text = records["size"] {
          guard let n = Int(text), n >= 0 else { throw bad("broken size field") }
          longSize = n
        }
      case UInt8(ascii: "S"): throw bad("a sparse file")
      case UInt8(ascii: "g"), UInt8(ascii: "K"): break
      default: (longName, longSize) = (nil, nil)
      }
    }
  }

  /// The samples in the order of the archive. As in WebDataset, only neighbouring entries are
  /// grouped.
  public var groups: [Group] {
    var groups: [Group] = []
    var key: String?
    var files: [(suffix: String, entry: Entry)] = []
    func finish() {
      if let key, !files.isEmpty { groups.append(Group(key: key, files: files)) }
      files = []
    }
    for entry in entries {
      let (folder, name) = splitPath(entry.name)
      guard let dot = name.firstIndex(of: "."), dot != name.startIndex else { continue }
      let own = folder == "." ? String(name[..<dot]) : folder + "/" + name[..<dot]
      if own != key {
        finish()
        key = own
      }
      files.append((String(name[name.index(after: dot)...]).lowercased(), entry))
    }
    finish()
    return groups
  }

  /// The sum of the header's bytes with its own field taken as spaces.
  private static func checksum(_ block: [UInt8]) -> Int {
    var sum = 8 * 0x20
    for (i, b) in block.enumerated() where !(148..<156).contains(i) { sum += Int(b) }
    return sum
  }
  /// Octal digits, or a big-endian binary number when the top bit is set (GNU). Nil if it is
  /// neither or does not fit.
  private static func number(_ field: ArraySlice<UInt8>) -> Int? {
    if field.first! & 0x80 != 0 {
      var value = Int(field.first! & 0x7f)
      for b in field.dropFirst() {
        if value >> 54 != 0 { return nil }
        value = value << 8 | Int(b)
      }
      return value
    }
    var value = 0
    var seen = false
    for b in field.drop(while: { $0 == 0x20 }) {
      if b == 0 || b == 0x20 { break }
      guard (0x30...0x37).contains(b), value >> 59 == 0 else { return nil }
      value = value << 3 | Int(b - 0x30)
      seen = true
    }
    return seen ? value : nil
  }
  private static func text(_ field: ArraySlice<UInt8>) -> String {
    String(decoding: field.prefix { $0 != 0 }, as: UTF8.self)
  }

  /// Records `LENGTH KEY=VALUE\n` of a pax header; nil if they are broken.
  private static func extended(_ bytes: [UInt8]) -> [String: String]? {
    var records: [String: String] = [:]
    var rest = bytes[...]
    while !rest.isEmpty {
      guard let space = rest.prefix(20).firstIndex(of: 0x20),
        let length = Int(String(decoding: rest[..<space], as: UTF8.self)),
        length > space - rest.startIndex + 2, length <= rest.count
      else { return nil }
      let record = rest[space + 1..<rest.startIndex + length]
      guard record.last == 0x0a, let equals = record.firstIndex(of: UInt8(ascii: "=")) else {
        return nil
      }
      records[String(decoding: record[..<equals], as: UTF8.self)] = String(
        decoding: record[equals + 1..<record.endIndex - 1], as: UTF8.self)
      rest = rest[(rest.startIndex + length)...]
    }
    return records
  }
}

/// Brace ranges in a name, as in lists of shards: `{00000..00009}.tar` is ten names, `{a,b}.tar` is
/// two. A name may have several, of which the last varies fastest. Other braces are left as they
/// are.
///
/// Throws `badData` if there would be more than a million names.
public func expandBraces(_ pattern: String) throws(FileError) -> [String] {
  guard let (before, choices, after) = try firstBrace(pattern) else { return [pattern] }
  let rest = try expandBraces(after)
  if choices.count * rest.count > 1_000_000 {
    throw FileError.bad("more than a million names", pattern, mend: "shorten the range")
  }
  return choices.flatMap { choice in rest.map { before + choice + $0 } }
}
private func firstBrace(_ pattern: String) throws(FileError) -> (
  before: String, choices: [String], after: String
)? {
  var start = pattern.startIndex
  while let open = pattern[start...].firstIndex(of: "{"),
    let close = pattern[open...].firstIndex(of: "}")
  {
    let inner = pattern[pattern.index(after: open)..<close]
    if let choices = try choices(inner, pattern) {
      return (String(pattern[..<open]), choices, String(pattern[pattern.index(after: close)...]))
    }
    start = pattern.index(after: open)
  }
  return nil
}
private func choices(_ inner: Substring, _ pattern: String) throws(FileError) -> [String]? {
  if inner.contains(",") {
    return inner.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
  }
  guard let dots = inner.firstRange(of: "..") else { return nil }
  let (low, high) = (inner[..<dots.lowerBound], inner[dots.upperBound...])
  guard low.allSatisfy({ $0.isASCII && $0.isNumber }),
    high.allSatisfy({ $0.isASCII && $0.isNumber }), let first = Int(low), let last = Int(high),
    first <= last
  else { return nil }
  if last - first >= 1_000_000 {
    throw FileError.bad("more than a million names", pattern, mend: "shorten the range")
  }
  // A leading zero sets the width.
  let width = low.first == "0" && low.count > 1 ? low.count : 0
  return (first...last).map { n in
    let digits = String(n)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}
