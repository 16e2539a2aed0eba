/// Videos and prompts of a manifest, line by line: JSON Lines `{"video": PATH, "prompt": TEXT}`, or
/// `caption` for `prompt`. Paths are relative to the manifest's folder; those of standard input
/// (`-`) and of pipes to the working directory.
public struct PairReader {
  /// What relative paths begin at.
  public let folder: String
  private let name: String
  private var lines: TextLines
  public private(set) var line = ""

  /// Throws `missingInput`, `badData` or `readWrite` if the manifest cannot be read at all.
  public init(_ path: String) throws(FileError) {
    lines = path == "-" ? .standardInput : try TextLines(path)
    // A pipe, as in `--manifest <(make-list)`, lies nowhere.
    let isFile = path != "-" && PathKind(path) == .file
    (folder, name) = (isFile ? splitPath(path).folder : ".", path == "-" ? "standard input" : path)
  }
  /// Whether nothing more can come.
  public var isOver: Bool { lines.isOver }

  /// The next pair, the path as it is written; nil at the end. Throws `badData` for a line that is
  /// none, after which the next may be asked for unless `isOver`; else `readWrite`.
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

  /// The path of a video named in a manifest of `folder`; one with a tensor's name behind it too.
  public static func path(_ video: String, in folder: String) -> String {
    folder == "." || video.hasPrefix(EmbeddedFiles.prefix) ? video : joinPath(folder, video)
  }
}
