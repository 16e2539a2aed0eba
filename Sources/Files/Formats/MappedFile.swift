internal import CZlib
internal import Glibc
internal import TensorRuntime

/// The bytes of a file, read-only. The file is mapped, so opening it costs nothing and pages are
/// loaded when they are used. Tensors made from it keep it alive. It is the only type in this
/// module that keeps a pointer.
///
/// Every access is checked against the end of the file, and gives nil for what is outside. If
/// another program shortens the file while it is mapped, the kernel stops this process. A
/// checkpoint should therefore never be written in place.
@safe public final class MappedFile: @unchecked Sendable {
  // Sound: the bytes are never written after init and are released once, by deinit.
  private let base: UnsafeRawPointer?
  private let origin: Origin
  private enum Origin { case mapped, allocated, embedded }
  /// The descriptor of a file without a name; -1 for other files.
  private var descriptor: Int32 = -1

  /// The name used in messages.
  public let path: String
  /// Length in bytes.
  public let count: Int

  /// Maps the file at `path`. An empty file is no error here. A pipe is read to its end first.
  ///
  /// Throws `missingInput` if there is no such file, `badData` for a directory or device,
  /// `readWrite` otherwise.
  public init(_ path: String) throws(FileError) {
    self.path = path
    if path.utf8.contains(0) || path.isEmpty {
      throw FileError(
        .missingInput, "no such file", in: path.isEmpty ? "(empty path)" : path,
        mend: "give the name of an existing file")
    }
    if path.hasPrefix(EmbeddedFiles.prefix) {
      guard let bytes = unsafe EmbeddedFiles.bytes(path) else {
        throw FileError(
          .missingInput,
          EmbeddedFiles.paths.isEmpty
            ? "this program was built without embedded models" : "no such embedded file", in: path,
          mend: "name a model directory")
      }
      unsafe (base, count, origin) = (bytes.baseAddress, bytes.count, .embedded)
      return
    }
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { throw Self.openError(path, errno) }
    defer { close(descriptor) }
    var status = stat()
    if unsafe fstat(descriptor, &status) != 0 { throw Self.readError(path, errno) }
    switch status.st_mode & S_IFMT {
    case S_IFREG:
      count = Int(status.st_size)
      origin = .mapped
      if count == 0 {
        unsafe base = nil
        return
      }
      let address = unsafe mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0)
      if unsafe address == MAP_FAILED { throw Self.readError(path, errno) }
      unsafe base = UnsafeRawPointer(address)
    case S_IFIFO:
      let bytes = try Self.drain(descriptor, path)
      unsafe (base, count, origin) = unsafe (Self.copied(bytes), bytes.count, .allocated)
    case S_IFDIR:
      throw FileError(
        .badData, "a folder where a file was expected", in: path, mend: "name a file inside it")
    default:
      throw FileError(
        .badData, "not a regular file", in: path, mend: "name a regular file or a pipe")
    }
  }

  /// A copy of `bytes`, aligned to 64, that behaves like a file called `name`.
  public init(bytes: [UInt8], name: String) {
    unsafe (path, base, count, origin) = unsafe (name, Self.copied(bytes), bytes.count, .allocated)
  }

  /// Maps a file that has no name, and takes over its descriptor, which is closed with the mapping.
  init(adopting descriptor: Int32, name: String) throws(FileError) {
    var status = stat()
    if unsafe fstat(descriptor, &status) != 0 { throw Self.readError(name, errno) }
    (path, count, self.descriptor) = (name, Int(status.st_size), descriptor)
    let address = unsafe count == 0 ? nil : mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0)
    if unsafe address == MAP_FAILED { throw Self.readError(name, errno) }
    unsafe (base, origin) = unsafe (address.map { UnsafeRawPointer($0) }, .mapped)
  }
  /// A path under which other programs of this user find the bytes.
  var location: String { descriptor < 0 ? path : "/proc/\(getpid())/fd/\(descriptor)" }

  /// Takes ownership of memory that was allocated.
  init(taking memory: UnsafeMutableRawPointer, count: Int, name: String) {
    unsafe (path, base, self.count, origin) = (name, UnsafeRawPointer(memory), count, .allocated)
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
    guard let base = unsafe base else { return }
    switch origin {
    case .mapped: unsafe munmap(UnsafeMutableRawPointer(mutating: base), count)
    case .allocated: unsafe base.deallocate()
    case .embedded: break
    }
  }

  private static func copied(_ bytes: [UInt8]) -> UnsafeRawPointer? {
    if bytes.isEmpty { return nil }
    let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes.count, alignment: 64)
    unsafe bytes.withUnsafeBytes {
      unsafe memory.copyMemory(from: $0.baseAddress!, byteCount: bytes.count)
    }
    return UnsafeRawPointer(memory)
  }

  private static func drain(_ descriptor: Int32, _ path: String) throws(FileError) -> [UInt8] {
    // The length of a pipe cannot be checked first. 2 GiB is more than any array that is piped.
    let limit = 2 << 30
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let n = unsafe read(descriptor, &block, block.count)
      if n == 0 { return bytes }
      if n < 0 {
        if errno == EINTR { continue }
        throw readError(path, errno)
      }
      bytes += block[..<n]
      if bytes.count > limit {
        throw FileError.bad("more than 2 GiB from a pipe", path, mend: "write it to a file first")
      }
    }
  }

  static func openError(_ path: String, _ code: Int32) -> FileError {
    switch code {
    case ENOENT, ENOTDIR: FileError(.missingInput, "no such file", in: path, mend: "check the path")
    case EACCES, EPERM:
      FileError(.missingInput, "permission denied", in: path, mend: "make the file readable")
    case ENAMETOOLONG:
      FileError(.missingInput, "file name too long", in: path, mend: "check the path")
    default: readError(path, code)
    }
  }
  static func readError(_ path: String, _ code: Int32) -> FileError {
    FileError(
      .readWrite, "cannot read (\(Descriptor.reason(code)))", in: path,
      mend: "check the disk and try again")
  }

  // MARK: reading, always checked

  /// All the bytes.
  var region: ByteRegion { ByteRegion(file: self, range: 0..<count) }

  func bytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
    precondition(
      range.lowerBound >= 0 && range.upperBound <= count, "\(path): bytes \(range) of \(count)")
    return unsafe range.isEmpty
      ? UnsafeRawBufferPointer(start: nil, count: 0)
      : UnsafeRawBufferPointer(start: base! + range.lowerBound, count: range.count)
  }
}

/// A part of a mapped file. Offsets count from the start of the part; nil means outside.
struct ByteRegion: Sendable {
  let file: MappedFile
  let range: Range<Int>

  var path: String { file.path }
  var count: Int { range.count }

  func region(_ part: Range<Int>) -> ByteRegion? {
    guard part.lowerBound >= 0, part.upperBound <= count else { return nil }
    return ByteRegion(
      file: file, range: range.lowerBound + part.lowerBound..<range.lowerBound + part.upperBound)
  }
  /// `length` bytes from `offset`. Both may be any number that a file contains.
  func region(at offset: Int, count length: Int) -> ByteRegion? {
    guard offset >= 0, length >= 0, offset <= count, length <= count - offset else { return nil }
    return region(offset..<offset + length)
  }
  func byte(at offset: Int) -> UInt8? { integer(at: offset) }
  /// A little-endian integer.
  func integer<T: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as _: T.Type = T.self) -> T?
  {
    guard let part = region(at: offset, count: MemoryLayout<T>.size) else { return nil }
    return unsafe T(littleEndian: file.bytes(part.range).loadUnaligned(as: T.self))
  }
  /// A little-endian u64 that fits in an Int.
  func offset(at position: Int) -> Int? {
    integer(at: position, as: UInt64.self).flatMap { Int(exactly: $0) }
  }
  var array: [UInt8] { unsafe Array(file.bytes(range)) }
  func starts(with bytes: [UInt8]) -> Bool { region(at: 0, count: bytes.count)?.array == bytes }
  /// The text, if the bytes are UTF-8.
  var string: String? { unsafe String(validating: file.bytes(range), as: UTF8.self) }
  /// Position of the first `byte` at or after `start`, searching at most `limit` bytes.
  func firstIndex(of byte: UInt8, from start: Int, limit: Int) -> Int? {
    guard start >= 0, start <= count else { return nil }
    let end = start + min(limit, count - start)
    guard let part = region(start..<end) else { return nil }
    return unsafe file.bytes(part.range).firstIndex(of: byte).map { start + $0 }
  }
  /// CRC-32, as zip and PNG use it.
  var crc32: UInt32 { unsafe Checksum.crc32(file.bytes(range)) }

  /// The bytes as a tensor. They are not copied if the type exists as a tensor type and the address
  /// is aligned for it. `extents` must have been checked against `count`.
  func tensor(_ shape: Shape, _ type: StoredType) -> Tensor? {
    precondition(
      type.byteCount(of: shape.dims) == count, "\(path): \(count) bytes for \(shape) of \(type)")
    let bytes = unsafe file.bytes(range)
    if type.isWidened {
      return StridedView(shape: shape.dims, strides: StridedView.contiguous(shape.dims), offset: 0)
        .gather(self, type)
    }
    let isAligned = Int(bitPattern: bytes.baseAddress) % max(type.byteCount, 1) == 0
    if isAligned {
      return unsafe Tensor(borrowing: bytes, shape: shape, type: type.loaded, owner: file)
    }
    let copy = unsafe MappedFile(bytes: Array(bytes), name: path)
    return unsafe Tensor(
      borrowing: copy.bytes(0..<copy.count), shape: shape, type: type.loaded, owner: copy)
  }
}

/// The positions of a tensor's elements in its storage: strides and offset in elements, as PyTorch
/// stores them.
struct StridedView: Sendable {
  let shape: [Int]
  let strides: [Int]
  let offset: Int

  /// The strides of C order.
  static func contiguous(_ shape: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in stride(from: shape.count - 2, through: 0, by: -1) {
      strides[axis] = strides[axis + 1] &* max(shape[axis + 1], 1)
    }
    return strides
  }
  var isContiguous: Bool {
    zip(zip(shape, strides), Self.contiguous(shape)).allSatisfy { $0.0 <= 1 || $0.1 == $1 }
      || shape.contains(0)
  }

  /// Copies the elements into C order, and widens types that have no tensor type. nil if a u64 does
  /// not fit in an i64. The view must have been checked against the region.
  func gather(_ source: ByteRegion, _ type: StoredType) -> Tensor? {
    let count = shape.reduce(1, *)
    let size = type.loaded.byteCount
    let memory = UnsafeMutableRawPointer.allocate(byteCount: max(count * size, 1), alignment: 64)
    let bytes = unsafe source.file.bytes(source.range)
    var index = [Int](repeating: 0, count: shape.count)
    var at = offset
    for element in 0..<count {
      let p = at * type.byteCount
      precondition(
        p >= 0 && p + type.byteCount <= bytes.count, "\(source.path): element outside its storage")
      let out = unsafe memory + element * size
      switch type {
      case .i8:
        unsafe out.storeBytes(
          of: Int32(bytes.load(fromByteOffset: p, as: Int8.self)), as: Int32.self)
      case .i16:
        unsafe out.storeBytes(
          of: Int32(bytes.loadUnaligned(fromByteOffset: p, as: Int16.self)), as: Int32.self)
      case .u16:
        unsafe out.storeBytes(
          of: Int32(bytes.loadUnaligned(fromByteOffset: p, as: UInt16.self)), as: Int32.self)
      case .u32:
        unsafe out.storeBytes(
          of: Int64(bytes.loadUnaligned(fromByteOffset: p, as: UInt32.self)), as: Int64.self)
      case .u64:
        guard
          let value = unsafe Int64(exactly: bytes.loadUnaligned(fromByteOffset: p, as: UInt64.self))
        else {
          unsafe memory.deallocate()
          return nil
        }
        unsafe out.storeBytes(of: value, as: Int64.self)
      case .bool, .u8: unsafe out.storeBytes(of: bytes[p], as: UInt8.self)
      case .f16, .bf16:
        unsafe out.storeBytes(
          of: bytes.loadUnaligned(fromByteOffset: p, as: UInt16.self), as: UInt16.self)
      case .f32, .i32:
        unsafe out.storeBytes(
          of: bytes.loadUnaligned(fromByteOffset: p, as: UInt32.self), as: UInt32.self)
      case .f64, .i64:
        unsafe out.storeBytes(
          of: bytes.loadUnaligned(fromByteOffset: p, as: UInt64.self), as: UInt64.self)
      }
      var axis = shape.count - 1
      while axis >= 0 {
        index[axis] += 1
        at += strides[axis]
        if index[axis] < shape[axis] { break }
        at -= strides[axis] * shape[axis]
        index[axis] = 0
        axis -= 1
      }
    }
    let owner = unsafe MappedFile(taking: memory, count: count * size, name: source.path)
    return unsafe Tensor(
      borrowing: UnsafeRawBufferPointer(start: memory, count: count * size), shape: Shape(shape),
      type: type.loaded, owner: owner)
  }
}

/// zlib's CRC-32.
enum Checksum {
  static func crc32(_ bytes: UnsafeRawBufferPointer, continuing start: UInt32 = 0) -> UInt32 {
    guard let base = bytes.baseAddress else { return start }
    return unsafe UInt32(
      crc32_z(uLong(start), base.assumingMemoryBound(to: Bytef.self), z_size_t(bytes.count)))
  }
  static func crc32(_ bytes: [UInt8]) -> UInt32 {
    unsafe bytes.withUnsafeBytes { unsafe crc32($0) }
  }
  static func crc32(_ tensor: Tensor) -> UInt32 { unsafe tensor.withBytes { unsafe crc32($0) } }
}
