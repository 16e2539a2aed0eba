internal import CZlib
internal import Glibc

extension ByteRegion {
  /// The inflated bytes (RFC 1951, without a header). They must be exactly `count` bytes; otherwise
  /// nil. The memory is `count` bytes, whatever the stream says; nil if that much is not available.
  func inflated(count length: Int, name: String) -> ByteRegion? {
    let input = unsafe file.bytes(range)
    guard let memory = unsafe aligned_alloc(64, max(length, 1) / 64 * 64 + 64) else { return nil }
    let owner = unsafe MappedFile(taking: memory, count: length, name: name)
    return unsafe inflate(input, into: memory, count: length) ? owner.region : nil
  }
}

/// Writes the `length` bytes of a raw deflate stream (RFC 1951) to `memory`. false if the stream is
/// damaged or holds another number of bytes.
func inflate(
  _ input: UnsafeRawBufferPointer, into memory: UnsafeMutableRawPointer, count length: Int
)
  -> Bool
{
  var stream = unsafe z_stream()
  // Negative window bits: a raw stream. `inflateInit2` is a macro around this.
  guard
    unsafe inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
  else { return false }
  defer { unsafe inflateEnd(&stream) }
  // zlib counts in 32 bits. One extra byte at the end shows output beyond the expected length.
  var read = 0
  var written = 0
  var spare: UInt8 = 0
  var status = Z_OK
  while status == Z_OK {
    let given = min(input.count - read, 1 << 30)
    let room = min(length - written, 1 << 30)
    unsafe stream.next_in = unsafe input.baseAddress.map {
      unsafe UnsafeMutablePointer(mutating: ($0 + read).assumingMemoryBound(to: Bytef.self))
    }
    unsafe stream.avail_in = uInt(given)
    status = unsafe withUnsafeMutablePointer(to: &spare) { spare in
      unsafe stream.next_out =
        unsafe room > 0 ? (memory + written).assumingMemoryBound(to: Bytef.self) : spare
      unsafe stream.avail_out = uInt(max(room, 1))
      return unsafe CZlib.inflate(&stream, Z_NO_FLUSH)
    }
    let gone = unsafe given - Int(stream.avail_in)
    let come = unsafe max(room, 1) - Int(stream.avail_out)
    if room == 0 && come > 0 { return false }
    read += gone
    written += room > 0 ? come : 0
    if gone == 0 && come == 0 && status == Z_OK { return false }
  }
  return status == Z_STREAM_END && written == length
}

extension MappedFile {
  /// The contents of a gzip file (RFC 1952, one member after another) in a temporary file without a
  /// name. It needs no memory and is removed with the process. Throws `badData` for damaged
  /// contents, and `readWrite` if the disk is full.
  func gunzipped() throws(FileError) -> MappedFile {
    let name = path
    let folder = unsafe getenv("TMPDIR").map { unsafe String(cString: $0) } ?? "/tmp"
    let temporary = joinPath(folder, temporaryName(for: "pisces"))
    let descriptor = unsafe open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    if descriptor < 0 {
      let what = "cannot make a temporary file for what \(name) holds (\(Descriptor.reason(errno)))"
      throw FileError(.readWrite, what, in: folder, mend: "set TMPDIR to a folder with room")
    }
    unsafe unlink(temporary)
    do throws(FileError) {
      try inflate(to: descriptor, folder)
      return try MappedFile(adopting: descriptor, name: name)
    } catch {
      close(descriptor)
      throw error
    }
  }
  private func inflate(to descriptor: Int32, _ folder: String) throws(FileError) {
    let input = unsafe bytes(0..<count)
    let damaged = FileError.bad(
      "the compressed contents are damaged or cut short", path, mend: "make the archive again")
    var stream = unsafe z_stream()
    // 15 bits of window, and a gzip header.
    guard
      unsafe inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        == Z_OK
    else { throw damaged }
    defer { unsafe inflateEnd(&stream) }
    var at = 0
    var block = [UInt8](repeating: 0, count: 1 << 20)
    var status = Z_OK
    while true {
      let given = min(input.count - at, 1 << 30)
      let room = block.count
      unsafe stream.next_in = unsafe input.baseAddress.map {
        unsafe UnsafeMutablePointer(mutating: ($0 + at).assumingMemoryBound(to: Bytef.self))
      }
      unsafe stream.avail_in = uInt(given)
      status = unsafe block.withUnsafeMutableBufferPointer { buffer in
        unsafe stream.next_out = buffer.baseAddress
        unsafe stream.avail_out = uInt(room)
        return unsafe CZlib.inflate(&stream, Z_NO_FLUSH)
      }
      let made = unsafe room - Int(stream.avail_out)
      unsafe at += given - Int(stream.avail_in)
      let code = unsafe block.withUnsafeBytes {
        unsafe Descriptor.write(UnsafeRawBufferPointer(rebasing: $0[..<made]), to: descriptor)
      }
      if code != 0 {
        throw FileError(
          .readWrite, "no room for what \(path) holds (\(Descriptor.reason(code)))", in: folder,
          mend: "set TMPDIR to a folder with room, or gunzip it first")
      }
      if status == Z_STREAM_END {
        // Zeros may fill the last block of a tape. Another member begins with the magic number
        // again.
        guard at + 1 < input.count, unsafe input[at] == 0x1f, unsafe input[at + 1] == 0x8b else {
          return
        }
        unsafe inflateReset(&stream)
      } else if status != Z_OK || (made == 0 && at == input.count) {
        throw damaged
      }
    }
  }
}
