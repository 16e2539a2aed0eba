extension PickleMachine {
  /// A persistent id: `('storage', class, key, location, count)` (checkpoints.md 9.3). Anything
  /// else is opaque.
  mutating func persistent(_ id: PickleValue) throws(FileError) -> PickleValue {
    guard case .tuple = id, let parts = items(id), parts.count >= 5, parts[0] == .string("storage"),
      case .global(let module, let name) = parts[1]
    else { return .opaque("persistent id") }
    guard case .string(let key) = parts[2], case .int(let count) = parts[4], count >= 0 else {
      throw fault("a storage without key or size")
    }
    guard module == "torch" || module == "torch.storage" else {
      return .opaque("\(module).\(name)")
    }
    return add(PickleStorage(key: key, type: Self.storageTypes[name], typeName: name, count: count))
  }

  /// The result of calling `callable` with `arguments`, for the callables of checkpoints.md 9.4;
  /// opaque for any other.
  mutating func call(_ callable: PickleValue, _ arguments: PickleValue) throws(FileError)
    -> PickleValue
  {
    guard case .tuple = arguments, let args = items(arguments) else { return .opaque("call") }
    guard case .global(let module, let name) = callable else { return .opaque("call") }
    switch (module, name) {
    case ("collections", "OrderedDict"), ("builtins", "dict"), ("__builtin__", "dict"):
      return .dict(try dictionary(try pairs(args.first)))
    case ("collections", "defaultdict"):
      return .dict(try dictionary([]))
    case ("builtins", "list"), ("builtins", "set"), ("__builtin__", "set"), ("__builtin__", "list"):
      return .list(try sequence(args.first.flatMap { items($0) } ?? []))
    case ("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2"):
      return try rebuild(args, type: nil, bits: args.count > 6 ? args[6] : nil)
    case ("torch._utils", "_rebuild_tensor_v3"):
      guard args.count >= 7, case .global("torch", let type) = args[6] else {
        throw fault("a tensor without a dtype")
      }
      return try rebuild(args, type: type, bits: args.count > 7 ? args[7] : nil)
    case ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"):
      guard let tensor = args.first else { throw fault("a parameter without a tensor") }
      return tensor
    case ("torch._tensor", "_rebuild_from_type_v2"):
      // The inner call is one of the above, so the recursion ends here.
      guard args.count >= 3, case .global("torch._utils", let inner) = args[0],
        inner.hasPrefix("_rebuild_")
      else {
        return .opaque("\(module).\(name)")
      }
      return try call(args[0], args[2])
    case ("torch", "Size"):
      if let first = args.first, items(first) != nil { return first }
      return .tuple(try sequence([]))
    case ("torch", "device"):
      if case .string(let device)? = args.first { return .string(device) }
      return .opaque("torch.device")
    default:
      return .opaque("\(module).\(name)")
    }
  }

  /// Keys and values alternately, from a list of pairs.
  private func pairs(_ list: PickleValue?) throws(FileError) -> [PickleValue] {
    var flat: [PickleValue] = []
    guard let list, let members = items(list) else { return flat }
    for pair in members {
      guard let parts = items(pair), parts.count == 2 else {
        throw fault("a mapping made from something that is not pairs")
      }
      flat += parts
    }
    return flat
  }

  /// `bits` are a tensor's metadata. `neg` is applied. `conj` belongs to complex tensors, which are
  /// not read. Others are unknown.
  private mutating func rebuild(_ args: [PickleValue], type typeName: String?, bits: PickleValue?)
    throws(FileError) -> PickleValue
  {
    guard args.count >= 4, case .storage(let storage) = args[0], case .int(let offset) = args[1],
      let shape = integers(args[2]),
      let strides = integers(args[3])
    else {
      return .opaque("tensor")
    }
    var type = typeName.map { Self.dataTypes[$0] } ?? arena.storages[storage].type
    var name = typeName ?? arena.storages[storage].typeName
    var isNegated = false
    if case .dict(let i)? = bits {
      for (key, value) in arena.dictionaries[i].members where value != .bool(false) {
        if key == .string("neg") {
          isNegated = true
        } else {
          // The meaning of the elements is unknown.
          (type, name) = (nil, "\(name) with the bit \(key.text ?? "?")")
        }
      }
    }
    return add(
      PickleTensor(
        storage: storage, type: type, typeName: name,
        view: StridedView(shape: shape, strides: strides, offset: offset), isNegated: isNegated))
  }
  private func integers(_ value: PickleValue) -> [Int]? {
    // A file may refer to one list many times, but each tensor keeps its own copy. So the list must
    // be short.
    guard let items = items(value), items.count <= 64 else { return nil }
    var integers: [Int] = []
    for item in items {
      guard case .int(let i) = item else { return nil }
      integers.append(i)
    }
    return integers
  }

  private static let storageTypes: [String: StoredType] = [
    "DoubleStorage": .f64, "FloatStorage": .f32, "HalfStorage": .f16, "BFloat16Storage": .bf16,
    "LongStorage": .i64, "IntStorage": .i32,
    "ShortStorage": .i16, "CharStorage": .i8,
    "ByteStorage": .u8, "BoolStorage": .bool,
  ]
  private static let dataTypes: [String: StoredType] = [
    "float64": .f64, "float32": .f32, "float16": .f16, "bfloat16": .bf16, "int64": .i64,
    "int32": .i32, "int16": .i16, "int8": .i8, "uint8": .u8,
    "bool": .bool, "uint16": .u16,
    "uint32": .u32, "uint64": .u64,
  ]
}
