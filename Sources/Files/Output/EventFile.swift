internal import Glibc

/// A TensorBoard event file with scalars. Each record is given to the system as soon as it is
/// added.
///
/// Format: TFRecord frames (length, masked CRC-32C of the length, data, masked CRC-32C of the data)
/// around `Event` messages of tensorflow/core/util/event.proto, encoded here by hand: wall_time 1
/// (double), step 2 (int64), file_version 3, summary 5 with value 1 of tag 1 and simple_value 2
/// (float).
public final class EventFile: Sendable {
  public let path: String
  private let descriptor: Int32

  /// Creates `events.out.tfevents.<seconds>.<host>` in `folder`, a new one for every run. Throws
  /// `cannotCreate`.
  public init(in folder: String) throws(FileError) {
    var name = [CChar](repeating: 0, count: 256)
    unsafe gethostname(&name, 255)
    let host = String(
      decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let stem = joinPath(
      folder, "events.out.tfevents.\(Int(Self.now)).\(host.isEmpty ? "localhost" : host)")
    var attempt = 0
    while true {
      let path = attempt == 0 ? stem : "\(stem).\(attempt)"
      let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o666)
      if descriptor >= 0 {
        (self.path, self.descriptor) = (path, descriptor)
        break
      }
      if errno != EEXIST || attempt == 1000 { throw OutputFile.createError(path, errno) }
      attempt += 1
    }
    try append(
      Self.event(at: Self.now, step: 0, payload: Self.field(3, Array("brain.Event:2".utf8))))
  }
  deinit { close(descriptor) }

  /// Adds the scalars of one step. Throws `readWrite`.
  public func append(step: Int, _ scalars: [(tag: String, value: Float)]) throws(FileError) {
    let values = scalars.flatMap {
      Self.field(1, Self.field(1, Array($0.tag.utf8)) + [0x15] + littleEndian($0.value.bitPattern))
    }
    try append(Self.event(at: Self.now, step: step, payload: Self.field(5, values)))
  }
  private func append(_ message: [UInt8]) throws(FileError) {
    let record = Self.record(message)
    let code = unsafe record.withUnsafeBytes { unsafe Descriptor.write($0, to: descriptor) }
    if code != 0 { throw OutputFile.writeError(path, code) }
  }

  /// Seconds since 1970: TensorBoard's wall_time.
  private static var now: Double {
    var time = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }

  static func record(_ message: [UInt8]) -> [UInt8] {
    let length = littleEndian(UInt64(message.count))
    return length + littleEndian(maskedCRC(length)) + message + littleEndian(maskedCRC(message))
  }
  private static func event(at seconds: Double, step: Int, payload: [UInt8]) -> [UInt8] {
    [0x09] + littleEndian(seconds.bitPattern) + [0x10] + variable(UInt64(bitPattern: Int64(step)))
      + payload
  }
  /// A length-delimited protobuf field.
  private static func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] {
    [number << 3 | 2] + variable(UInt64(bytes.count)) + bytes
  }
  private static func variable(_ value: UInt64) -> [UInt8] {
    var rest = value
    var out: [UInt8] = []
    while rest >= 0x80 {
      out.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    return out + [UInt8(rest)]
  }

  /// TFRecord's mask: rotate right by 15 and add a constant (tensorflow/core/lib/hash/crc32c.h).
  static func maskedCRC(_ bytes: [UInt8]) -> UInt32 {
    let crc = crc32c(bytes)
    return (crc >> 15 | crc << 17) &+ 0xa282_ead8
  }
  /// CRC-32C (Castagnoli polynomial, reflected: 0x82f63b78).
  static func crc32c(_ bytes: [UInt8]) -> UInt32 {
    var crc = UInt32.max
    for b in bytes { crc = table[Int(UInt8(truncatingIfNeeded: crc) ^ b)] ^ crc >> 8 }
    return ~crc
  }
  private static let table: [UInt32] = (0..<256).map {
    (0..<8).reduce(UInt32($0)) { crc, _ in crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
  }
}
