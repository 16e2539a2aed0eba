/// Opcodes of pickle protocols 2 to 5 under the names of Python's `pickletools`, and those of
/// protocols 0 and 1, which torch.save never writes.
enum PickleOpcode: UInt8 {
  case proto = 0x80
  case frame = 0x95
  case stop = 0x2e
  case mark = 0x28
  case pop = 0x30
  case popMark = 0x31
  case dup = 0x32
  case put = 0x71
  case longPut = 0x72
  case memoize = 0x94
  case get = 0x68
  case longGet = 0x6a

  case none = 0x4e
  case newTrue = 0x88
  case newFalse = 0x89
  case int1 = 0x4b
  case int2 = 0x4d
  case int4 = 0x4a
  case long1 = 0x8a
  case long4 = 0x8b
  case float = 0x47
  case unicode4 = 0x58
  case unicode1 = 0x8c
  case unicode8 = 0x8d
  case string4 = 0x54
  case string1 = 0x55
  case bytes1 = 0x43
  case bytes4 = 0x42
  case bytes8 = 0x8e

  case emptyList = 0x5d
  case emptySet = 0x8f
  case list = 0x6c
  case frozenSet = 0x91
  case append = 0x61
  case appends = 0x65
  case addItems = 0x90
  case emptyTuple = 0x29
  case tuple1 = 0x85
  case tuple2 = 0x86
  case tuple3 = 0x87
  case tuple = 0x74
  case emptyDict = 0x7d
  case dict = 0x64
  case setItem = 0x73
  case setItems = 0x75

  case global = 0x63
  case stackGlobal = 0x93
  case persistent = 0x51
  case reduce = 0x52
  case newObject = 0x81
  case newObjectEx = 0x92
  case build = 0x62

  case textInt = 0x49
  case textLong = 0x4c
  case textFloat = 0x46
  case textString = 0x53
  case textUnicode = 0x56
  case textGet = 0x67
  case textPut = 0x70
  case textPersistent = 0x50
  case instance = 0x69
  case object = 0x6f

  /// Which part of the machine an opcode belongs to.
  enum Group { case control, value, container, object, old }
  var group: Group {
    switch self {
    case .proto, .frame, .stop, .mark, .pop, .popMark, .dup, .put, .longPut, .memoize, .get,
      .longGet:
      .control
    case .none, .newTrue, .newFalse, .int1, .int2, .int4, .long1, .long4, .float, .unicode4,
      .unicode1, .unicode8, .string4, .string1, .bytes1, .bytes4, .bytes8:
      .value
    case .emptyList, .emptySet, .list, .frozenSet, .append, .appends, .addItems, .emptyTuple,
      .tuple1, .tuple2, .tuple3, .tuple, .emptyDict, .dict, .setItem, .setItems:
      .container
    case .global, .stackGlobal, .persistent, .reduce, .newObject, .newObjectEx, .build: .object
    case .textInt, .textLong, .textFloat, .textString, .textUnicode, .textGet, .textPut,
      .textPersistent, .instance, .object:
      .old
    }
  }
}
