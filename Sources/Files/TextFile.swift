/// Text files, UTF-8.
public enum TextFile {
  /// The whole text. Throws `missingInput`, or `badData` when it is not UTF-8.
  public static func read(_ path: String) throws(FileError) -> String {
    guard let text = try MappedFile(path).region.string else { throw FileError.bad("not UTF-8 text", path) }
    return text
  }
  /// The lines, without their line ends; a last line end closes the last line.
  public static func lines(_ path: String) throws(FileError) -> [String] {
    let lines = try read(path).split(separator: "\n", omittingEmptySubsequences: false).map { $0.hasSuffix("\r") ? String($0.dropLast()) : String($0) }
    return lines.last == "" ? Array(lines.dropLast()) : lines
  }
}
