internal import Glibc
public import TensorRuntime

/// A `.safetensors` file that several processes fill together: one makes it, and each then writes
/// elements of its own. Put into a folder that appears as a whole (`AtomicDirectory`), it is never
/// seen in part.
public struct SharedTensorFile: Sendable {
  public let path: String
  private let header: [UInt8]
  private let size: Int
  /// Where the elements of a tensor begin, and their type.
  private let places: [String: (offset: Int, type: ElementType, count: Int)]

  /// The file at `path` with these tensors, wider element types first, as `SafetensorsWriter`
  /// orders them. Every process gives the same entries.
  public init(_ path: String, _ entries: [(name: String, type: ElementType, shape: Shape)]) {
    let ordered = SafetensorsWriter.ordered(entries, by: \.type)
    let text = SafetensorsWriter.header(ordered, metadata: [], path: path)
    header = littleEndian(UInt64(text.count)) + text
    var offset = header.count
    var places: [String: (offset: Int, type: ElementType, count: Int)] = [:]
    for (name, type, shape) in ordered {
      places[name] = (offset, type, shape.count)
      offset += shape.count * type.byteCount
    }
    (self.path, self.places, size) = (path, places, offset)
  }

  /// Makes the file: its header, and room for all tensors. Throws `cannotCreate` or `readWrite`.
  public func create() throws(FileError) {
    let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    if descriptor < 0 { throw OutputFile.createError(path, errno) }
    defer { close(descriptor) }
    var code = unsafe header.withUnsafeBytes { unsafe Descriptor.write($0, to: descriptor) }
    if code == 0 && ftruncate(descriptor, off_t(size)) != 0 { code = errno }
    if code != 0 { throw OutputFile.writeError(path, code) }
  }

  /// Writes `values` as elements `start`, `start + 1`, … of the tensor `name`, for every piece, and
  /// waits until they are on the disk. Throws `cannotCreate` where this process does not see the
  /// file, or `readWrite`.
  public func write(_ pieces: [(name: String, start: Int, values: Tensor)]) throws(FileError) {
    if pieces.isEmpty { return }
    let descriptor = unsafe open(path, O_WRONLY | O_CLOEXEC)
    if descriptor < 0 {
      throw FileError(
        .cannotCreate,
        "cannot open the file that the first rank has made (\(Descriptor.reason(errno)))", in: path,
        mend: "put the run's folder on a file system that all hosts share")
    }
    defer { close(descriptor) }
    for (name, start, values) in pieces {
      let place = places[name]!
      precondition(
        values.type == place.type && start >= 0 && start + values.count <= place.count,
        "\(name): \(values.count) of \(values.type) at \(start) of \(place.count)")
      let at = off_t(place.offset + start * place.type.byteCount)
      let code = unsafe values.withBytes { bytes in
        lseek(descriptor, at, SEEK_SET) < 0 ? errno : unsafe Descriptor.write(bytes, to: descriptor)
      }
      if code != 0 { throw OutputFile.writeError(path, code) }
    }
    if fsync(descriptor) != 0 { throw OutputFile.writeError(path, errno) }
  }
}
