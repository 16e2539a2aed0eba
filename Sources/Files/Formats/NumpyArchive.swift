public import TensorRuntime

/// NumPy's `.npz`: a zip of `.npy` entries, stored or deflated (`numpy.savez`,
/// `numpy.savez_compressed`). Names are those of the entries without `.npy`.
public final class NumpyArchive: TensorSource {
  public let path: String
  public let names: [String]
  private let archive: ZipArchive

  /// Opens the archive and reads its directory. Throws `missingInput`, `badData` or `readWrite`.
  public convenience init(_ path: String) throws(FileError) { try self.init(try MappedFile(path)) }

  init(_ file: MappedFile) throws(FileError) {
    path = file.path
    if file.count == 0 { throw FileError.bad("the file is empty", path) }
    archive = try ZipArchive(file.region, name: path, allowsDeflate: true)
    names = archive.names.filter { $0.hasSuffix(Self.suffix) }.map {
      String($0.dropLast(Self.suffix.count))
    }
  }
  private static let suffix = ".npy"

  /// Whether a zip file contains arrays rather than a PyTorch checkpoint.
  static func holdsArrays(_ bytes: ByteRegion, name: String) -> Bool {
    guard let archive = try? ZipArchive(bytes, name: name, allowsDeflate: true) else {
      return false
    }
    return archive.names.contains { $0.hasSuffix(suffix) }
      && !archive.names.contains { $0.hasSuffix("/data.pkl") }
  }

  /// Reads the array, because its type and extents are not in the directory of the archive.
  public func entry(named name: String) -> TensorEntry? {
    guard let tensor = try? tensor(named: name) else { return nil }
    let type = StoredType(tensor.type)
    return TensorEntry(typeName: type.rawValue, type: type, shape: tensor.shape.dims)
  }
  /// The array, with its CRC-32 checked. Throws `badData`.
  public func tensor(named name: String) throws(FileError) -> Tensor {
    guard let bytes = try archive.entry(name + Self.suffix, checkingCRC: true) else {
      throw FileError.bad(
        "no array of that name", path, "'\(name)'",
        mend: "name one of \(SafetensorsFile.list(names))")
    }
    return try NumpyFile.read(bytes, name: "\(path), '\(name)'")
  }
}
