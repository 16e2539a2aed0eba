/// A value on the pickle stack. Containers are indices into the machine's arena. So no file can
/// make values that nest through references, and cycles are harmless.
enum PickleValue: Sendable, Equatable {
  case none
  case bool(Bool)
  case int(Int)
  case float(Double)
  case string(String)
  case bytes
  case list(Int)
  case tuple(Int)
  case dict(Int)
  /// A class or function by name. It is never looked up.
  case global(module: String, name: String)
  case storage(Int)
  case tensor(Int)
  /// A value that is not understood, and never executed.
  case opaque(String)

  var text: String? { if case .string(let text) = self { text } else { nil } }
}

/// A reference to an entry `data/<key>` of the archive.
struct PickleStorage: Sendable {
  let key: String
  /// nil for untyped storages and for types that cannot be read.
  let type: StoredType?
  let typeName: String
  /// Number of elements (of bytes if untyped).
  let count: Int
}

/// A tensor as `_rebuild_tensor_v2` describes it, before any check.
struct PickleTensor: Sendable {
  let storage: Int
  let type: StoredType?
  let typeName: String
  let view: StridedView
  /// Whether every element stands for its negative (PyTorch's negative bit).
  var isNegated = false
}

/// The results of the machine: containers, storages and tensors.
struct PickleArena: Sendable {
  var sequences: [[PickleValue]] = []
  var dictionaries: [PickleDictionary] = []
  var storages: [PickleStorage] = []
  var tensors: [PickleTensor] = []
}

/// A mapping in the order of insertion. Keys that are not text are kept, and found only by walking
/// through it.
struct PickleDictionary: Sendable {
  private(set) var members: [(key: PickleValue, value: PickleValue)] = []
  private var index: [String: Int] = [:]
  var depth = 1

  mutating func set(_ key: PickleValue, _ value: PickleValue) {
    guard case .string(let name) = key else {
      members.append((key, value))
      return
    }
    if let i = index[name] {
      members[i].value = value
    } else {
      index[name] = members.count
      members.append((key, value))
    }
  }
  subscript(name: String) -> PickleValue? { index[name].map { members[$0].value } }
}

/// The pickle machine for weights. It reads protocols 2 to 5 and never executes anything
/// (checkpoints.md 9.2). The result of an unknown callable is an opaque value.
struct PickleMachine {
  private let code: ByteRegion
  private var at = 0
  private var stack: [PickleValue] = []
  private var marks: [Int] = []
  private var memo: [Int: PickleValue] = [:]
  private var sequenceDepth: [Int] = []
  private var objects = 0
  private(set) var arena = PickleArena()

  // Limits of checkpoints.md 9.2.
  private static let deepest = 1000
  private static let mostValues = 10_000_000
  private static let longestString = 64 << 20

  init(_ code: ByteRegion) { self.code = code }

  /// Runs to STOP and returns the result. Throws `badData` with the offset of the fault.
  mutating func run() throws(FileError) -> PickleValue {
    while true {
      let start = at
      let opcode = try byte()
      if opcode == PickleOpcode.stop.rawValue { return try pop() }
      try step(opcode, start)
      if stack.count > Self.mostValues || objects > Self.mostValues {
        throw fault("more than \(Self.mostValues) values")
      }
    }
  }

  func fault(_ what: String) -> FileError {
    FileError.bad(
      "broken pickle: \(what)", code.path, "data.pkl byte \(at)",
      mend: "save the file again with torch.save, or use safetensors")
  }

  // MARK: reading

  private mutating func byte() throws(FileError) -> UInt8 {
    guard let b = code.byte(at: at) else { throw fault("it ends too early") }
    at += 1
    return b
  }
  private mutating func integer<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type) throws(FileError)
    -> Int
  {
    guard let value: T = code.integer(at: at), let int = Int(exactly: value) else {
      throw fault("it ends too early, or a length is too large")
    }
    at += MemoryLayout<T>.size
    return int
  }
  private mutating func bytes(_ count: Int) throws(FileError) -> ByteRegion {
    guard count <= Self.longestString else { throw fault("a string of \(count) bytes") }
    guard let part = code.region(at: at, count: count) else {
      throw fault("a length of \(count) leads past the end")
    }
    at += count
    return part
  }
  private mutating func text(_ count: Int) throws(FileError) -> PickleValue {
    guard let text = try bytes(count).string else { throw fault("text that is not UTF-8") }
    return .string(text)
  }
  private mutating func line() throws(FileError) -> String {
    guard let end = code.firstIndex(of: 0x0a, from: at, limit: 1024),
      let text = code.region(at..<end)?.string
    else {
      throw fault("a name without its end")
    }
    at = end + 1
    return text
  }

  // MARK: the stack

  private mutating func push(_ value: PickleValue) {
    stack.append(value)
    objects += 1
  }
  private mutating func pop() throws(FileError) -> PickleValue {
    guard stack.count > (marks.last ?? 0), let value = stack.popLast() else {
      throw fault("the stack is empty")
    }
    return value
  }
  private func top() throws(FileError) -> PickleValue {
    guard stack.count > (marks.last ?? 0), let value = stack.last else {
      throw fault("the stack is empty")
    }
    return value
  }
  private mutating func popToMark() throws(FileError) -> [PickleValue] {
    guard let mark = marks.popLast(), mark <= stack.count else { throw fault("a mark is missing") }
    let items = Array(stack[mark...])
    stack.removeSubrange(mark...)
    return items
  }
  private mutating func pop(_ count: Int) throws(FileError) -> [PickleValue] {
    var items: [PickleValue] = []
    for _ in 0..<count { items.append(try pop()) }
    return items.reversed()
  }
  private mutating func remember(_ index: Int) throws(FileError) { memo[index] = try top() }
  private mutating func recall(_ index: Int) throws(FileError) {
    guard let value = memo[index] else { throw fault("memo \(index) was never set") }
    push(value)
  }

  private func depth(_ value: PickleValue) -> Int {
    switch value {
    case .list(let i), .tuple(let i): sequenceDepth[i]
    case .dict(let i): arena.dictionaries[i].depth
    default: 0
    }
  }
  private func deeper(_ items: [PickleValue]) throws(FileError) -> Int {
    var deepest = 0
    for item in items { deepest = max(deepest, depth(item)) }
    if deepest >= Self.deepest { throw fault("nested deeper than \(Self.deepest)") }
    return deepest + 1
  }
  mutating func sequence(_ items: [PickleValue]) throws(FileError) -> Int {
    sequenceDepth.append(try deeper(items))
    arena.sequences.append(items)
    objects += items.count
    return arena.sequences.count - 1
  }
  mutating func dictionary(_ items: [PickleValue]) throws(FileError) -> Int {
    arena.dictionaries.append(PickleDictionary())
    try set(items, in: arena.dictionaries.count - 1)
    return arena.dictionaries.count - 1
  }
  private mutating func set(_ items: [PickleValue], in i: Int) throws(FileError) {
    guard items.count % 2 == 0 else { throw fault("a key without its value") }
    arena.dictionaries[i].depth = max(arena.dictionaries[i].depth, try deeper(items))
    for k in stride(from: 0, to: items.count, by: 2) {
      arena.dictionaries[i].set(items[k], items[k + 1])
    }
    objects += items.count
  }
  private mutating func append(_ items: [PickleValue]) throws(FileError) {
    if case .list(let i) = try top() {
      sequenceDepth[i] = max(sequenceDepth[i], try deeper(items))
      arena.sequences[i] += items
      objects += items.count
    }
  }

  // MARK: opcodes

  private mutating func step(_ code: UInt8, _ start: Int) throws(FileError) {
    guard let opcode = PickleOpcode(rawValue: code) else {
      throw fault("unknown opcode 0x\(String(code, radix: 16)) at \(start)")
    }
    switch opcode.group {
    case .control: try control(opcode)
    case .value: try value(opcode)
    case .container: try container(opcode)
    case .object: try object(opcode)
    case .old:
      throw fault(
        """
        opcode of protocol 0 or 1 (0x\(String(code, radix: 16)) at \(start)), which torch.save \
        never writes
        """
      )
    }
  }
  /// Protocol, frames, the stack and the memo.
  private mutating func control(_ opcode: PickleOpcode) throws(FileError) {
    switch opcode {
    case .proto:
      let version = try byte()
      guard (2...5).contains(version) else { throw fault("protocol \(version), 2 to 5 are known") }
    case .frame: _ = try integer(UInt64.self)
    case .mark:
      if marks.count >= Self.deepest { throw fault("nested deeper than \(Self.deepest)") }
      marks.append(stack.count)
    case .pop: if stack.count == marks.last { marks.removeLast() } else { _ = try pop() }
    case .popMark: _ = try popToMark()
    case .dup: push(try top())
    case .put: try remember(try integer(UInt8.self))
    case .longPut: try remember(try integer(UInt32.self))
    case .memoize: try remember(memo.count)
    case .get: try recall(try integer(UInt8.self))
    case .longGet: try recall(try integer(UInt32.self))
    default: preconditionFailure("\(opcode) is no control opcode")
    }
  }
  private mutating func value(_ opcode: PickleOpcode) throws(FileError) {
    switch opcode {
    case .none: push(.none)
    case .newTrue: push(.bool(true))
    case .newFalse: push(.bool(false))
    case .int1: push(.int(try integer(UInt8.self)))
    case .int2: push(.int(try integer(UInt16.self)))
    case .int4: push(.int(try integer(Int32.self)))
    case .long1: push(try long(try integer(UInt8.self)))
    case .long4: push(try long(try integer(Int32.self)))
    case .float:
      push(.float(Double(bitPattern: UInt64(bigEndian: UInt64(littleEndianBytes: try bytes(8))))))
    case .unicode4: push(try text(try integer(UInt32.self)))
    case .unicode1: push(try text(try integer(UInt8.self)))
    case .unicode8: push(try text(try integer(UInt64.self)))
    case .string4: try skipBytes(try integer(Int32.self))
    case .string1, .bytes1: try skipBytes(try integer(UInt8.self))
    case .bytes4: try skipBytes(try integer(UInt32.self))
    case .bytes8: try skipBytes(try integer(UInt64.self))
    default: preconditionFailure("\(opcode) is no value")
    }
  }
  private mutating func container(_ opcode: PickleOpcode) throws(FileError) {
    switch opcode {
    case .emptyList, .emptySet: push(.list(try sequence([])))
    case .list, .frozenSet: push(.list(try sequence(try popToMark())))
    case .append: try append([try pop()])
    case .appends, .addItems: try append(try popToMark())
    case .emptyTuple: push(.tuple(try sequence([])))
    case .tuple1: push(.tuple(try sequence(try pop(1))))
    case .tuple2: push(.tuple(try sequence(try pop(2))))
    case .tuple3: push(.tuple(try sequence(try pop(3))))
    case .tuple: push(.tuple(try sequence(try popToMark())))
    case .emptyDict: push(.dict(try dictionary([])))
    case .dict: push(.dict(try dictionary(try popToMark())))
    case .setItem: try setItems(try pop(2))
    case .setItems: try setItems(try popToMark())
    default: preconditionFailure("\(opcode) makes no container")
    }
  }
  /// Classes by name, and what is made of them; nothing is run.
  private mutating func object(_ opcode: PickleOpcode) throws(FileError) {
    switch opcode {
    case .global: push(.global(module: try line(), name: try line()))
    case .stackGlobal:
      let names = try pop(2)
      guard case .string(let module) = names[0], case .string(let name) = names[1] else {
        throw fault("a class whose name is not text")
      }
      push(.global(module: module, name: name))
    case .persistent: push(try persistent(try pop()))
    case .reduce, .newObject:
      let arguments = try pop()
      push(try call(try pop(), arguments))
    case .newObjectEx:
      _ = try pop()
      let arguments = try pop()
      push(try call(try pop(), arguments))
    case .build:
      _ = try pop()
      _ = try top()
    default: preconditionFailure("\(opcode) makes no object")
    }
  }

  private mutating func skipBytes(_ count: Int) throws(FileError) {
    guard count >= 0 else { throw fault("a negative length") }
    _ = try bytes(count)
    push(.bytes)
  }
  /// Little-endian two's complement of any length. A value that does not fit in i64 is opaque.
  private mutating func long(_ count: Int) throws(FileError) -> PickleValue {
    guard count >= 0 else { throw fault("a negative length") }
    let digits = try bytes(count)
    guard count <= 8 else { return .opaque("large integer") }
    var value: UInt64 = 0
    for (i, b) in digits.array.enumerated() { value |= UInt64(b) << (8 * UInt64(i)) }
    let shift = UInt64(64 - 8 * count)
    return .int(count == 0 ? 0 : Int(Int64(bitPattern: value << shift) >> Int64(shift)))
  }
  private mutating func setItems(_ items: [PickleValue]) throws(FileError) {
    if case .dict(let i) = try top() { try set(items, in: i) }
  }

  // MARK: for the callables (PickleMachine+Torch)

  func items(_ value: PickleValue) -> [PickleValue]? {
    switch value {
    case .list(let i), .tuple(let i): arena.sequences[i]
    default: nil
    }
  }
  mutating func add(_ storage: PickleStorage) -> PickleValue {
    arena.storages.append(storage)
    return .storage(arena.storages.count - 1)
  }
  mutating func add(_ tensor: PickleTensor) -> PickleValue {
    arena.tensors.append(tensor)
    return .tensor(arena.tensors.count - 1)
  }
}

extension UInt64 {
  /// Eight bytes in the order of a little-endian machine.
  fileprivate init(littleEndianBytes bytes: ByteRegion) { self = bytes.integer(at: 0) ?? 0 }
}
