internal import FoundationEssentials
internal import Glibc
internal import Synchronization
public import TensorRuntime

/// A file that is being written. Under its final name it appears as a whole or not at all: the
/// bytes go to a temporary name in the same folder, are written to the disk, and the file is
/// renamed. A device or pipe (`/dev/stdout`) is written directly.
///
///     try OutputFile.write(to: path) { file throws(FileError) in try file.append(bytes) }
///
/// Besides `MappedFile` this is the only place in this module that holds a pointer.
public final class OutputFile {
  public let path: String
  private let descriptor: Int32
  /// Bytes written so far.
  public private(set) var count = 0

  private init(path: String, descriptor: Int32) {
    (self.path, self.descriptor) = (path, descriptor)
  }
  deinit { close(descriptor) }

  /// Writes `path` through `body`. If `body` throws, or the disk is full, nothing is left behind
  /// and an older file of that name stays unchanged. Throws `cannotCreate` or `readWrite`, or the
  /// errors of `body`.
  public static func write(to path: String, _ body: (OutputFile) throws(FileError) -> Void)
    throws(FileError)
  {
    let target = try Destination(path)
    if target.isSpecial {
      let descriptor = unsafe open(path, O_WRONLY | O_CLOEXEC)
      if descriptor < 0 { throw createError(path, errno) }
      try body(OutputFile(path: path, descriptor: descriptor))
      return
    }
    let (temporary, descriptor) = try target.createTemporary()
    do throws(FileError) {
      let file = OutputFile(path: path, descriptor: descriptor)
      try body(file)
      if fsync(descriptor) != 0 { throw writeError(path, errno) }
    } catch {
      unsafe unlink(temporary)
      throw error
    }
    try target.replace(with: temporary)
  }

  /// Checks that `path` can be written now, so that hours of work do not end with a missing folder.
  /// Throws `cannotCreate`.
  public static func probe(_ path: String) throws(FileError) {
    let target = try Destination(path)
    if target.isSpecial { return }
    let (temporary, descriptor) = try target.createTemporary()
    close(descriptor)
    unsafe unlink(temporary)
  }

  public static func write(_ bytes: [UInt8], to path: String) throws(FileError) {
    try write(to: path) { file throws(FileError) in try file.append(bytes) }
  }
  public static func write(_ text: String, to path: String) throws(FileError) {
    try write(Array(text.utf8), to: path)
  }

  public func append(_ bytes: [UInt8]) throws(FileError) {
    try unsafe check(bytes.withUnsafeBytes { unsafe writeAll($0) })
  }
  public func append(_ text: String) throws(FileError) { try append(Array(text.utf8)) }
  /// The elements in C order, little endian.
  public func append(_ tensor: Tensor) throws(FileError) {
    try unsafe check(tensor.withBytes { unsafe writeAll($0) })
  }
  private func check(_ code: Int32) throws(FileError) {
    if code != 0 { throw Self.writeError(path, code) }
  }
  /// The error number; 0 if all was written.
  private func writeAll(_ bytes: UnsafeRawBufferPointer) -> Int32 {
    count += bytes.count
    return unsafe Descriptor.write(bytes, to: descriptor)
  }

  static func createError(_ path: String, _ code: Int32) -> FileError {
    let remedy =
      switch code {
      case ENOENT, ENOTDIR: "create the folder first"
      case EACCES, EPERM, EROFS: "choose a place you may write to"
      case ENOSPC, EDQUOT: "free some disk space"
      case ENAMETOOLONG: "choose a shorter name"
      default: "choose another output"
      }
    return FileError(
      .cannotCreate, "cannot create the file (\(Descriptor.reason(code)))", in: path, mend: remedy)
  }
  static func writeError(_ path: String, _ code: Int32) -> FileError {
    FileError(
      code == EPIPE ? .readerGone : .readWrite, "cannot write (\(Descriptor.reason(code)))",
      in: path,
      mend: code == ENOSPC || code == EDQUOT
        ? "free some disk space" : "check the disk and try again")
  }
}

/// The destination of an output: the file to which a link points, its folder, and whether it is a
/// device rather than a file.
struct Destination {
  let path: String
  let folder: String
  let name: String
  let isSpecial: Bool

  init(_ given: String) throws(FileError) {
    if given.isEmpty || given.utf8.contains(0) || given.hasSuffix("/") {
      throw FileError(
        .cannotCreate, "not a file name", in: given.isEmpty ? "(empty path)" : given,
        mend: "give the name of a file")
    }
    var status = stat()
    let exists = unsafe stat(given, &status) == 0
    let type = exists ? status.st_mode & S_IFMT : S_IFREG
    if type == S_IFDIR {
      throw FileError(
        .cannotCreate, "a folder of that name exists", in: given,
        mend: "choose another name or remove the folder")
    }
    isSpecial = type != S_IFREG
    var link = stat()
    var resolved = given
    if exists, unsafe lstat(given, &link) == 0, link.st_mode & S_IFMT == S_IFLNK,
      let real = unsafe realpath(given, nil)
    {
      resolved = unsafe String(cString: real)
      unsafe free(real)
    }
    path = resolved
    (folder, name) = splitPath(resolved)
  }

  /// A new file in the same folder, hidden, opened for writing.
  func createTemporary() throws(FileError) -> (path: String, descriptor: Int32) {
    for _ in 0..<1000 {
      let temporary = joinPath(folder, temporaryName(for: name))
      let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      if descriptor >= 0 { return (temporary, descriptor) }
      // Left by a killed process that had the same process number.
      if errno != EEXIST { break }
    }
    throw OutputFile.createError(path, errno)
  }

  /// Renames a finished temporary file to its final name and makes the folder's entry durable.
  func replace(with temporary: String) throws(FileError) {
    if unsafe rename(temporary, path) != 0 {
      let code = errno
      unsafe unlink(temporary)
      throw OutputFile.createError(path, code)
    }
    syncFolder(folder)
  }
}

private let temporaryCounter = Atomic<UInt64>(0)
/// A hidden name of at most 255 bytes that no other call in this process returns.
func temporaryName(for name: String) -> String {
  let number = temporaryCounter.wrappingAdd(1, ordering: .relaxed).newValue
  return ".\(String(decoding: name.utf8.prefix(180), as: UTF8.self)).\(getpid())-\(number).tmp"
}

/// Writes the folder's entries to the disk. Errors of file systems that cannot do this are ignored.
func syncFolder(_ folder: String) {
  let descriptor = unsafe open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
  if descriptor >= 0 {
    fsync(descriptor)
    close(descriptor)
  }
}

/// The folder ("." if none) and the last part of a path.
func splitPath(_ path: String) -> (folder: String, name: String) {
  guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
  let folder = slash == path.startIndex ? "/" : String(path[..<slash])
  return (folder, String(path[path.utf8.index(after: slash)...]))
}
func joinPath(_ folder: String, _ name: String) -> String {
  if name.utf8.first == UInt8(ascii: "/") || folder.isEmpty { return name }
  return folder.utf8.last == UInt8(ascii: "/") ? folder + name : folder + "/" + name
}
/// The name without its folder, split before the last dot: `a/b.tar.gz` is ("b.tar", "gz"). A
/// leading dot does not count.
func splitExtension(_ path: String) -> (stem: String, suffix: String) {
  let name = splitPath(path).name
  guard let dot = name.utf8.lastIndex(of: UInt8(ascii: ".")), dot != name.startIndex else {
    return (name, "")
  }
  return (String(name[..<dot]), String(name[name.utf8.index(after: dot)...]).lowercased())
}

/// The kind of thing to which a path leads.
enum PathKind {
  case file, folder, special, nothing
  init(_ path: String) {
    if let kind = EmbeddedFiles.kind(path) {
      self = kind
      return
    }
    var status = stat()
    if unsafe path.utf8.contains(0) || stat(path, &status) != 0 {
      self = .nothing
    } else {
      switch status.st_mode & S_IFMT {
      case S_IFREG: self = .file
      case S_IFDIR: self = .folder
      default: self = .special
      }
    }
  }
}
/// The names in a folder, sorted by their bytes, hidden ones left out.
func listFolder(_ path: String) throws(FileError) -> [String] {
  guard PathKind(path) == .folder else {
    throw FileError(.missingInput, "no such folder", in: path, mend: "check the path")
  }
  if EmbeddedFiles.kind(path) != nil { return EmbeddedFiles.list(path) }
  do {
    return try FileManager.default.contentsOfDirectory(atPath: path).filter { !$0.hasPrefix(".") }
      .sorted {
        $0.utf8.lexicographicallyPrecedes($1.utf8)
      }
  } catch {
    throw FileError(.readWrite, "cannot read the folder", in: path, mend: "check its permissions")
  }
}
