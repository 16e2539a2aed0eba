internal import CZlib
internal import Glibc

extension ByteRegion {
  /// What the bytes inflate to (RFC 1951, without a header), which must be `count` bytes and all of them; nil if they do not. The memory is `count` bytes
  /// whatever the stream says; nil too if there are not so many.
  func inflated(count length: Int, name: String) -> ByteRegion? {
    let input = file.bytes(range)
    guard let memory = aligned_alloc(64, max(length, 1) / 64 * 64 + 64) else { return nil }
    let owner = MappedFile(taking: memory, count: length, name: name)
    var stream = z_stream()
    // Negative window bits: a raw stream. `inflateInit2` is a macro around this.
    guard inflateInit2_(&stream, -15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else { return nil }
    defer { inflateEnd(&stream) }
    // zlib counts in 32 bits; a byte of room at the end shows output beyond the length.
    var read = 0, written = 0, spare: UInt8 = 0, status = Z_OK
    while status == Z_OK {
      let given = min(input.count - read, 1 << 30), room = min(length - written, 1 << 30)
      stream.next_in = input.baseAddress.map { UnsafeMutablePointer(mutating: ($0 + read).assumingMemoryBound(to: Bytef.self)) }
      stream.avail_in = uInt(given)
      status = withUnsafeMutablePointer(to: &spare) { spare in
        stream.next_out = room > 0 ? (memory + written).assumingMemoryBound(to: Bytef.self) : spare
        stream.avail_out = uInt(max(room, 1))
        return inflate(&stream, Z_NO_FLUSH)
      }
      let gone = given - Int(stream.avail_in), come = max(room, 1) - Int(stream.avail_out)
      if room == 0 && come > 0 { return nil }
      read += gone
      written += room > 0 ? come : 0
      if gone == 0 && come == 0 && status == Z_OK { return nil }
    }
    return status == Z_STREAM_END && written == length ? owner.region : nil
  }
}
