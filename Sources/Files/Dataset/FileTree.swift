/// Operations on whole folders, including embedded ones.
public enum FileTree {
  /// Whether `path` leads to a file or a folder.
  public static func exists(_ path: String) -> Bool {
    PathKind(path) == .file || PathKind(path) == .folder
  }

  /// Copies a file, or a folder with everything in it that is not hidden. Throws `missingInput` or
  /// `readWrite`.
  public static func copy(_ source: String, to target: String) throws(FileError) {
    if PathKind(source) == .folder {
      try createFolder(target)
      for name in try listFolder(source) { try copy("\(source)/\(name)", to: "\(target)/\(name)") }
    } else {
      try OutputFile.write(try MappedFile(source).region.array, to: target)
    }
  }
}
