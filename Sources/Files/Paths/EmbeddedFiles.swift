internal import CEmbedded
internal import Glibc
internal import Synchronization

/// Files inside the program, under paths that begin with `embedded:`
/// (`embedded:generator/vae/config.json`). They are read like other files. Nothing can be written
/// there.
public enum EmbeddedFiles {
  static let prefix = "embedded:"

  /// The paths, each with its prefix; empty in a program built without models.
  public static let paths: [String] = {
    var count = 0
    guard let files = unsafe pisces_embedded_files(&count) else { return [] }
    return (0..<count).map { unsafe prefix + String(cString: files[$0].path) }
  }()

  static func bytes(_ path: String) -> UnsafeRawBufferPointer? {
    var count = 0
    guard let i = paths.firstIndex(of: path), let files = unsafe pisces_embedded_files(&count)
    else {
      return nil
    }
    let stored = unsafe UnsafeRawBufferPointer(start: files[i].bytes, count: files[i].count)
    let length = unsafe files[i].unpacked
    if length == 0 { return unsafe stored }
    let file = unpacked.withLock { known in
      if known[i] == nil { known[i] = unsafe unpack(stored, count: length, name: path) }
      return known[i]
    }
    return unsafe file?.bytes(0..<length)
  }
  /// What was unpacked stays for the life of the process.
  private static let unpacked = Mutex<[Int: MappedFile]>([:])

  /// The file of `count` bytes that is packed in `bytes`: the length n of a deflate stream (8
  /// bytes, little-endian), that stream of all bytes at odd offsets, then those at even offsets. In
  /// a bf16 value the odd byte has the exponent, which compresses; the mantissa does not. nil if
  /// the stream is damaged, or there is no memory.
  static func unpack(_ bytes: UnsafeRawBufferPointer, count: Int, name: String) -> MappedFile? {
    let (odd, even) = (count / 2, count - count / 2)
    let n =
      unsafe bytes.count < 8
      ? 0 : Int(truncatingIfNeeded: bytes.loadUnaligned(as: UInt64.self).littleEndian)
    guard n >= 0, n <= bytes.count, bytes.count == 8 + n + even,
      let memory = unsafe aligned_alloc(64, count / 64 * 64 + 64),
      let plane = unsafe malloc(odd + 1)
    else { return nil }
    let file = unsafe MappedFile(taking: memory, count: count, name: name)
    defer { unsafe free(plane) }
    let stream = unsafe UnsafeRawBufferPointer(rebasing: bytes[8..<8 + n])
    if unsafe !inflate(stream, into: plane, count: odd) { return nil }
    let low = unsafe bytes.baseAddress! + (8 + n)
    unsafe memory.withMemoryRebound(to: UInt8.self, capacity: count) { to in
      for i in 0..<odd {
        unsafe to[2 * i] = low.load(fromByteOffset: i, as: UInt8.self)
        unsafe to[2 * i + 1] = plane.load(fromByteOffset: i, as: UInt8.self)
      }
      if even > odd { unsafe to[count - 1] = low.load(fromByteOffset: odd, as: UInt8.self) }
    }
    return file
  }
  /// The embedded file or folder at `path`; nil if `path` does not begin with the prefix.
  static func kind(_ path: String) -> PathKind? {
    if !path.hasPrefix(prefix) { return nil }
    return paths.contains(path)
      ? .file : paths.contains { $0.hasPrefix(path + "/") } ? .folder : .nothing
  }
  /// Names directly inside a folder.
  static func list(_ path: String) -> [String] {
    let names = Set(
      paths.filter { $0.hasPrefix(path + "/") }.map {
        String($0.dropFirst(path.utf8.count + 1).prefix { $0 != "/" })
      })
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }
}
