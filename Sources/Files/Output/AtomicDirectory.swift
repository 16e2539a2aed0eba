internal import FoundationEssentials
internal import Glibc

/// A folder that appears under its name as a whole or not at all.
public enum AtomicDirectory {
  /// Makes a temporary folder beside `path`, lets `body` fill it, writes it to the disk and renames
  /// it. An older folder of that name is replaced. If `body` throws, nothing is left and the older
  /// folder stays.
  ///
  /// Throws `cannotCreate` or `readWrite`, or what `body` throws.
  public static func write(to path: String, _ body: (String) throws(FileError) -> Void)
    throws(FileError)
  {
    var path = path
    while path.count > 1 && path.hasSuffix("/") { path.removeLast() }
    let kind = PathKind(path)
    guard kind == .nothing || kind == .folder, !path.isEmpty, !path.utf8.contains(0) else {
      throw FileError(
        .cannotCreate, "something that is not a folder has this name",
        in: path.isEmpty ? "(empty path)" : path, mend: "choose another name")
    }
    let (parent, name) = splitPath(path)
    var temporary = joinPath(parent, temporaryName(for: name))
    var attempts = 1
    while unsafe mkdir(temporary, 0o777) != 0 {
      // Left by a killed process that had the same process number.
      if errno != EEXIST || attempts == 1000 { throw OutputFile.createError(path, errno) }
      temporary = joinPath(parent, temporaryName(for: name))
      attempts += 1
    }
    do throws(FileError) {
      try body(temporary)
      syncTree(temporary)
      try replace(path, with: temporary)
    } catch {
      remove(temporary)
      throw error.naming(path, insteadOf: temporary)
    }
    syncFolder(parent)
  }

  /// Renames a folder after moving an older one out of the way. A crash in between leaves the older
  /// one under its hidden name.
  private static func replace(_ path: String, with temporary: String) throws(FileError) {
    let older = temporary + ".old"
    let isReplacing = PathKind(path) == .folder
    if unsafe isReplacing && rename(path, older) != 0 { throw OutputFile.createError(path, errno) }
    if unsafe rename(temporary, path) != 0 {
      let code = errno
      if isReplacing { unsafe rename(older, path) }
      throw OutputFile.createError(path, code)
    }
    if isReplacing { remove(older) }
  }
  private static func syncTree(_ folder: String) {
    for name in (try? FileManager.default.subpathsOfDirectory(atPath: folder)) ?? [] {
      let descriptor = unsafe open(
        joinPath(folder, name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
      if descriptor >= 0 {
        fsync(descriptor)
        close(descriptor)
      }
    }
    syncFolder(folder)
  }
  private static func remove(_ folder: String) {
    try? FileManager.default.removeItem(atPath: folder)
  }
}

/// The `checkpoints` folder of a run: `step-000100` and so on, each of them whole, and `latest`,
/// which names the newest one (interfaces.md 10).
public struct CheckpointFolder: Sendable {
  public let path: String
  public init(_ path: String) { self.path = path }

  /// The folder of a step.
  public static func name(step: Int) -> String {
    let digits = String(step)
    return "step-" + String(repeating: "0", count: max(0, 6 - digits.count)) + digits
  }

  /// Writes the checkpoint of `step` through `body`, then points `latest` at it. Returns its path.
  @discardableResult
  public func write(step: Int, _ body: (String) throws(FileError) -> Void) throws(FileError)
    -> String
  {
    let name = Self.name(step: step)
    try createFolder(path)
    try AtomicDirectory.write(to: joinPath(path, name), body)
    try OutputFile.write(name + "\n", to: joinPath(path, "latest"))
    return joinPath(path, name)
  }

  /// The path of the newest whole checkpoint. Throws `missingInput` if there is none, `badData` if
  /// `latest` does not name a checkpoint of this folder.
  public func latest() throws(FileError) -> String {
    let pointer = joinPath(path, "latest")
    guard PathKind(pointer) == .file else {
      throw FileError(
        .missingInput, "no checkpoint to resume from", in: pointer,
        mend: "give the folder of a run that has written one")
    }
    let name = try TextFile.lines(pointer).first ?? ""
    guard name.hasPrefix("step-"), !name.contains("/"), !name.contains("..") else {
      throw FileError.bad(
        "not the name of a checkpoint", pointer, mend: "write the name of a step-… folder into it")
    }
    guard PathKind(joinPath(path, name)) == .folder else {
      throw FileError(
        .missingInput, "the checkpoint is gone", in: joinPath(path, name),
        mend: "write the name of another step-… folder into \(pointer)")
    }
    return joinPath(path, name)
  }

  /// The existing steps, ascending.
  public var steps: [Int] {
    ((try? listFolder(path)) ?? []).compactMap {
      $0.hasPrefix("step-") ? Int($0.dropFirst(5)) : nil
    }.sorted()
  }
  /// Removes the checkpoint of a step, but never the one that `latest` names.
  public func remove(step: Int) {
    let folder = joinPath(path, Self.name(step: step))
    if (try? latest()) != folder { try? FileManager.default.removeItem(atPath: folder) }
  }
}

/// Makes a folder and its parents if they do not exist. Throws `cannotCreate`.
public func createFolder(_ path: String) throws(FileError) {
  do {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  } catch {
    throw FileError(
      .cannotCreate, "cannot create the folder", in: path, mend: "choose a place you may write to")
  }
}

/// Whether a folder of this name may be made: nothing exists there, or an empty folder. Throws
/// `readWrite`.
public func folderIsEmpty(_ path: String) throws(FileError) -> Bool {
  switch PathKind(path) {
  case .nothing: true
  case .folder: try listFolder(path).isEmpty
  case .file, .special: false
  }
}
