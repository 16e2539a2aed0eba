public import Files
public import TensorRuntime

/// Many clips of one shape in one file: `pixels` `[N, T, 3, H, W]` (f32, or bf16 to save space),
/// and the captions as a JSON list in the header's field `captions`.
public enum ClipArchive {
  public static func write(_ pixels: Tensor, captions: [String], to path: String) throws(FileError)
  {
    precondition(
      pixels.shape.rank == 5 && pixels.shape[0] == captions.count,
      "\(captions.count) captions for \(pixels.shape)")
    try SafetensorsWriter.write(
      [(name: "pixels", tensor: pixels)],
      metadata: [
        ("format", "pt"), ("captions", JSONValue.array(captions.map { .string($0) }).line),
      ], to: path)
  }
  /// Clips `[T, 3, H, W]` and their captions.
  public static func read(_ path: String) throws(FileError) -> (clips: [Tensor], captions: [String])
  {
    let file = try SafetensorsFile(path)
    let pixels = try file.tensor(named: "pixels")
    let captions =
      try file.metadata["captions"].map { (text) throws(FileError) in
        try JSONValue(parsing: text, name: path).array?.compactMap(\.string) ?? []
      } ?? []
    guard pixels.shape.rank == 5, pixels.shape[0] == captions.count else {
      throw FileError(
        .badData, "pixels \(pixels.shape) with \(captions.count) captions", in: path,
        mend: "make it with pisces sample --archive")
    }
    let wide = Workspace().widened(pixels)
    return ((0..<captions.count).map { wide[row: $0] }, captions)
  }
}
