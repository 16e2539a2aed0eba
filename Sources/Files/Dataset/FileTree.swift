/// Operations on whole folders, including embedded ones.
public enum FileTree {
  /// Bytes that are in memory at once while a file is copied.
  private static let portion = 16 << 20

  /// Whether `path` leads to a file or a folder.
  public static func exists(_ path: String) -> Bool {
    PathKind(path) == .file || PathKind(path) == .folder
  }

  /// The names in a folder, sorted, hidden ones left out. Throws `missingInput` or `readWrite`.
  public static func names(in folder: String) throws(FileError) -> [String] {
    try listFolder(folder)
  }

  /// Copies a file, or a folder with everything in it that is not hidden. Throws `missingInput` or
  /// `readWrite`.
  public static func copy(_ source: String, to target: String) throws(FileError) {
    if PathKind(source) == .folder {
      try createFolder(target)
      for name in try listFolder(source) { try copy("\(source)/\(name)", to: "\(target)/\(name)") }
    } else {
      let bytes = try MappedFile(source).region
      try OutputFile.write(to: target) { file throws(FileError) in
        for start in stride(from: 0, to: bytes.count, by: portion) {
          try file.append(bytes.region(start..<min(start + portion, bytes.count))!.array)
        }
      }
    }
  }
}
