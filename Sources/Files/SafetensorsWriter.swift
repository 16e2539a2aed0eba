public import TensorRuntime

/// Writes `.safetensors` files: whole or not at all, data starting at a multiple of 8.
public enum SafetensorsWriter {
  /// Writes the tensors in the order given, except that wider element types come first, so that every one is aligned.
  /// `format: "pt"` is added to the metadata unless it is there. A name used twice is the caller's bug.
  ///
  /// Throws `cannotCreate` or `readWrite`.
  public static func write(_ tensors: [(name: String, tensor: Tensor)], metadata: [(key: String, value: String)] = [], to path: String)
    throws(FileError)
  {
    var header = JSONObject()
    var fields = JSONObject()
    fields["format"] = "pt"
    for (key, value) in metadata { fields[key] = .string(value) }
    header["__metadata__"] = .object(fields)
    let ordered = [8, 4, 2, 1].flatMap { size in tensors.filter { $0.tensor.type.byteCount == size } }
    var offset = 0
    for (name, tensor) in ordered {
      precondition(header[name] == nil, "\(name) is used twice in \(path)")
      header[name] = .object([
        "dtype": .string(StoredType(tensor.type).rawValue.uppercased()),
        "shape": .array(tensor.shape.dims.map { .integer($0) }),
        "data_offsets": .array([.integer(offset), .integer(offset + tensor.byteCount)]),
      ])
      offset += tensor.byteCount
    }
    var text = Array(JSONValue.object(header).line.utf8)
    text += Array(repeating: 0x20, count: (8 - text.count % 8) % 8)
    try OutputFile.write(to: path) { file throws(FileError) in
      try file.append(littleEndian(UInt64(text.count)) + text)
      for (_, tensor) in ordered { try file.append(tensor) }
    }
  }
}

/// The bytes of an integer, least significant first.
func littleEndian(_ value: some FixedWidthInteger) -> [UInt8] {
  (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
}
