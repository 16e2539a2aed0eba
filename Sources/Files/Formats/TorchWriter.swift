public import TensorRuntime

/// Writes a state dict, or a list, in PyTorch's format: a stored zip with one storage for each
/// tensor (checkpoints.md 9.5). It is used for the raw OT map and to exchange LoRA files; other
/// outputs are safetensors.
public enum TorchWriter {
  /// Writes an OrderedDict of the tensors, in order. Throws `cannotCreate` or `readWrite`.
  public static func write(_ tensors: [(name: String, tensor: Tensor)], to path: String)
    throws(FileError)
  {
    try write(tensors.map(\.tensor), names: tensors.map(\.name), to: path)
  }
  /// Writes a list of the tensors. Throws `cannotCreate` or `readWrite`.
  public static func write(list tensors: [Tensor], to path: String) throws(FileError) {
    try write(tensors, names: nil, to: path)
  }

  private static func write(_ tensors: [Tensor], names: [String]?, to path: String)
    throws(FileError)
  {
    let top = splitExtension(path).stem
    var zip = ZipWriter()
    zip.add("\(top)/data.pkl", bytes: pickle(tensors, names: names))
    zip.add("\(top)/byteorder", bytes: Array("little".utf8))
    for (i, tensor) in tensors.enumerated() { zip.add("\(top)/data/\(i)", tensor: tensor) }
    zip.add("\(top)/version", bytes: Array("3\n".utf8))
    try OutputFile.write(to: path) { file throws(FileError) in try zip.write(to: file) }
  }

  /// A list where there are no names.
  private static func pickle(_ tensors: [Tensor], names: [String]?) -> [UInt8] {
    var out: [UInt8] = [0x80, 2]
    func global(_ module: String, _ name: String) {
      out += [0x63] + Array("\(module)\n\(name)\n".utf8)
    }
    func text(_ s: String) { out += [0x58] + littleEndian(UInt32(s.utf8.count)) + Array(s.utf8) }
    func integer(_ n: Int) {
      if let small = Int32(exactly: n) {
        out += [0x4a] + littleEndian(small)
      } else {
        out += [0x8a, 8] + littleEndian(Int64(n))
      }
    }
    func tuple(_ items: [Int]) {
      out.append(0x28)
      for n in items { integer(n) }
      out.append(0x74)
    }
    func orderedDict() {
      global("collections", "OrderedDict")
      out += [0x29, 0x52]
    }
    if names == nil { out.append(0x5d) } else { orderedDict() }
    out.append(0x28)
    for (i, tensor) in tensors.enumerated() {
      if let names { text(names[i]) }
      global("torch._utils", "_rebuild_tensor_v2")
      out += [0x28, 0x28]
      text("storage")
      global("torch", storageName(tensor.type))
      text(String(i))
      text("cpu")
      integer(tensor.count)
      out += [0x74, 0x51]
      integer(0)
      tuple(tensor.shape.dims)
      tuple(StridedView.contiguous(tensor.shape.dims))
      out.append(0x89)
      orderedDict()
      out += [0x74, 0x52]
    }
    return out + [names == nil ? 0x65 : 0x75, 0x2e]
  }
  private static func storageName(_ type: ElementType) -> String {
    switch type {
    case .f32: "FloatStorage"
    case .f64: "DoubleStorage"
    case .bf16: "BFloat16Storage"
    case .f16: "HalfStorage"
    case .i32: "IntStorage"
    case .i64: "LongStorage"
    case .u8: "ByteStorage"
    case .i8: preconditionFailure("quantized weights are written as safetensors")
    }
  }
}

/// A zip of stored entries whose data start at multiples of 64, with ZIP64 if the numbers need it.
struct ZipWriter {
  private enum Content {
    case bytes([UInt8])
    case tensor(Tensor)
    var count: Int {
      switch self {
      case .bytes(let b): b.count
      case .tensor(let t): t.byteCount
      }
    }
    var crc: UInt32 {
      switch self {
      case .bytes(let b): Checksum.crc32(b)
      case .tensor(let t): Checksum.crc32(t)
      }
    }
  }
  private var entries: [(name: [UInt8], content: Content)] = []
  /// Writes ZIP64 fields even if they are not needed.
  var alwaysWide = false

  mutating func add(_ name: String, bytes: [UInt8]) {
    entries.append((Array(name.utf8), .bytes(bytes)))
  }
  mutating func add(_ name: String, tensor: Tensor) {
    entries.append((Array(name.utf8), .tensor(tensor)))
  }

  func write(to file: OutputFile) throws(FileError) {
    try write(
      append: { bytes throws(FileError) in try file.append(bytes) },
      tensor: { tensor throws(FileError) in try file.append(tensor) })
  }
  /// The archive in memory.
  func bytes() -> [UInt8] {
    var out: [UInt8] = []
    try? write(
      append: { bytes throws(FileError) in out += bytes },
      tensor: { tensor throws(FileError) in unsafe tensor.withBytes { unsafe out += $0 } })
    return out
  }

  private func write(
    append: ([UInt8]) throws(FileError) -> Void,
    tensor appendTensor: (Tensor) throws(FileError) -> Void
  ) throws(FileError) {
    var directory: [UInt8] = []
    var at = 0
    for (name, content) in entries {
      let header = EntryHeader(name: name, content: content, at: at, alwaysWide: alwaysWide)
      try append(header.local)
      switch content {
      case .bytes(let bytes): try append(bytes)
      case .tensor(let tensor): try appendTensor(tensor)
      }
      directory += header.central
      at += header.local.count + content.count
    }
    try append(directory)
    try append(end(directory: directory.count, at: at))
  }

  /// The two headers of an entry: the local one before its bytes, and that of the directory.
  private struct EntryHeader {
    let local, central: [UInt8]

    init(name: [UInt8], content: Content, at: Int, alwaysWide: Bool) {
      let (crc, size) = (content.crc, content.count)
      let isWide = alwaysWide || size >= Int(UInt32.max) || at >= Int(UInt32.max)
      let narrow = littleEndian(isWide ? UInt32.max : UInt32(size))
      // Version, flags (UTF-8 names), method 0, a fixed date (1 January 1980), CRC, sizes.
      let common =
        littleEndian(UInt16(isWide ? 45 : 20)) + littleEndian(UInt16(0x800))
        + [0, 0, 0, 0, 0x21, 0] + littleEndian(crc) + narrow + narrow
        + littleEndian(UInt16(name.count))
      let sizes = littleEndian(UInt64(size)) + littleEndian(UInt64(size))
      let wideLocal = isWide ? littleEndian(UInt16(1)) + littleEndian(UInt16(16)) + sizes : []
      let wideCentral =
        isWide
        ? littleEndian(UInt16(1)) + littleEndian(UInt16(24)) + sizes + littleEndian(UInt64(at)) : []
      // The contents begin at a multiple of 64 bytes. 'FB' is the padding field of PyTorch.
      let padding = (64 - (at + 30 + name.count + wideLocal.count + 4) % 64) % 64
      let extra =
        wideLocal + [0x46, 0x42] + littleEndian(UInt16(padding))
        + [UInt8](repeating: 0x5a, count: padding)
      local =
        littleEndian(UInt32(0x0403_4b50)) + common + littleEndian(UInt16(extra.count)) + name
        + extra
      let position = littleEndian(isWide ? UInt32.max : UInt32(at))
      central =
        littleEndian(UInt32(0x0201_4b50)) + littleEndian(UInt16(45)) + common
        + littleEndian(UInt16(wideCentral.count)) + [UInt8](repeating: 0, count: 10) + position
        + name + wideCentral
    }
  }
  /// The records after the directory, which begins at `at`.
  private func end(directory size: Int, at: Int) -> [UInt8] {
    let count = entries.count
    let isWide =
      alwaysWide || count >= 0xffff || at >= Int(UInt32.max) || size >= Int(UInt32.max)
    var out: [UInt8] = []
    if isWide {
      let n = littleEndian(UInt64(count))
      out += littleEndian(UInt32(0x0606_4b50)) + littleEndian(UInt64(44))
      out += littleEndian(UInt16(45)) + littleEndian(UInt16(45))
      out += [UInt8](repeating: 0, count: 8) + n + n
      out += littleEndian(UInt64(size)) + littleEndian(UInt64(at))
      out += littleEndian(UInt32(0x0706_4b50)) + littleEndian(UInt32(0))
      out += littleEndian(UInt64(at + size)) + littleEndian(UInt32(1))
    }
    let n = isWide ? littleEndian(UInt16.max) : littleEndian(UInt16(count))
    out += littleEndian(UInt32(0x0605_4b50)) + [0, 0, 0, 0] + n + n
    out += littleEndian(isWide ? UInt32.max : UInt32(size))
    out += littleEndian(isWide ? UInt32.max : UInt32(at)) + [0, 0]
    return out
  }
}
