public import TensorRuntime

extension SafetensorsWriter {
  /// Writes tensors that are made one at a time, in the order of the file, so that only one is in
  /// memory. `make` must return what the entry says. Throws `cannotCreate` or `readWrite`, and the
  /// errors of `make`; nothing is left behind then.
  public static func write(
    _ entries: [(name: String, type: ElementType, shape: Shape)],
    metadata: [(key: String, value: String)] = [], to path: String,
    make: (String) throws(FileError) -> Tensor
  ) throws(FileError) {
    let ordered = ordered(entries, by: \.type)
    let text = header(ordered, metadata: metadata, path: path)
    try OutputFile.write(to: path) { file throws(FileError) in
      try file.append(littleEndian(UInt64(text.count)) + text)
      for entry in ordered {
        let tensor = try make(entry.name)
        precondition(
          tensor.type == entry.type && tensor.shape == entry.shape,
          "\(entry.name) is \(tensor.type) \(tensor.shape), not \(entry.type) \(entry.shape)")
        try file.append(tensor)
      }
    }
  }
}
