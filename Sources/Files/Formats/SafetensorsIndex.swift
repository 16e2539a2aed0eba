public import TensorRuntime

/// A model in several `.safetensors` files, with an index that says which file holds which tensor
/// (`*.safetensors.index.json`; checkpoints.md 10).
public final class SafetensorsIndex: TensorSource {
  public let path: String
  public let names: [String]
  private let files: [String: SafetensorsFile]
  private let fileOf: [String: String]

  /// Opens the index and every file named in it. The files must lie beside the index and hold the
  /// tensors that it lists.
  public init(_ path: String) throws(FileError) {
    self.path = path
    guard let map = try JSONValue(contentsOf: path)["weight_map"]?.object else {
      throw FileError.bad(
        "no object 'weight_map' in the index", path, mend: "give an index as diffusers writes it")
    }
    let folder = splitPath(path).folder
    var files: [String: SafetensorsFile] = [:]
    var fileOf: [String: String] = [:]
    for (name, value) in map.members {
      guard let file = value.string else {
        throw FileError.bad("not a file name", path, "weight_map '\(name)'")
      }
      if file.isEmpty || file == "." || file == ".."
        || file.utf8.contains(where: {
          $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "\\") || $0 == 0
        })
      {
        throw FileError.bad(
          "file name '\(file)' leads outside the folder", path, "weight_map '\(name)'",
          mend: "name a file in the same folder")
      }
      if files[file] == nil { files[file] = try SafetensorsFile(joinPath(folder, file)) }
      if files[file]?.entry(named: name) == nil {
        throw FileError.bad(
          "no such tensor, though the index promises it", joinPath(folder, file), "tensor '\(name)'"
        )
      }
      fileOf[name] = file
    }
    (names, self.files, self.fileOf) = (map.keys, files, fileOf)
  }

  public func entry(named name: String) -> TensorEntry? {
    fileOf[name].flatMap { files[$0]?.entry(named: name) }
  }
  public func bytes(named name: String) throws(FileError) -> [UInt8] {
    guard let file = fileOf[name].flatMap({ files[$0] }) else {
      throw FileError.bad("no such tensor", path, "tensor '\(name)'")
    }
    return try file.bytes(named: name)
  }
  public func octets(named name: String) throws(FileError) -> Tensor {
    guard let file = fileOf[name].flatMap({ files[$0] }) else {
      throw FileError.bad("no such tensor", path, "tensor '\(name)'")
    }
    return try file.octets(named: name)
  }
  public func tensor(named name: String) throws(FileError) -> Tensor {
    guard let file = fileOf[name].flatMap({ files[$0] }) else {
      throw FileError.bad(
        "no such tensor", path, "tensor '\(name)'",
        mend: "the index holds \(SafetensorsFile.list(names))")
    }
    return try file.tensor(named: name)
  }
}
