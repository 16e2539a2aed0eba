public import TensorRuntime

/// The parameters of a model from any source: one safetensors file, a sharded index, a folder, or a
/// PyTorch file. Names are matched after the prefixes of wrappers are removed (checkpoints.md 1).
/// The tensors that were never requested can be listed.
///
///     var weights = try WeightTable(opening: "model", stripping: ["vae."])
///     let w = try weights.take("encoder.conv_in.weight", shape: Shape(128, 3, 3, 3, 3))
public struct WeightTable: Sendable {
  public let path: String
  /// Names after stripping, in the order of the file.
  public let names: [String]
  private let source: any TensorSource
  private let original: [String: String]
  private var taken: Set<String> = []
  /// Refuse NaN and infinities in every floating-point tensor that is taken. This takes one pass
  /// over the tensor.
  public var checksFinite = false

  /// Prefixes that training wrappers add to every name.
  static let wrapperPrefixes = [
    "module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.",
  ]

  /// Removes the wrappers' prefixes and `prefixes` repeatedly from the front of each name, and
  /// `model.` if every name has it. Throws `badData` if two names become equal.
  public init(_ source: any TensorSource, stripping prefixes: [String] = []) throws(FileError) {
    var short = source.names
    var isChanging = true
    while isChanging {
      isChanging = false
      for i in short.indices {
        while let prefix = (Self.wrapperPrefixes + prefixes).first(where: {
          short[i].hasPrefix($0) && short[i] != $0
        }) {
          short[i].removeFirst(prefix.count)
          isChanging = true
        }
      }
      if !short.isEmpty && short.allSatisfy({ $0.hasPrefix("model.") && $0 != "model." }) {
        for i in short.indices { short[i].removeFirst("model.".count) }
        isChanging = true
      }
    }
    var original: [String: String] = [:]
    for (name, long) in zip(short, source.names) {
      if let other = original.updateValue(long, forKey: name) {
        throw FileError.bad(
          "two tensors of the same name once prefixes are taken off ('\(other)')", source.path,
          "tensor '\(long)'", mend: "remove one of them")
      }
    }
    (path, names, self.source, self.original) = (source.path, short, source, original)
  }

  /// Opens `path` by its contents. In a folder: the one sharded index, otherwise all `.safetensors`
  /// files, otherwise the one PyTorch file. Throws `missingInput`, `badData` or `readWrite`.
  public init(opening path: String, stripping prefixes: [String] = []) throws(FileError) {
    try self.init(try Self.source(path), stripping: prefixes)
  }

  /// The tensors at `path`, under the names in the file.
  public static func source(_ path: String) throws(FileError) -> any TensorSource {
    if PathKind(path) == .folder { return try folderSource(path) }
    let (_, suffix) = splitExtension(path)
    if suffix == "json" { return try SafetensorsIndex(path) }
    let file = try MappedFile(path)
    if file.count == 0 { throw FileError.bad("the file is empty", path) }
    // The contents decide. An extension is only a part of the name.
    if TorchCheckpoint.isZip(file.region) { return try TorchCheckpoint(file).stateDictionary() }
    let isNamedTorch = ["pt", "pth", "ckpt", "bin"].contains(suffix)
    return isNamedTorch && file.region.byte(at: 8) != UInt8(ascii: "{")
      ? try TorchCheckpoint(file).stateDictionary() : try SafetensorsFile(file)
  }
  private static func folderSource(_ path: String) throws(FileError) -> any TensorSource {
    let files = try listFolder(path)
    func only(_ candidates: [String], _ what: String) throws(FileError) -> String? {
      if candidates.count > 1 {
        throw FileError.bad(
          """
          \(candidates.count) \(what) in one folder \
          (\(candidates.prefix(3).joined(separator: ", ")))
          """,
          path, mend: "name the file to use")
      }
      return candidates.first.map { joinPath(path, $0) }
    }
    if let index = try only(
      files.filter { $0.hasSuffix(".safetensors.index.json") }, "sharded indices")
    {
      return try SafetensorsIndex(index)
    }
    let safetensors = files.filter { $0.hasSuffix(".safetensors") }
    if let model = [
      "model.safetensors", "diffusion_pytorch_model.safetensors", "adapter_model.safetensors",
    ].first(where: { safetensors.contains($0) }
    ) {
      return try SafetensorsFile(joinPath(path, model))
    }
    if let one = try only(safetensors, "safetensors files") { return try SafetensorsFile(one) }
    if let one = try only(
      files.filter { ["pt", "pth", "ckpt", "bin"].contains(splitExtension($0).suffix) },
      "PyTorch files")
    {
      return try TorchCheckpoint(one).stateDictionary()
    }
    throw FileError(
      .missingInput, "no weights in the folder (*.safetensors, *.pt)", in: path,
      mend: "check the folder")
  }

  public func contains(_ name: String) -> Bool { original[name] != nil }
  /// Type and extents, without reading the data.
  public func entry(_ name: String) -> TensorEntry? {
    original[name].flatMap { source.entry(named: $0) }
  }

  /// The parameter `name`, which must have this shape. Throws `badData` with the file, the
  /// parameter, and the expected and found shape.
  public mutating func take(_ name: String, shape: Shape) throws(FileError) -> Tensor {
    guard let entry = entry(name) else {
      throw FileError.bad(
        "missing parameter, expected shape \(shape)", path, "'\(name)'",
        mend: "give a checkpoint of this model (this one holds \(SafetensorsFile.list(names)))")
    }
    if entry.shape != shape.dims {
      throw FileError.bad(
        "wrong shape: expected \(shape), found \(entry.shape)", path, "'\(name)'",
        mend: "check that the configuration belongs to these weights")
    }
    return try take(name)
  }
  /// The parameter `name`, of any shape.
  public mutating func take(_ name: String) throws(FileError) -> Tensor {
    guard let long = original[name] else {
      throw FileError.bad(
        "missing parameter", path, "'\(name)'",
        mend: "give a checkpoint of this model (this one holds \(SafetensorsFile.list(names)))")
    }
    let tensor: Tensor
    if let bytes = try quantized(name) {
      tensor = bytes
    } else {
      tensor = try source.tensor(named: long)
    }
    if checksFinite { try checkFinite(name, tensor) }
    taken.insert(name)
    return tensor
  }
  private func checkFinite(_ name: String, _ tensor: Tensor) throws(FileError) {
    guard let index = tensor.firstNonFinite else { return }
    throw FileError.bad(
      "a value that is not finite at element \(index)", path, "'\(name)'",
      mend: "use a checkpoint from before training diverged")
  }
  /// A matrix of signed bytes with a scale for each row, `NAME_scale` (checkpoints.md 2), in the
  /// file's memory; nil for any other tensor.
  private mutating func quantized(_ name: String) throws(FileError) -> Tensor? {
    let scaleName = name + "_scale"
    guard let entry = entry(name), entry.type == .i8, let long = original[scaleName] else {
      return nil
    }
    let scales = try source.tensor(named: long)
    guard entry.shape.count == 2, scales.type == .f32, scales.count == entry.shape[0] else {
      throw FileError.bad(
        "scales \(scales.type) \(scales.shape) for bytes of shape \(Shape(entry.shape))", path,
        "'\(scaleName)'", mend: "give one f32 scale for each row of a matrix")
    }
    taken.insert(scaleName)
    return Tensor(
      quantized: try source.octets(named: original[name]!).reshaped(Shape(entry.shape)),
      scales: scales)
  }
  /// Looks at every tensor that was taken, if that was not done when it was (`checksFinite`).
  /// Throws `badData` for a value that is not finite.
  public func checkTaken() throws(FileError) {
    for name in names where taken.contains(name) {
      if original[name + "_scale"] != nil, entry(name)?.type == .i8 { continue }
      try checkFinite(name, try source.tensor(named: original[name]!))
    }
  }

  /// The elements as they are stored, also of a type that cannot be read.
  public func bytes(_ name: String) throws(FileError) -> [UInt8] {
    guard let long = original[name] else {
      throw FileError.bad("missing parameter", path, "'\(name)'")
    }
    return try source.bytes(named: long)
  }

  /// Names that were never taken and match none of `patterns`, in the order of the file. In a
  /// pattern `*` stands for any text.
  public func unexpected(ignoring patterns: [String] = []) -> [String] {
    names.filter { name in
      !taken.contains(name) && !patterns.contains { matches(name, pattern: $0) }
    }
  }

  /// 64 bits that depend on every name, type, shape and byte, but not on the order or the
  /// container. Reads everything.
  public func fingerprint() throws(FileError) -> UInt64 {
    // FNV-1a over the sorted names with the CRC-32 of each tensor.
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func fold(_ bytes: [UInt8]) { for b in bytes { hash = (hash ^ UInt64(b)) &* 0x100_0000_01b3 } }
    for name in names.sorted(by: { $0.utf8.lexicographicallyPrecedes($1.utf8) }) {
      if let entry = entry(name), entry.type == nil || entry.type == .i8 {
        fold(Array("\(name)\u{0}\(entry.typeName)\(Shape(entry.shape))".utf8))
        fold(littleEndian(Checksum.crc32(try source.octets(named: original[name]!))))
        continue
      }
      let tensor = try source.tensor(named: original[name]!)
      fold(Array("\(name)\u{0}\(tensor.type)\(tensor.shape)".utf8))
      fold(littleEndian(Checksum.crc32(tensor)))
    }
    return hash
  }
}

/// Whether `text` matches `pattern`, in which `*` stands for any text.
func matches(_ text: String, pattern: String) -> Bool {
  let parts = pattern.split(separator: "*", omittingEmptySubsequences: false)
  if parts.count == 1 { return text == pattern }
  guard text.hasPrefix(parts[0]), text.hasSuffix(parts[parts.count - 1]),
    text.utf8.count >= parts[0].utf8.count + parts[parts.count - 1].utf8.count
  else { return false }
  var rest = text.dropFirst(parts[0].count).dropLast(parts[parts.count - 1].count)
  for part in parts.dropFirst().dropLast() where !part.isEmpty {
    let width = part.count
    while !rest.hasPrefix(part) {
      if rest.count < width { return false }
      rest = rest.dropFirst()
    }
    rest = rest.dropFirst(width)
  }
  return true
}

extension Tensor {
  /// Index of the first NaN or infinity, nil if there is none or the elements are integers.
  public var firstNonFinite: Int? {
    switch type {
    case .f32: first(withAllOf: UInt32(0x7f80_0000))
    case .f64: first(withAllOf: UInt64(0x7ff0_0000_0000_0000))
    case .bf16: first(withAllOf: UInt16(0x7f80))
    case .f16: first(withAllOf: UInt16(0x7c00))
    case .i8: scales?.firstNonFinite
    case .i32, .i64, .u8: nil
    }
  }
  /// A floating-point number is not finite exactly if all bits of its exponent are set: adding the
  /// lowest of them then carries into the sign's place. Whole words of elements are tried at once,
  /// in runs without an exit, which the compiler makes vectors of.
  private func first<Bits: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    withAllOf exponent: Bits
  ) -> Int? {
    func inEveryLane(_ bits: Bits) -> UInt64 {
      stride(from: 0, to: 64, by: Bits.bitWidth).reduce(0) { $0 | UInt64(bits) << UInt64($1) }
    }
    let mask = inEveryLane(exponent)
    let lowest = inEveryLane(1 << Bits(exponent.trailingZeroBitCount))
    let sign = inEveryLane(1 << Bits(Bits.bitWidth - 1))
    return unsafe withBytes { bytes in
      let run = 1 << 15
      for start in stride(from: 0, to: bytes.count, by: run) {
        let end = min(start + run, bytes.count)
        let whole = start + (end - start) / 8 * 8
        var found: UInt64 = 0
        for at in stride(from: start, to: whole, by: 8) {
          let word = unsafe bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
          found |= ((word & mask) &+ lowest) & sign
        }
        if found == 0 && whole == end { continue }
        let size = MemoryLayout<Bits>.size
        for at in stride(from: start, to: end, by: size) {
          let bits = unsafe bytes.loadUnaligned(fromByteOffset: at, as: Bits.self)
          if bits & exponent == exponent { return at / size }
        }
      }
      return nil
    }
  }
}
