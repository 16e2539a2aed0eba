/// Whole folders, embedded ones too.
public enum FileTree {
  /// Whether `path` leads to a file or a folder.
  public static func exists(_ path: String) -> Bool { PathKind(path) == .file || PathKind(path) == .folder }

  /// Copies a file, or a folder with everything in it that is not hidden. Throws `missingInput` or `readWrite`.
  public static func copy(_ source: String, to target: String) throws(FileError) {
    if PathKind(source) == .folder {
      try createFolder(target)
      for name in try listFolder(source) { try copy("\(source)/\(name)", to: "\(target)/\(name)") }
    } else {
      let file = try MappedFile(source)
      try OutputFile.write(file.region.array, to: target)
    }
  }
}
extension FileTree {
  /// Paths of all files below a folder, relative to it, sorted; hidden ones left out.
  public static func files(_ folder: String) throws(FileError) -> [String] {
    var found: [String] = []
    for name in try listFolder(folder) {
      if PathKind("\(folder)/\(name)") == .folder { for below in try files("\(folder)/\(name)") { found.append("\(name)/\(below)") } } else { found.append(name) }
    }
    return found
  }
  /// A whole file.
  public static func bytes(_ path: String) throws(FileError) -> [UInt8] { try MappedFile(path).region.array }
  /// CRC-32 of a file's bytes.
  public static func checksum(_ path: String) throws(FileError) -> UInt32 { try MappedFile(path).region.crc32 }
}
