public import TensorRuntime

/// NumPy's `.npy` array files, versions 1 to 3, in either byte order, in C or Fortran order.
///
/// Reads f16, f32, f64, i8...i64, u8...u64 and bool (`StoredType.loaded` says what they become).
/// Writes every tensor type except bf16, which NumPy lacks. Never unpickles: object arrays are
/// refused.
public enum NumpyFile {
  /// Reads the array. It stays in the file's memory if it is aligned, little-endian and in C order.
  /// Throws `missingInput`, `badData` or `readWrite`.
  public static func read(_ path: String) throws(FileError) -> Tensor {
    try read(try MappedFile(path).region, name: path)
  }

  static func read(_ file: ByteRegion, name: String) throws(FileError) -> Tensor {
    guard file.starts(with: magic), let major: UInt8 = file.byte(at: 6) else {
      throw FileError.bad("not a .npy file", name)
    }
    guard (1...3).contains(major) else {
      throw FileError.bad(
        ".npy version \(major), 1 to 3 are known", name, mend: "save it again with numpy.save")
    }
    let headerCount =
      major == 1
      ? file.integer(at: 8, as: UInt16.self).map { Int($0) }
      : file.integer(at: 8, as: UInt32.self).map { Int($0) }
    let headerStart = major == 1 ? 10 : 12
    guard let headerCount, headerCount <= 1 << 20,
      let header = file.region(at: headerStart, count: headerCount)
    else {
      throw FileError.bad("header cut short", name)
    }
    // Versions 1 and 2 are Latin-1, version 3 is UTF-8. The header of a plain array is ASCII in all
    // versions.
    guard let text = header.string else {
      throw FileError.bad("header is not text", name, "header")
    }
    var literal = PythonLiteral(text, name: name)
    let fields = try literal.header()
    guard let type = types[String(fields.description.dropFirst())],
      orders.contains(String(fields.description.prefix(1)))
    else {
      throw FileError.bad(
        "cannot read elements of type \(fields.description)", name, "descr",
        mend: "save it as float32, float64, int32 or int64")
    }
    guard fields.shape.count <= 8 else {
      throw FileError.bad(
        "\(fields.shape.count) axes, at most 8 are supported", name, "shape",
        mend: "reshape the array")
    }
    let start = headerStart + headerCount
    guard let count = type.byteCount(of: fields.shape), count <= file.count - start else {
      throw FileError.bad(
        """
        shape \(fields.shape) of \(type) needs more than the \(file.count - start) bytes there are
        """,
        name, "shape")
    }
    guard count == file.count - start else {
      throw FileError.bad(
        "\(file.count - start - count) bytes after the array", name, "shape",
        mend: "store one array a file")
    }
    guard let stored = file.region(at: start, count: count) else {
      throw FileError.bad("data cut short", name)
    }
    let isSwapped = fields.description.hasPrefix(">") && type.byteCount > 1
    let elements = isSwapped ? swapped(stored, type.byteCount).region : stored
    let isReversed = fields.isFortranOrder && fields.shape.count > 1
    guard
      let tensor = isReversed
        ? reversed(elements, fields.shape, type) : elements.tensor(Shape(fields.shape), type)
    else {
      throw FileError.bad("a value does not fit i64", name, mend: "store it as int64")
    }
    return tensor
  }
  /// The elements of `width` bytes each, in the other byte order.
  private static func swapped(_ region: ByteRegion, _ width: Int) -> MappedFile {
    var bytes = region.array
    for start in stride(from: 0, to: bytes.count, by: width) {
      bytes[start..<start + width].reverse()
    }
    return MappedFile(bytes: bytes, name: region.path)
  }
  /// The elements of an array in Fortran order (the first axis varies fastest), rearranged to C
  /// order.
  private static func reversed(_ region: ByteRegion, _ shape: [Int], _ type: StoredType) -> Tensor?
  {
    if shape.contains(0) { return region.tensor(Shape(shape), type) }
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in 1..<shape.count { strides[axis] = strides[axis - 1] * shape[axis - 1] }
    return StridedView(shape: shape, strides: strides, offset: 0).gather(region, type)
  }

  /// Writes a version 1.0 file whose data start at a multiple of 64. Throws `cannotCreate` or
  /// `readWrite`.
  public static func write(_ tensor: Tensor, to path: String) throws(FileError) {
    let tensor = tensor.type == .bf16 ? Workspace().converted(tensor, to: .f32) : tensor
    let extents =
      tensor.shape.dims.map(String.init).joined(separator: ", ")
      + (tensor.shape.rank == 1 ? "," : "")
    let stored = StoredType(tensor.type)
    let name = types.first { $0.value == stored }!.key
    let type = (stored.byteCount == 1 ? "|" : "<") + name
    var header = Array("{'descr': '\(type)', 'fortran_order': False, 'shape': (\(extents)), }".utf8)
    header += Array(repeating: 0x20, count: 63 - (10 + header.count) % 64) + [0x0a]
    try OutputFile.write(to: path) { file throws(FileError) in
      try file.append(magic + [1, 0] + littleEndian(UInt16(header.count)) + header)
      try file.append(tensor)
    }
  }

  private static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)
  private static let types: [String: StoredType] = [
    "f2": .f16, "f4": .f32, "f8": .f64, "i1": .i8, "i2": .i16, "i4": .i32, "i8": .i64, "u1": .u8,
    "u2": .u16, "u4": .u32, "u8": .u64, "b1": .bool,
  ]
  /// Little-endian, big-endian, native, and not applicable.
  private static let orders = ["<", ">", "=", "|"]
}

/// The dictionary in the header of a `.npy` file: a Python literal with three keys.
private struct PythonLiteral {
  private let text: [UInt8]
  private let name: String
  private var at = 0

  init(_ text: String, name: String) { (self.text, self.name) = (Array(text.utf8), name) }

  mutating func header() throws(FileError) -> (
    description: String, isFortranOrder: Bool, shape: [Int]
  ) {
    var description: String?
    var isFortranOrder: Bool?
    var shape: [Int]?
    try expect("{")
    while !take("}") {
      let key = try string()
      try expect(":")
      switch key {
      case "descr" where description == nil:
        if peek == UInt8(ascii: "[") {
          throw FileError.bad("a structured array", name, "descr", mend: "save a plain array")
        }
        description = try string()
      case "fortran_order" where isFortranOrder == nil:
        if take("True") {
          isFortranOrder = true
        } else if take("False") {
          isFortranOrder = false
        } else {
          throw fault()
        }
      case "shape" where shape == nil: shape = try tuple()
      default: throw fault()
      }
      if !take(",") {
        try expect("}")
        break
      }
    }
    skipSpace()
    guard at == text.count, let description, let isFortranOrder, let shape else { throw fault() }
    return (description, isFortranOrder, shape)
  }

  private func fault() -> FileError {
    FileError.bad("malformed header at byte \(at)", name, "header")
  }
  private var peek: UInt8? {
    mutating get {
      skipSpace()
      return at < text.count ? text[at] : nil
    }
  }
  private mutating func skipSpace() {
    while at < text.count, [0x20, 0x0a, 0x0d, 0x09].contains(text[at]) { at += 1 }
  }
  private mutating func take(_ token: String) -> Bool {
    skipSpace()
    guard text[at...].starts(with: token.utf8) else { return false }
    at += token.utf8.count
    return true
  }
  private mutating func expect(_ token: String) throws(FileError) {
    if !take(token) { throw fault() }
  }
  private mutating func string() throws(FileError) -> String {
    guard let quote = peek, quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\""),
      let end = text[(at + 1)...].firstIndex(of: quote)
    else {
      throw fault()
    }
    defer { at = end + 1 }
    return String(decoding: text[at + 1..<end], as: UTF8.self)
  }
  private mutating func tuple() throws(FileError) -> [Int] {
    try expect("(")
    var extents: [Int] = []
    while !take(")") {
      skipSpace()
      let end =
        text[at...].firstIndex { !($0 == UInt8(ascii: "-") || (0x30...0x39).contains($0)) }
        ?? text.count
      guard let extent = Int(String(decoding: text[at..<end], as: UTF8.self)) else { throw fault() }
      if extent < 0 { throw FileError.bad("negative extent \(extent)", name, "shape") }
      extents.append(extent)
      at = end
      _ = take("L")  // Python 2 wrote long integers so
      if !take(",") {
        try expect(")")
        break
      }
    }
    return extents
  }
}
