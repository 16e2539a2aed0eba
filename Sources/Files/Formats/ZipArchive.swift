/// The directory of a ZIP archive, with ZIP64 (checkpoints.md 9.1). Encrypted, repeated and
/// escaping entries are refused. Compressed entries are refused unless deflate is allowed.
struct ZipArchive: Sendable {
  let path: String
  /// Names in the order of the central directory, which is the order of the file.
  let names: [String]
  private let entries: [String: Entry]
  private let file: ByteRegion
  private struct Entry: Sendable {
    let localHeader: Int
    let method: UInt16
    /// Bytes in the file, and bytes of the contents.
    let packed, count: Int
    let crc: UInt32
  }
  private static let mostEntries = 10_000_000
  private static let deflate: UInt16 = 8
  /// The largest factor by which deflate expands a byte (zlib's technical details). An entry with a
  /// larger factor is refused.
  private static let deflateLimit = 1032

  init(_ file: ByteRegion, name path: String, allowsDeflate: Bool = false) throws(FileError) {
    (self.path, self.file) = (path, file)
    let (count, directory) = try Self.directory(of: file, path)
    var names: [String] = []
    var entries: [String: Entry] = [:]
    var at = 0
    for _ in 0..<count {
      let header = try DirectoryHeader(directory, at: &at, path)
      let entry = try header.entry(path, allowsDeflate: allowsDeflate)
      if entries[header.name] != nil {
        throw FileError.bad(
          "two entries of the same name", path, header.label, mend: "do not use this file")
      }
      names.append(header.name)
      entries[header.name] = entry
    }
    (self.names, self.entries) = (names, entries)
  }

  private static func bad(_ what: String, _ path: String) -> FileError {
    FileError.bad(what, path, "zip directory")
  }
  /// The number of entries and the bytes of the directory, from the end record or the ZIP64 one.
  private static func directory(of file: ByteRegion, _ path: String) throws(FileError) -> (
    count: Int, bytes: ByteRegion
  ) {
    guard let end = endRecord(file) else {
      throw bad(
        "no end of the zip directory: a PyTorch file or another zip that was cut short", path)
    }
    var count = Int(file.integer(at: end + 10, as: UInt16.self) ?? 0)
    var size = Int(file.integer(at: end + 12, as: UInt32.self) ?? 0)
    var start = Int(file.integer(at: end + 16, as: UInt32.self) ?? 0)
    if count == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
      guard end >= 20, file.integer(at: end - 20, as: UInt32.self) == 0x0706_4b50,
        let record = file.offset(at: end - 12),
        file.integer(at: record, as: UInt32.self) == 0x0606_4b50,
        let n = file.offset(at: record + 32), let s = file.offset(at: record + 40),
        let o = file.offset(at: record + 48)
      else { throw bad("broken ZIP64 record", path) }
      (count, size, start) = (n, s, o)
    }
    guard count <= mostEntries, let directory = file.region(at: start, count: size),
      count <= size / 46
    else { throw bad("directory outside the file", path) }
    return (count, directory)
  }

  /// An entry of the directory as it stands in the file.
  private struct DirectoryHeader {
    let flags, method: UInt16, crc, packed, unpacked, local: UInt32
    let name: String, extra: ByteRegion
    var label: String { "entry '\(name)'" }

    /// Reads the entry at `at` and moves `at` behind it.
    init(_ directory: ByteRegion, at: inout Int, _ path: String) throws(FileError) {
      guard directory.integer(at: at, as: UInt32.self) == 0x0201_4b50,
        let flags = directory.integer(at: at + 8, as: UInt16.self),
        let method = directory.integer(at: at + 10, as: UInt16.self),
        let crc = directory.integer(at: at + 16, as: UInt32.self),
        let packed = directory.integer(at: at + 20, as: UInt32.self),
        let unpacked = directory.integer(at: at + 24, as: UInt32.self),
        let nameCount = directory.integer(at: at + 28, as: UInt16.self),
        let extraCount = directory.integer(at: at + 30, as: UInt16.self),
        let commentCount = directory.integer(at: at + 32, as: UInt16.self),
        let local = directory.integer(at: at + 42, as: UInt32.self),
        let name = directory.region(at: at + 46, count: Int(nameCount))?.string,
        let extra = directory.region(at: at + 46 + Int(nameCount), count: Int(extraCount))
      else { throw bad("broken directory entry", path) }
      (self.flags, self.method, self.crc, self.packed) = (flags, method, crc, packed)
      (self.unpacked, self.local, self.name, self.extra) = (unpacked, local, name, extra)
      at += 46 + Int(nameCount) + Int(extraCount) + Int(commentCount)
    }
    /// What is read of the file for it; refuses what is encrypted, compressed or escapes.
    func entry(_ path: String, allowsDeflate: Bool) throws(FileError) -> Entry {
      if flags & 1 != 0 {
        throw FileError.bad(
          "encrypted entry", path, label, mend: "save the file without encryption")
      }
      if method != 0 && !(allowsDeflate && method == deflate) {
        throw FileError.bad(
          "compressed entry (method \(method))", path, label,
          mend: "save the file again with \(allowsDeflate ? "numpy.savez" : "torch.save")")
      }
      if name.split(separator: "/", omittingEmptySubsequences: false).contains("..")
        || name.hasPrefix("/")
      {
        throw FileError.bad(
          "entry name leads outside the archive", path, label, mend: "do not use this file")
      }
      let wide = zip64(extra, unpacked: unpacked, packed: packed, local: local)
      guard let wide,
        method == 0 ? wide.unpacked == wide.packed : wide.unpacked / deflateLimit <= wide.packed
      else { throw FileError.bad("broken sizes", path, label) }
      return Entry(
        localHeader: wide.local, method: method, packed: wide.packed, count: wide.unpacked, crc: crc
      )
    }
  }

  /// Offset of the end-of-directory record: the last one whose comment ends exactly at the end of
  /// the file.
  private static func endRecord(_ file: ByteRegion) -> Int? {
    var at = file.count - 22
    while at >= max(0, file.count - 65_557) {
      if file.integer(at: at, as: UInt32.self) == 0x0605_4b50,
        let comment = file.integer(at: at + 20, as: UInt16.self),
        at + 22 + Int(comment) == file.count
      {
        return at
      }
      at -= 1
    }
    return nil
  }

  /// Sizes and offset. A field with all bits set is read from the ZIP64 extra field.
  private static func zip64(_ extra: ByteRegion, unpacked: UInt32, packed: UInt32, local: UInt32)
    -> (unpacked: Int, packed: Int, local: Int)?
  {
    var wide = ArraySlice<Int>()
    var at = 0
    while let id = extra.integer(at: at, as: UInt16.self),
      let size = extra.integer(at: at + 2, as: UInt16.self)
    {
      if id == 1 {
        guard extra.region(at: at + 4, count: Int(size)) != nil else { return nil }
        for field in 0..<min(Int(size) / 8, 3) {
          guard let value = extra.offset(at: at + 4 + 8 * field) else { return nil }
          wide.append(value)
        }
      }
      at += 4 + Int(size)
    }
    func pick(_ narrow: UInt32) -> Int? { narrow == .max ? wide.popFirst() : Int(narrow) }
    guard let u = pick(unpacked), let p = pick(packed), let l = pick(local) else { return nil }
    return (u, p, l)
  }

  /// The bytes of an entry, inflated if necessary; nil if there is no such entry. Checks the CRC if
  /// asked to. Throws `badData` if the entry lies outside the file or is damaged.
  func entry(_ name: String, checkingCRC: Bool = false) throws(FileError) -> ByteRegion? {
    guard let entry = entries[name] else { return nil }
    let field = "entry '\(name)'"
    guard file.integer(at: entry.localHeader, as: UInt32.self) == 0x0403_4b50,
      let method = file.integer(at: entry.localHeader + 8, as: UInt16.self),
      method == entry.method,
      let nameCount = file.integer(at: entry.localHeader + 26, as: UInt16.self),
      let extraCount = file.integer(at: entry.localHeader + 28, as: UInt16.self),
      let packed = file.region(
        at: entry.localHeader + 30 + Int(nameCount) + Int(extraCount), count: entry.packed)
    else {
      throw FileError.bad("entry lies outside the file, or its header is broken", path, field)
    }
    guard let bytes = entry.method == 0 ? packed : packed.inflated(count: entry.count, name: path)
    else {
      throw FileError.bad(
        "compressed contents are damaged, or not of the \(entry.count) bytes promised", path, field)
    }
    // A stored 0 says that no CRC was computed (torch.serialization.set_crc32_options).
    if checkingCRC && entry.crc != 0 && bytes.crc32 != entry.crc {
      throw FileError.bad("wrong CRC-32: the contents are damaged", path, field)
    }
    return bytes
  }
}
