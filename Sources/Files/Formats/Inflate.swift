internal import CZlib
internal import Glibc

extension ByteRegion {
  /// The inflated bytes (RFC 1951, without a header). They must be exactly `count` bytes; otherwise
  /// nil. The memory is `count` bytes, whatever the stream says; nil if that much is not available.
  func inflated(count length: Int, name: String) -> ByteRegion? {
    let input = file.bytes(range)
    guard let memory = aligned_alloc(64, max(length, 1) / 64 * 64 + 64) else { return nil }
    let owner = MappedFile(taking: memory, count: length, name: name)
    var stream = z_stream()
    // Negative window bits: a raw stream. `inflateInit2` is a macro around this.
    guard inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { return nil }
    defer { inflateEnd(&stream) }
    // zlib counts in 32 bits. One extra byte at the end shows output beyond the expected length.
    var read = 0
    var written = 0
    var spare: UInt8 = 0
    var status = Z_OK
    while status == Z_OK {
      let given = min(input.count - read, 1 << 30)
      let room = min(length - written, 1 << 30)
      stream.next_in = input.baseAddress.map {
        UnsafeMutablePointer(mutating: ($0 + read).assumingMemoryBound(to: Bytef.self))
      }
      stream.avail_in = uInt(given)
      status = withUnsafeMutablePointer(to: &spare) { spare in
        stream.next_out = room > 0 ? (memory + written).assumingMemoryBound(to: Bytef.self) : spare
        stream.avail_out = uInt(max(room, 1))
        return inflate(&stream, Z_NO_FLUSH)
      }
      let gone = given - Int(stream.avail_in)
      let come = max(room, 1) - Int(stream.avail_out)
      if room == 0 && come > 0 { return nil }
      read += gone
      written += room > 0 ? come : 0
      if gone == 0 && come == 0 && status == Z_OK { return nil }
    }
    return status == Z_STREAM_END && written == length ? owner.region : nil
  }
}

extension MappedFile {
  /// The contents of a gzip file (RFC 1952, one member after another) in a temporary file without a
  /// name. It needs no memory and is removed with the process. Throws `badData` for damaged
  /// contents, and `readWrite` if the disk is full.
  func gunzipped() throws(FileError) -> MappedFile {
    let name = path
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    let temporary = joinPath(folder, temporaryName(for: "pisces"))
    let descriptor = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    if descriptor < 0 {
      let what = "cannot make a temporary file for what \(name) holds (\(systemMessage(errno)))"
      throw FileError(.readWrite, what, in: folder, mend: "set TMPDIR to a folder with room")
    }
    unlink(temporary)
    do throws(FileError) {
      try inflate(to: descriptor, folder)
      return try MappedFile(adopting: descriptor, name: name)
    } catch {
      close(descriptor)
      throw error
    }
  }
  private func inflate(to descriptor: Int32, _ folder: String) throws(FileError) {
    let input = bytes(0..<count)
    let damaged = FileError.bad(
      "the compressed contents are damaged or cut short", path, mend: "make the archive again")
    var stream = z_stream()
    // 15 bits of window, and a gzip header.
    guard inflateInit2_(&stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { throw damaged }
    defer { inflateEnd(&stream) }
    var at = 0
    var block = [UInt8](repeating: 0, count: 1 << 20)
    var status = Z_OK
    while true {
      let given = min(input.count - at, 1 << 30)
      let room = block.count
      stream.next_in = input.baseAddress.map {
        UnsafeMutablePointer(mutating: ($0 + at).assumingMemoryBound(to: Bytef.self))
      }
      stream.avail_in = uInt(given)
      status = block.withUnsafeMutableBufferPointer { buffer in
        stream.next_out = buffer.baseAddress
        stream.avail_out = uInt(room)
        return CZlib.inflate(&stream, Z_NO_FLUSH)
      }
      let made = room - Int(stream.avail_out)
      at += given - Int(stream.avail_in)
      let code = block.withUnsafeBytes {
        OutputFile.writeAll(UnsafeRawBufferPointer(rebasing: $0[..<made]), to: descriptor)
      }
      if code != 0 {
        throw FileError(
          .readWrite, "no room for what \(path) holds (\(systemMessage(code)))", in: folder,
          mend: "set TMPDIR to a folder with room, or gunzip it first")
      }
      if status == Z_STREAM_END {
        // Zeros may fill the last block of a tape. Another member begins with the magic number
        // again.
        guard at + 1 < input.count, input[at] == 0x1f, input[at + 1] == 0x8b else { return }
        inflateReset(&stream)
      } else if status != Z_OK || (made == 0 && at == input.count) {
        throw damaged
      }
    }
  }
}
