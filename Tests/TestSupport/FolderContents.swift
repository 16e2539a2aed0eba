import FoundationEssentials

/// What lies on disk, read without the readers under test.
public enum FolderContents {
  /// Paths of all files below a folder, relative to it, sorted.
  public static func files(_ folder: String) throws -> [String] {
    var found: [String] = []
    for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted() {
      var isFolder = false
      _ = FileManager.default.fileExists(atPath: "\(folder)/\(name)", isDirectory: &isFolder)
      if isFolder {
        for below in try files("\(folder)/\(name)") { found.append("\(name)/\(below)") }
      } else {
        found.append(name)
      }
    }
    return found
  }
  public static func bytes(_ path: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(filePath: path)))
  }
}
