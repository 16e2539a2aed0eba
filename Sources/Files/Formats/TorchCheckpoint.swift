public import TensorRuntime

/// A PyTorch file (`.pt`, `.pth`, `.ckpt`, `.bin`): a zip of raw storages and a pickle that
/// describes them. The pickle is interpreted and never executed (checkpoints.md 9). Storages stay
/// mapped.
public final class TorchCheckpoint: Sendable {
  public let path: String
  private let root: PickleValue
  fileprivate let arena: PickleArena
  fileprivate let archive: ZipArchive
  /// The top folder in the archive, with its slash.
  fileprivate let top: String

  /// Opens the file and interprets its pickle. Throws `missingInput`, `badData` (also for the
  /// formats of PyTorch before 1.6, which are recognised and refused) or `readWrite`.
  public convenience init(_ path: String) throws(FileError) { try self.init(try MappedFile(path)) }

  init(_ file: MappedFile) throws(FileError) {
    path = file.path
    let bytes = file.region
    guard Self.isZip(bytes) else {
      if let nature = FileNature(bytes) { throw nature.error(path) }
      throw FileError.bad(file.count == 0 ? "the file is empty" : "not a PyTorch file", path)
    }
    // What torch.jit.save adds: the compressed program and its constants.
    let listing = try ZipArchive(bytes, name: path, allowsDeflate: true)
    if listing.names.contains(where: { $0.hasSuffix("/constants.pkl") || $0.contains("/code/") }) {
      throw FileError.bad(
        "a TorchScript program", path,
        mend: "load it with torch.jit.load and torch.save its state_dict()")
    }
    archive = try ZipArchive(bytes, name: path)
    let pickles = archive.names.filter {
      $0.hasSuffix("/data.pkl") && $0.utf8.count { $0 == UInt8(ascii: "/") } == 1
    }
    guard pickles.count == 1 else {
      throw FileError.bad(
        "a zip file without one data.pkl: not a PyTorch file", path,
        mend: "give a file that torch.save wrote")
    }
    top = String(pickles[0].dropLast("data.pkl".count))
    if let order = try archive.entry(top + "byteorder")?.string, order != "little" {
      throw FileError.bad(
        "written on a big-endian machine", path, "byteorder",
        mend: "save it again on a little-endian machine")
    }
    guard let code = try archive.entry(pickles[0], checkingCRC: true) else {
      throw FileError.bad("no data.pkl", path)
    }
    var machine = PickleMachine(code)
    root = try machine.run()
    arena = machine.arena
  }

  /// Whether the file at `path` is a PyTorch file and not another zip.
  public static func isOne(_ path: String) -> Bool {
    PathKind(path) == .file && ((try? MappedFile(path)).map { isZip($0.region) } ?? false)
  }
  static func isZip(_ bytes: ByteRegion) -> Bool { bytes.starts(with: [0x50, 0x4b, 0x03, 0x04]) }

  /// The top object, if it is a mapping.
  public var mapping: TorchMapping? { TorchMapping(self, root, field: "") }
  /// The top object, if it is one tensor (latents, prompt embeddings). Throws `badData` if it is
  /// something else.
  public func tensor() throws(FileError) -> Tensor {
    guard case .tensor(let i) = root else {
      throw FileError.bad("not a single tensor", path, mend: "give a file that holds one tensor")
    }
    return try load(i, "the tensor")
  }
  public var isTensor: Bool { if case .tensor = root { true } else { false } }

  /// The indices of the tensors, if the top object is a list of tensors (checkpoints.md 6.3).
  private var list: [Int]? {
    guard case .list(let i) = root, !arena.sequences[i].isEmpty else { return nil }
    var indices: [Int] = []
    for item in arena.sequences[i] {
      guard case .tensor(let tensor) = item else { return nil }
      indices.append(tensor)
    }
    return indices
  }
  /// How many tensors the file holds, if it is a list of tensors without names.
  public var listCount: Int? { list?.count }
  /// The tensors of such a list, in order. Throws `badData` if it is none.
  public func listTensors() throws(FileError) -> [Tensor] {
    guard let list else {
      throw FileError.bad("not a list of tensors", path, mend: "give a file that holds one")
    }
    return try list.enumerated().map { (place, i) throws(FileError) in
      try load(i, "tensor \(place) of the list")
    }
  }

  /// The mapping of names to tensors to be used: the top object if it holds only tensors; otherwise
  /// what it holds under `module`, `model`, `state_dict` or `ema`, in this order; otherwise its own
  /// tensors, if it has any (checkpoints.md 1).
  public func stateDictionary() throws(FileError) -> TorchMapping {
    guard let mapping else {
      if case .opaque(let name) = root {
        throw FileError.bad(
          "a whole object (\(name)), not a state dict", path,
          mend: "save its state_dict() with torch.save")
      }
      if let listCount {
        throw FileError.bad(
          "a list of \(listCount) tensors without names, as T2V-Turbo writes LoRA", path,
          mend: "give it to pisces convert, with --base or --merge-lora")
      }
      throw FileError.bad(
        isTensor
          ? "a single tensor where a mapping of names was expected"
          : "no mapping of names to tensors", path,
        mend: "give a checkpoint with a state dict")
    }
    if mapping.holdsOnlyTensors { return mapping }
    for key in ["module", "model", "state_dict", "ema"] {
      if let inner = mapping.mapping(named: key), !inner.names.isEmpty { return inner }
    }
    if !mapping.names.isEmpty { return mapping }
    throw FileError.bad(
      "no mapping of names to tensors", path, "keys \(SafetensorsFile.list(mapping.keys))",
      mend: "give a checkpoint with a state dict under module, model, state_dict or ema")
  }

  /// Reads every storage and compares its CRC-32 with that in the archive. (Opening checks only the
  /// pickle's.) Throws `badData`.
  public func verifyStorages() throws(FileError) {
    for name in archive.names { _ = try archive.entry(name, checkingCRC: true) }
  }

  // MARK: loading

  /// Checks a tensor against its storage and makes it: mapped if it is contiguous, otherwise
  /// gathered.
  fileprivate func load(_ i: Int, _ field: String) throws(FileError) -> Tensor {
    let tensor = arena.tensors[i]
    guard let type = tensor.type else {
      let mend =
        EightBitFloat(typeName: tensor.typeName) == nil
        ? "convert it to float32, float16 or bfloat16" : EightBitFloat.remedy
      throw FileError.bad(
        "cannot compute with elements of \(tensor.typeName)", path, field, mend: mend)
    }
    let loaded = try load(tensor, as: type, field)
    return tensor.isNegated ? loaded.negated : loaded
  }
  /// The elements, in C order, of a tensor with one byte for each element; the whole storage for
  /// other types.
  fileprivate func bytes(_ i: Int, _ field: String) throws(FileError) -> [UInt8] {
    let tensor = arena.tensors[i]
    if EightBitFloat(typeName: tensor.typeName) != nil {
      return try unsafe load(tensor, as: .u8, field).withBytes { unsafe Array($0) }
    }
    guard let bytes = try archive.entry(top + "data/" + arena.storages[tensor.storage].key) else {
      throw FileError.bad(
        "its data (entry data/\(arena.storages[tensor.storage].key)) is missing", path, field)
    }
    return bytes.array
  }
  private func load(_ tensor: PickleTensor, as type: StoredType, _ field: String) throws(FileError)
    -> Tensor
  {
    func bad(_ what: String) -> FileError { FileError.bad(what, path, field) }
    let storage = arena.storages[tensor.storage]
    let view = tensor.view
    guard view.shape.count <= 8, view.strides.count == view.shape.count else {
      throw bad(
        "\(view.shape.count) axes and \(view.strides.count) strides; at most 8 are supported")
    }
    guard view.offset >= 0, view.strides.allSatisfy({ $0 >= 0 }),
      let byteCount = type.byteCount(of: view.shape)
    else {
      throw bad("impossible shape \(view.shape), strides \(view.strides), offset \(view.offset)")
    }
    let (available, overflow) = storage.count.multipliedReportingOverflow(
      by: storage.type?.byteCount ?? 1)
    guard let bytes = try archive.entry(top + "data/" + storage.key) else {
      throw bad("its data (entry data/\(storage.key)) is missing")
    }
    guard !overflow, bytes.count >= available else {
      throw bad("its storage of \(storage.count) elements has only \(bytes.count) bytes")
    }
    if byteCount == 0 { return Tensor.zeros(Shape(view.shape), type: type.loaded) }
    guard let last = Self.lastElement(view), last < available / type.byteCount else {
      throw bad(
        """
        shape \(view.shape), strides \(view.strides) and offset \(view.offset) lead outside its \
        storage of \(storage.count)
        """
      )
    }
    if view.isContiguous {
      guard let part = bytes.region(at: view.offset * type.byteCount, count: byteCount),
        let tensor = part.tensor(Shape(view.shape), type)
      else {
        throw bad("a value does not fit i64")
      }
      return tensor
    }
    // An expanded tensor repeats elements. One that needs far more memory than its file has is
    // taken for an attack.
    guard byteCount <= max(available, 1 << 27) else {
      throw bad(
        "expanded shape \(view.shape) needs \(byteCount) bytes, its storage has \(available)")
    }
    guard let part = bytes.region(at: 0, count: available), let tensor = view.gather(part, type)
    else { throw bad("a value does not fit i64") }
    return tensor
  }
  /// Index of the last element in its storage; nil if it does not fit.
  private static func lastElement(_ view: StridedView) -> Int? {
    var last = view.offset
    for (extent, stride) in zip(view.shape, view.strides) {
      let (product, overflow1) = (extent - 1).multipliedReportingOverflow(by: stride)
      let (sum, overflow2) = last.addingReportingOverflow(product)
      if overflow1 || overflow2 { return nil }
      last = sum
    }
    return last
  }
}

/// A mapping inside a PyTorch file.
public struct TorchMapping: TensorSource {
  private let checkpoint: TorchCheckpoint
  private let dictionary: Int
  /// Path of keys from the top, for messages.
  private let field: String

  fileprivate init?(_ checkpoint: TorchCheckpoint, _ value: PickleValue, field: String) {
    guard case .dict(let i) = value else { return nil }
    (self.checkpoint, dictionary, self.field) = (checkpoint, i, field)
  }
  private var contents: PickleDictionary { checkpoint.arena.dictionaries[dictionary] }

  public var path: String { checkpoint.path }
  /// Every key that is a text, in order.
  public var keys: [String] {
    contents.members.compactMap { if case .string(let key) = $0.key { key } else { nil } }
  }
  /// The keys whose values are tensors, in order.
  public var names: [String] {
    contents.members.compactMap {
      if case .string(let key) = $0.key, case .tensor = $0.value { key } else { nil }
    }
  }
  fileprivate var holdsOnlyTensors: Bool {
    !contents.members.isEmpty
      && contents.members.allSatisfy {
        if case .string = $0.key, case .tensor = $0.value { true } else { false }
      }
  }

  /// The mapping under `key` (`T`, `ot_map`, `state_dict`, `model`), if it is one.
  public func mapping(named key: String) -> TorchMapping? {
    contents[key].flatMap { TorchMapping(checkpoint, $0, field: field + key + ".") }
  }
  /// A number, text or truth value under `key`.
  public func value(named key: String) -> JSONValue? {
    switch contents[key] {
    case .bool(let b)?: .bool(b)
    case .int(let i)?: .integer(i)
    case .float(let d)?: .number(d)
    case .string(let s)?: .string(s)
    case PickleValue.none?: .null
    default: nil
    }
  }
  public func entry(named name: String) -> TensorEntry? {
    guard case .tensor(let i)? = contents[name] else { return nil }
    let tensor = checkpoint.arena.tensors[i]
    return TensorEntry(typeName: tensor.typeName, type: tensor.type, shape: tensor.view.shape)
  }
  public func bytes(named name: String) throws(FileError) -> [UInt8] {
    guard case .tensor(let i)? = contents[name] else {
      throw FileError.bad("no such tensor", path, "tensor '\(field)\(name)'")
    }
    return try checkpoint.bytes(i, "tensor '\(field)\(name)'")
  }
  public func tensor(named name: String) throws(FileError) -> Tensor {
    switch contents[name] {
    case .tensor(let i)?: return try checkpoint.load(i, "tensor '\(field)\(name)'")
    case nil:
      throw FileError.bad(
        "no such tensor", path, "tensor '\(field)\(name)'",
        mend: "the file holds \(SafetensorsFile.list(names))")
    default:
      throw FileError.bad(
        "not a tensor, or one saved in a form we do not run", path, "'\(field)\(name)'",
        mend: "save it as a plain tensor")
    }
  }
}
