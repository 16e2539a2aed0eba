public import TensorRuntime

/// Writes `.safetensors` files, whole or not at all, whose data start at a multiple of 8.
public enum SafetensorsWriter {
  /// Writes the tensors in the given order, except that wider element types come first, so that
  /// every tensor is aligned. `format: "pt"` is added to the metadata unless it is there. Using a
  /// name twice is a bug of the caller. The scales of a quantized matrix follow it as `NAME_scale`,
  /// unless they are given.
  ///
  /// Throws `cannotCreate` or `readWrite`.
  public static func write(
    _ tensors: [(name: String, tensor: Tensor)], metadata: [(key: String, value: String)] = [],
    to path: String
  )
    throws(FileError)
  {
    let given = Set(tensors.map(\.name))
    let all = tensors.flatMap { name, tensor in
      guard let scales = tensor.scales, !given.contains(name + "_scale") else {
        return [(name: name, tensor: tensor)]
      }
      return [(name, tensor), (name + "_scale", scales)]
    }
    let ordered = ordered(all, by: \.tensor.type)
    let text = header(
      ordered.map { ($0.name, $0.tensor.type, $0.tensor.shape) }, metadata: metadata, path: path)
    try OutputFile.write(to: path) { file throws(FileError) in
      try file.append(littleEndian(UInt64(text.count)) + text)
      for (_, tensor) in ordered { try file.append(tensor) }
    }
  }

  /// Wider element types first, otherwise as given.
  static func ordered<Entry>(_ entries: [Entry], by type: (Entry) -> ElementType) -> [Entry] {
    [8, 4, 2, 1].flatMap { size in entries.filter { type($0).byteCount == size } }
  }
  /// The header with its padding. `ordered` is the order of the data.
  static func header(
    _ ordered: [(name: String, type: ElementType, shape: Shape)],
    metadata: [(key: String, value: String)], path: String
  ) -> [UInt8] {
    var header = JSONObject()
    var fields = JSONObject()
    fields["format"] = "pt"
    for (key, value) in metadata { fields[key] = .string(value) }
    header["__metadata__"] = .object(fields)
    var offset = 0
    for (name, type, shape) in ordered {
      precondition(header[name] == nil, "\(name) is used twice in \(path)")
      let byteCount = shape.count * type.byteCount
      header[name] = .object([
        "dtype": .string(StoredType(type).rawValue.uppercased()),
        "shape": .array(shape.dims.map { .integer($0) }),
        "data_offsets": .array([.integer(offset), .integer(offset + byteCount)]),
      ])
      offset += byteCount
    }
    var text = Array(JSONValue.object(header).line.utf8)
    text += Array(repeating: 0x20, count: (8 - text.count % 8) % 8)
    return text
  }
}

/// The bytes of an integer, least significant first.
func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
  (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
}
