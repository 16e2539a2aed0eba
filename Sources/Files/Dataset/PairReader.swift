/// Videos and prompts of a manifest, line by line: JSON Lines `{"video": PATH, "prompt": TEXT}`, or
/// `caption` instead of `prompt`. Paths are relative to the manifest's folder. For standard input
/// (`-`) and pipes they are relative to the working directory.
public struct PairReader {
  /// The folder of relative paths.
  public let folder: String
  private let name: String
  private var lines: TextLines
  public private(set) var line = ""

  /// Throws `missingInput`, `badData` or `readWrite` if the manifest cannot be read at all.
  public init(_ path: String) throws(FileError) {
    lines = path == "-" ? .standardInput : try TextLines(path)
    // A pipe, as in `--manifest <(make-list)`, has no folder.
    let isFile = path != "-" && PathKind(path) == .file
    (folder, name) = (isFile ? splitPath(path).folder : ".", path == "-" ? "standard input" : path)
  }
  /// Whether no more pairs can follow.
  public var isOver: Bool { lines.isOver }

  /// The next pair, with the path as written; nil at the end. Throws `badData` for a line that is
  /// not a pair, after which reading can continue unless `isOver`; otherwise `readWrite`.
  public mutating func next() throws(FileError) -> (video: String, prompt: String)? {
    while let (number, text) = try lines.next() {
      line = "\(name), line \(number)"
      guard let value = try JSONLines.parse(text, name: line) else { continue }
      guard let video = value["video"]?.string, !video.isEmpty else {
        throw Self.lacking("video", line)
      }
      guard let prompt = (value["prompt"] ?? value["caption"])?.string else {
        throw Self.lacking("prompt", line)
      }
      return (video, prompt)
    }
    return nil
  }
  private static func lacking(_ key: String, _ line: String) -> FileError {
    FileError.bad("no text '\(key)'", line, mend: "write {\"video\": PATH, \"prompt\": TEXT}")
  }

  /// The path of a video named in a manifest of `folder`, including one followed by the name of a
  /// tensor.
  public static func path(_ video: String, in folder: String) -> String {
    folder == "." || video.hasPrefix(EmbeddedFiles.prefix) ? video : joinPath(folder, video)
  }
}
