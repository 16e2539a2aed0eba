internal import CEmbedded

/// Files inside the program, under paths that begin with `embedded:`
/// (`embedded:generator/vae/config.json`). They are read like other files. Nothing can be written
/// there.
public enum EmbeddedFiles {
  static let prefix = "embedded:"

  /// The paths, each with its prefix; empty in a program built without models.
  public static let paths: [String] = {
    var count = 0
    guard let files = unsafe pisces_embedded_files(&count) else { return [] }
    return (0..<count).map { unsafe prefix + String(cString: files[$0].path) }
  }()

  static func bytes(_ path: String) -> UnsafeRawBufferPointer? {
    var count = 0
    guard let i = paths.firstIndex(of: path), let files = unsafe pisces_embedded_files(&count)
    else {
      return nil
    }
    return unsafe UnsafeRawBufferPointer(start: files[i].bytes, count: files[i].count)
  }
  /// The embedded file or folder at `path`; nil if `path` does not begin with the prefix.
  static func kind(_ path: String) -> PathKind? {
    if !path.hasPrefix(prefix) { return nil }
    return paths.contains(path)
      ? .file : paths.contains { $0.hasPrefix(path + "/") } ? .folder : .nothing
  }
  /// Names directly inside a folder.
  static func list(_ path: String) -> [String] {
    let names = Set(
      paths.filter { $0.hasPrefix(path + "/") }.map {
        String($0.dropFirst(path.utf8.count + 1).prefix { $0 != "/" })
      })
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }
}
