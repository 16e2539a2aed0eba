public import TensorRuntime

/// One tensor from a file of any readable kind.
public enum TensorFile {
  /// Reads `FILE` or, if a file holds several tensors, `FILE:NAME` (interfaces.md 2): `.npy`,
  /// `.npz`, `.safetensors`, or a PyTorch file. Throws `missingInput`, or `badData` with the names
  /// of the tensors if a name is needed.
  public static func read(_ specification: String) throws(FileError) -> Tensor {
    try read(specification, preferring: nil)
  }

  /// As `read`, but takes the tensor `name` if there are several and none was named.
  static func read(_ specification: String, preferring name: String?) throws(FileError) -> Tensor {
    if PathKind(specification) == .nothing, let colon = specification.lastIndex(of: ":"),
      colon != specification.startIndex,
      PathKind(String(specification[..<colon])) != .nothing
    {
      return try read(
        String(specification[..<colon]),
        name: String(specification[specification.index(after: colon)...]), preferring: nil)
    }
    return try read(specification, name: nil, preferring: name)
  }

  private static func read(_ path: String, name: String?, preferring preferred: String?)
    throws(FileError) -> Tensor
  {
    let file = try MappedFile(path)
    if file.region.starts(with: [0x93] + Array("NUMPY".utf8)) {
      if let name {
        throw FileError.bad(
          "a .npy file holds one tensor without a name", path, "'\(name)'",
          mend: "leave out ':\(name)'")
      }
      return try NumpyFile.read(file.region, name: path)
    }
    let source: any TensorSource
    let suffix = splitExtension(path).suffix
    if suffix == "npz"
      || (TorchCheckpoint.isZip(file.region) && NumpyArchive.holdsArrays(file.region, name: path))
    {
      source = try NumpyArchive(file)
    } else if TorchCheckpoint.isZip(file.region) || ["pt", "pth", "ckpt", "bin"].contains(suffix) {
      let checkpoint = try TorchCheckpoint(file)
      if checkpoint.isTensor && name == nil { return try checkpoint.tensor() }
      source = try checkpoint.stateDictionary()
    } else {
      if file.count == 0 { throw FileError.bad("the file is empty", path) }
      source = try SafetensorsFile(file)
    }
    if let name { return try source.tensor(named: name) }
    if let preferred, source.entry(named: preferred) != nil {
      return try source.tensor(named: preferred)
    }
    guard source.names.count == 1 else {
      throw FileError.bad(
        "the file holds \(source.names.count) tensors", path,
        mend: source.names.isEmpty
          ? "give a file with a tensor"
          : "name one as \(path):NAME, of \(SafetensorsFile.list(source.names))")
    }
    return try source.tensor(named: source.names[0])
  }
}
