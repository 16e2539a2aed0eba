/// Compares what the container of a video or picture says of its own length and parts with the
/// file. FFmpeg plays the rest of a truncated file, and skips blank parts in others, often without
/// a message.
enum ContainerCheck {
  enum Fault: Equatable {
    /// The file ends before this part.
    case cut(String)
    /// This part is wrong.
    case damaged(String)
  }

  /// nil if the file is whole, or of a kind that does not state its length.
  static func fault(_ file: ByteRegion) -> Fault? {
    let head = file.region(at: 0, count: min(file.count, 64))?.array ?? []
    func starts(_ text: String) -> Bool { head.starts(with: text.utf8) }
    func whole(_ isWhole: Bool, _ part: String) -> Fault? { isWhole ? nil : .cut(part) }
    if starts("RIFF") { return whole(riff(file), "its RIFF list ends") ?? chunks(file) }
    if head.count >= 8, boxes.contains(String(decoding: head[4..<8], as: UTF8.self)) {
      return boxed(file)
    }
    if head.starts(with: [0x1a, 0x45, 0xdf, 0xa3]) {
      return whole(matroska(file), "its segment ends")
    }
    if starts("GIF8") { return whole(gif(file), "its trailer") }
    if starts("FLV") { return whole(flash(file), "a tag ends") }
    if starts("OggS") { return whole(ogg(file), "a page ends") }
    if starts("DKIF") { return whole(ivf(file), "a frame ends") }
    if starts("YUV4MPEG2 ") { return whole(y4m(file), "a frame ends") }
    if head.starts(with: [0x89] + Array("PNG\r\n".utf8)) {
      return whole(png(file), "its last chunk")
    }
    if head.starts(with: [0xff, 0xd8, 0xff]) { return whole(jpeg(file), "a picture ends") }
    if head.starts(with: asfHeader) { return whole(asf(file), "the length in its header") }
    return transport(file)
  }

  /// Goes from one part of a file to the next. `end` returns the end of the part at a position,
  /// `.max` if its header itself is truncated, and nil to stop. Returns false if a part ends after
  /// the end of the file.
  private static func walk(_ file: ByteRegion, from start: Int, _ end: (Int) -> Int?) -> Bool {
    var at = start
    while at < file.count {
      guard let next = end(at) else { return true }
      if next > file.count || next <= at { return false }
      at = next
    }
    return true
  }
  private static func big<T: FixedWidthInteger & BitwiseCopyable>(
    _ file: ByteRegion, _ at: Int, _: T.Type
  ) -> Int? {
    file.integer(at: at, as: T.self).flatMap { Int(exactly: $0.byteSwapped) }
  }
  private static func text(_ file: ByteRegion, _ at: Int) -> String? {
    file.region(at: at, count: 4)?.string
  }

  /// AVI, WebP. A length of 0 or all ones was never filled in, because the file was recorded to a
  /// pipe.
  private static func riff(_ file: ByteRegion) -> Bool {
    walk(file, from: 0) { at in
      guard text(file, at) == "RIFF", let size = file.integer(at: at + 4, as: UInt32.self),
        size != 0, size != .max
      else { return nil }
      let end = at + 8 + Int(size)
      // The padding byte after an odd length is often missing.
      return end == file.count ? end : end + Int(size % 2)
    }
  }

  /// A lost page of the disk leaves zeros where the header of a chunk should be.
  private static func chunks(_ file: ByteRegion) -> Fault? {
    var isBlank = false
    _ = walk(file, from: 12) { at in
      guard let name = file.region(at: at, count: 4)?.array,
        let size = file.integer(at: at + 4, as: UInt32.self)
      else { return nil }
      isBlank = name == [0, 0, 0, 0]
      if isBlank || !name.allSatisfy({ (0x20..<0x7f).contains($0) }) { return nil }
      if name.elementsEqual("LIST".utf8), let type = text(file, at + 8),
        type == "movi" || type == "rec "
      {
        return at + 12
      }
      return name.elementsEqual("RIFF".utf8) ? at + 12 : at + 8 + Int(size) + Int(size % 2)
    }
    return isBlank ? .damaged("the head of a chunk is blank") : nil
  }

  private static let boxes: Set<String> = [
    "ftyp", "moov", "mdat", "moof", "wide", "free", "skip", "pnot", "styp", "sidx", "uuid", "meta",
    "udta", "mfra", "emsg", "prft",
  ]
  /// MP4, MOV. Bytes after the last box that are not a box are ignored, but not a blank between
  /// boxes. The header of a fragment needs its data.
  private static func boxed(_ file: ByteRegion) -> Fault? {
    var last = ""
    var end = 0
    let isWhole = walk(file, from: 0) { at in
      end = at
      guard let type = text(file, at + 4), boxes.contains(type),
        let size = big(file, at, UInt32.self)
      else { return nil }
      last = type
      switch size {
      case 0: return file.count
      case 1:
        return big(file, at + 8, UInt64.self).flatMap { $0 >= 16 && $0 < 1 << 60 ? at + $0 : nil }
          ?? .max
      case 2..<8: return nil
      default: return at + size
      }
    }
    if !isWhole || last == "moof" { return .cut("one of its boxes ends") }
    let isBlank = file.region(at: end, count: 8)?.array.allSatisfy { $0 == 0 } ?? false
    return isBlank && file.region(end..<file.count)?.array.contains { $0 != 0 } ?? false
      ? .damaged("the head of a box is blank") : nil
  }

  /// The length of the segment, if it was filled in. FFmpeg itself reports elements that end too
  /// early.
  private static func matroska(_ file: ByteRegion) -> Bool {
    func variable(_ at: Int) -> (value: Int, width: Int)? {
      guard let first = file.byte(at: at), first != 0 else { return nil }
      let width = first.leadingZeroBitCount + 1
      guard let bytes = file.region(at: at, count: width)?.array else { return nil }
      let value = bytes.dropFirst().reduce(Int(first) & ((1 << (8 - width)) - 1)) {
        $0 << 8 | Int($1)
      }
      return value == 1 << (7 * width) - 1 ? nil : (value, width)
    }
    guard let head = variable(4) else { return true }
    let segment = 4 + head.width + head.value
    guard big(file, segment, UInt32.self) == 0x1853_8067, let size = variable(segment + 4) else {
      return true
    }
    return segment + 4 + size.width + size.value <= file.count
  }

  private static func gif(_ file: ByteRegion) -> Bool {
    func table(_ at: Int) -> Int {
      file.byte(at: at).map { $0 & 0x80 == 0 ? 0 : 6 << Int($0 & 7) } ?? 0
    }
    func blocks(_ start: Int) -> Int {
      var at = start
      while let size = file.byte(at: at) {
        at += 1 + Int(size)
        if size == 0 { return at }
      }
      return .max
    }
    var isEnded = false
    let isWhole = walk(file, from: 13 + table(10)) { at in
      switch file.byte(at: at) {
      case 0x21: return blocks(at + 2)
      case 0x2c: return blocks(at + 11 + table(at + 9))
      case 0x3b:
        isEnded = true
        return nil
      // This is not a block. FFmpeg skips such bytes, so the end is not known.
      default:
        isEnded = true
        return nil
      }
    }
    return isWhole && isEnded
  }

  private static func flash(_ file: ByteRegion) -> Bool {
    guard let head = big(file, 5, UInt32.self) else { return false }
    return walk(file, from: head + 4) { at in
      guard let word = big(file, at, UInt32.self) else { return .max }
      return [8, 9, 18].contains(word >> 24) ? at + 15 + word & 0xff_ffff : nil
    }
  }
  private static func ogg(_ file: ByteRegion) -> Bool {
    walk(file, from: 0) { at in
      guard text(file, at) == "OggS" else { return file.count - at < 4 ? .max : nil }
      guard let count = file.byte(at: at + 26),
        let segments = file.region(at: at + 27, count: Int(count))?.array
      else { return .max }
      return at + 27 + Int(count) + segments.reduce(0) { $0 + Int($1) }
    }
  }
  private static func ivf(_ file: ByteRegion) -> Bool {
    walk(file, from: Int(file.integer(at: 6, as: UInt16.self) ?? 32)) { at in
      file.integer(at: at, as: UInt32.self).map { at + 12 + Int($0) } ?? .max
    }
  }
  private static func png(_ file: ByteRegion) -> Bool {
    var isEnded = false
    let isWhole = walk(file, from: 8) { at in
      if isEnded { return nil }
      guard let size = big(file, at, UInt32.self), let type = text(file, at + 4) else {
        return .max
      }
      isEnded = type == "IEND"
      return at + 12 + size
    }
    return isWhole && isEnded
  }
  /// A picture, or several in a row. Bytes after the last one that are not a picture are ignored.
  private static func jpeg(_ file: ByteRegion) -> Bool {
    let bytes = file.array
    /// The position after the marker that begins at or after `start` inside a picture's coded data,
    /// in which FF 00 and restarts are not markers.
    func mark(after start: Int) -> Int? {
      var at = start
      while at + 1 < bytes.count {
        if bytes[at] == 0xff, bytes[at + 1] != 0, bytes[at + 1] != 0xff,
          !(0xd0...0xd7).contains(bytes[at + 1])
        {
          return at
        }
        at += 1
      }
      return nil
    }
    return walk(file, from: 0) { start in
      guard start + 1 < bytes.count, bytes[start] == 0xff, bytes[start + 1] == 0xd8 else {
        return nil
      }
      var at = start + 2
      while let next = mark(after: at) {
        if bytes[next + 1] == 0xd9 { return next + 2 }
        guard next + 3 < bytes.count else { return .max }
        at = next + 2 + (Int(bytes[next + 2]) << 8 | Int(bytes[next + 3]))
      }
      return .max
    }
  }
  private static func y4m(_ file: ByteRegion) -> Bool {
    guard let end = file.firstIndex(of: 0x0a, from: 0, limit: 1024),
      let line = file.region(0..<end)?.string
    else { return false }
    let fields = line.split(separator: " ").dropFirst()
    func field(_ letter: Character) -> Substring? {
      fields.first { $0.first == letter }?.dropFirst()
    }
    guard let width = field("W").flatMap({ Int($0) }), let height = field("H").flatMap({ Int($0) }),
      width > 0, height > 0, width < 1 << 20, height < 1 << 20
    else { return true }
    let colour = field("C") ?? "420"
    let half = (width + 1) / 2
    let chroma: Int
    switch colour.prefix(3) {
    case "420": chroma = 2 * half * ((height + 1) / 2)
    case "422": chroma = 2 * half * height
    case "444": chroma = (colour.hasPrefix("444alpha") ? 3 : 2) * width * height
    case "mon": chroma = 0
    default: return true
    }
    let isDeep = colour.contains("p1") || colour == "mono9" || colour.hasPrefix("mono1")
    let size = (width * height + chroma) * (isDeep ? 2 : 1)
    return walk(file, from: end + 1) { at in
      file.firstIndex(of: 0x0a, from: at, limit: 1024).map { $0 + 1 + size } ?? .max
    }
  }

  private static let asfHeader: [UInt8] = [
    0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, 0xa6, 0xd9, 0x00, 0xaa, 0x00, 0x62, 0xce, 0x6c,
  ]
  private static let asfProperties: [UInt8] = [
    0xa1, 0xdc, 0xab, 0x8c, 0x47, 0xa9, 0xcf, 0x11, 0x8e, 0xe4, 0x00, 0xc0, 0x0c, 0x20, 0x53, 0x65,
  ]
  /// WMV: the header has the length of the file, unless it was broadcast.
  private static func asf(_ file: ByteRegion) -> Bool {
    var isWhole = true
    _ = walk(file, from: 30) { at in
      guard let size = file.offset(at: at + 16), size >= 24, size < 1 << 40 else { return nil }
      if file.region(at: at, count: 16)?.array != asfProperties { return at + size }
      if let length = file.offset(at: at + 40),
        let flags = file.integer(at: at + 88, as: UInt32.self), flags & 1 == 0
      {
        isWhole = length <= file.count
      }
      return nil
    }
    return isWhole
  }

  /// MPEG transport stream: packets of 188 bytes (192 on Blu-ray, 204 with parity), each of which
  /// begins with the same byte.
  private static func transport(_ file: ByteRegion) -> Fault? {
    for (size, lead) in [(188, 0), (192, 4), (204, 0)] {
      guard file.count >= 4 * size, (0..<4).allSatisfy({ file.byte(at: lead + $0 * size) == 0x47 })
      else { continue }
      if file.count % size != 0 { return .cut("a packet ends") }
      for at in stride(from: lead, to: file.count, by: size) where file.byte(at: at) != 0x47 {
        return .damaged("packet \(at / size) does not begin as one")
      }
    }
    return nil
  }
}
