public import TensorRuntime

/// A named collection of tensors in one or several files.
public protocol TensorSource: Sendable {
  /// The file or folder, for messages.
  var path: String { get }
  /// All names, in the order of the file.
  var names: [String] { get }
  /// Stored type (nil if it cannot be read) and extents; nil if there is no such tensor.
  func entry(named name: String) -> TensorEntry?
  /// The tensor, without a copy if the container allows it. Throws `badData` if it is missing or
  /// unreadable.
  func tensor(named name: String) throws(FileError) -> Tensor
  /// The elements as they are stored, also those of a type that cannot be read. Throws `badData` if
  /// the tensor is missing.
  func bytes(named name: String) throws(FileError) -> [UInt8]
  /// The same as a tensor u8 `[bytes]`, without a copy if the container allows it.
  func octets(named name: String) throws(FileError) -> Tensor
  /// The file's own text fields.
  var metadata: [String: String] { get }
}
extension TensorSource {
  public func bytes(named name: String) throws(FileError) -> [UInt8] {
    try unsafe tensor(named: name).withBytes { unsafe Array($0) }
  }
  public func octets(named name: String) throws(FileError) -> Tensor {
    let region = MappedFile(bytes: try bytes(named: name), name: path).region
    return region.tensor(Shape(region.count), .u8)!
  }
  public var metadata: [String: String] { [:] }
}

/// The description of a tensor in a file.
public struct TensorEntry: Sendable, Equatable {
  /// The type's name in the file.
  public let typeName: String
  /// The type, if it can be read.
  public let type: StoredType?
  public let shape: [Int]
  /// Bytes in the file, if the type does not determine them.
  public var byteCount: Int?
}

/// A `.safetensors` file, mapped. The whole header is checked when the file is opened
/// (checkpoints.md 8). A tensor of a type that cannot be read (float8) is an error only when it is
/// requested.
public final class SafetensorsFile: TensorSource {
  public let path: String
  /// The names in the order of the header.
  public let names: [String]
  /// The file's own text fields (`__metadata__`).
  public let metadata: [String: String]
  private struct Entry: Sendable {
    let typeName: String
    let shape: [Int]
    let range: Range<Int>
  }
  private let entries: [String: Entry]
  private let data: ByteRegion

  /// A header larger than this is refused (the limit of the reference implementation).
  static let largestHeader = 100_000_000

  public convenience init(_ path: String) throws(FileError) { try self.init(try MappedFile(path)) }

  init(_ file: MappedFile) throws(FileError) {
    path = file.path
    let all = file.region
    if all.byte(at: 8) != UInt8(ascii: "{"), let nature = FileNature(all) {
      throw nature.error(path)
    }
    guard let headerCount = all.offset(at: 0) else {
      throw FileError.bad(
        file.count < 8
          ? "too short for a safetensors file (\(file.count) bytes)" : "not a safetensors file",
        path)
    }
    guard headerCount <= Self.largestHeader, let header = all.region(at: 8, count: headerCount),
      let data = all.region(at: 8 + headerCount, count: all.count - 8 - headerCount)
    else {
      throw FileError.bad(
        """
        not a safetensors file, or cut short (header of \(headerCount) bytes in a file of \
        \(file.count))
        """,
        path)
    }
    guard header.byte(at: 0) == UInt8(ascii: "{") else {
      throw FileError.bad("not a safetensors file", path, "header")
    }
    guard case .object(let object) = try JSONValue(parsing: header.array, name: "\(path), header")
    else {
      throw FileError.bad("not a safetensors file", path, "header")
    }

    var names: [String] = []
    var entries: [String: Entry] = [:]
    var metadata: [String: String] = [:]
    for (name, value) in object.members {
      if name == "__metadata__" {
        guard let fields = value.object else {
          throw FileError.bad("metadata is not an object of texts", path, "__metadata__")
        }
        for (key, text) in fields.members {
          guard let text = text.string else {
            throw FileError.bad("metadata is not an object of texts", path, "__metadata__ '\(key)'")
          }
          metadata[key] = text
        }
      } else {
        names.append(name)
        entries[name] = try Self.entry(value, path: path, name: name)
      }
    }
    try Self.checkTiling(names.map { ($0, entries[$0]!.range) }, dataCount: data.count, path: path)
    (self.names, self.entries, self.metadata, self.data) = (names, entries, metadata, data)
  }

  private static func entry(_ value: JSONValue, path: String, name: String) throws(FileError)
    -> Entry
  {
    let field = "tensor '\(name)'"
    guard let object = value.object, let typeName = object["dtype"]?.string,
      let shape = object["shape"]?.array,
      let offsets = object["data_offsets"]?.array
    else {
      throw FileError.bad("header entry lacks dtype, shape or data_offsets", path, field)
    }
    var extents: [Int] = []
    for extent in shape {
      guard case .integer(let n) = extent, n >= 0 else {
        throw FileError.bad("shape is not a list of non-negative integers", path, field)
      }
      extents.append(n)
    }
    guard offsets.count == 2, case .integer(let begin) = offsets[0],
      case .integer(let end) = offsets[1], begin >= 0, begin <= end
    else {
      throw FileError.bad("data_offsets is not a pair of ascending integers", path, field)
    }
    // An unknown type is listed, and refused when it is requested.
    if let bits = bitCount[typeName] {
      guard let product = StoredType.product(of: extents, times: bits), product % 8 == 0,
        product / 8 == end - begin
      else {
        throw FileError.bad(
          "shape \(extents) of \(typeName) does not fill \(end - begin) bytes", path, field)
      }
    } else if StoredType.product(of: extents, times: 1) == nil {
      throw FileError.bad("impossible shape \(extents)", path, field)
    }
    return Entry(typeName: typeName, shape: extents, range: begin..<end)
  }

  /// Bits of one element, for every type of the format.
  private static let bitCount = [
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16,
    "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
    "F32": 32, "F64": 64,
    "I64": 64, "U64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
  ]

  /// In order of their start, the ranges must cover the data from 0 to the end without gaps.
  private static func checkTiling(
    _ ranges: [(name: String, range: Range<Int>)], dataCount: Int, path: String
  ) throws(FileError) {
    var end = 0
    for (name, range) in ranges.sorted(by: {
      ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound)
    }) {
      if range.lowerBound != end {
        throw FileError.bad(
          """
          data \(range.lowerBound < end ? "overlaps another tensor" : "leaves a hole before it") \
          at offset \(range.lowerBound)
          """,
          path,
          "tensor '\(name)'")
      }
      end = range.upperBound
    }
    if end != dataCount {
      throw FileError.bad(
        end > dataCount
          ? "cut short: \(dataCount) bytes of data, the header asks for \(end)"
          : "\(dataCount - end) bytes after the last tensor", path
      )
    }
  }

  public func entry(named name: String) -> TensorEntry? {
    entries[name].map {
      TensorEntry(
        typeName: $0.typeName, type: StoredType(rawValue: $0.typeName.lowercased()),
        shape: $0.shape, byteCount: $0.range.count)
    }
  }

  public func bytes(named name: String) throws(FileError) -> [UInt8] {
    guard let entry = entries[name], let bytes = data.region(entry.range) else {
      throw FileError.bad("no such tensor", path, "tensor '\(name)'")
    }
    return bytes.array
  }
  public func octets(named name: String) throws(FileError) -> Tensor {
    guard let entry = entries[name], let bytes = data.region(entry.range) else {
      throw FileError.bad("no such tensor", path, "tensor '\(name)'")
    }
    return bytes.tensor(Shape(entry.range.count), .u8)!
  }
  /// The elements, in the file's memory if they are aligned for their type.
  public func tensor(named name: String) throws(FileError) -> Tensor {
    guard let entry = entries[name] else {
      throw FileError.bad(
        "no such tensor", path, "tensor '\(name)'", mend: "the file holds \(Self.list(names))")
    }
    guard let type = StoredType(rawValue: entry.typeName.lowercased()) else {
      let mend =
        EightBitFloat(typeName: entry.typeName) == nil
        ? "convert it to f32, f16 or bf16" : EightBitFloat.remedy
      throw FileError.bad(
        "cannot compute with dtype \(entry.typeName)", path, "tensor '\(name)'", mend: mend)
    }
    guard entry.shape.count <= 8 else {
      throw FileError.bad(
        "\(entry.shape.count) axes, at most 8 are supported", path, "tensor '\(name)'",
        mend: "reshape it")
    }
    guard let bytes = data.region(entry.range), let tensor = bytes.tensor(Shape(entry.shape), type)
    else {
      throw FileError.bad(
        "a value does not fit i64", path, "tensor '\(name)'", mend: "store it as i64")
    }
    return tensor
  }

  /// The first few names, for messages.
  static func list(_ names: [String]) -> String {
    names.isEmpty
      ? "no tensor"
      : names.prefix(5).map { "'\($0.prefix(80))'" }.joined(separator: ", ")
        + (names.count > 5 ? " and \(names.count - 5) more" : "")
  }
}
