internal import CKernels

/// A dense, row-major array with value semantics. Copies share memory until one of them is written.
public struct Tensor: Sendable {
  public private(set) var shape: Shape
  public let type: ElementType
  var storage: TensorStorage
  /// First element, as a number of elements from the start of the storage.
  var offset: Int

  init(shape: Shape, type: ElementType, storage: TensorStorage, offset: Int = 0) {
    (self.shape, self.type, self.storage, self.offset) = (shape, type, storage, offset)
  }

  /// A tensor with memory of its own (not recycled). The elements are not set.
  init(uninitialized shape: Shape, type: ElementType) {
    self.init(
      shape: shape, type: type, storage: TensorStorage(byteCount: shape.count * type.byteCount))
  }

  public static func zeros(_ shape: Shape, type: ElementType = .f32) -> Tensor {
    let t = Tensor(uninitialized: shape, type: type)
    unsafe t.storage.pointer.initializeMemory(
      as: UInt8.self, repeating: 0, count: max(t.byteCount, 1))
    return t
  }
  public static func full(_ shape: Shape, _ value: Double, type: ElementType = .f32) -> Tensor {
    type == .f64
      ? Tensor(Array(repeating: value, count: shape.count), shape)
      : Tensor(Array(repeating: Float(value), count: shape.count), shape)
  }
  public static func ones(_ shape: Shape, type: ElementType = .f32) -> Tensor {
    full(shape, 1, type: type)
  }

  public init(_ values: [Float], _ shape: Shape) { self.init(copying: values, shape, .f32) }
  public init(_ values: [Double], _ shape: Shape) { self.init(copying: values, shape, .f64) }
  public init(_ values: [Int32], _ shape: Shape) { self.init(copying: values, shape, .i32) }
  /// Values computed in double and stored in a compute type.
  public init(_ values: [Double], _ shape: Shape, as type: ElementType) {
    if type == .f64 { self.init(values, shape) } else { self.init(values.map { Float($0) }, shape) }
  }
  public init(scalar value: Float) { self.init([value], Shape()) }

  private init<Element>(copying values: [Element], _ shape: Shape, _ type: ElementType) {
    precondition(values.count == shape.count, "\(values.count) values for shape \(shape)")
    self.init(uninitialized: shape, type: type)
    unsafe values.withUnsafeBytes { bytes in
      if let base = bytes.baseAddress {
        unsafe storage.pointer.copyMemory(from: base, byteCount: bytes.count)
      }
    }
  }

  /// A tensor over memory that `owner` keeps alive and that nothing writes (a mapped file).
  public init(
    borrowing bytes: UnsafeRawBufferPointer, shape: Shape, type: ElementType,
    owner: any AnyObject & Sendable
  ) {
    precondition(
      bytes.count >= shape.count * type.byteCount, "\(bytes.count) bytes for \(shape) of \(type)")
    let empty = unsafe UnsafeRawPointer(bitPattern: 64)!
    unsafe self.init(
      shape: shape, type: type,
      storage: TensorStorage(
        borrowing: bytes.baseAddress ?? empty, byteCount: bytes.count, owner: owner))
  }

  /// A tensor with a shape and no elements, which takes no memory. Reading it is a fault.
  public static func withoutElements(_ shape: Shape, type: ElementType = .f32) -> Tensor {
    final class Nothing: Sendable {}
    let nowhere = unsafe UnsafeRawPointer(bitPattern: 64)
    return unsafe Tensor(
      borrowing: UnsafeRawBufferPointer(start: nowhere, count: shape.count * type.byteCount),
      shape: shape, type: type, owner: Nothing())
  }

  /// A matrix of signed bytes `[rows, columns]`, whose row r stands for `scales[r]` times its
  /// bytes. Shares the memory of `bytes`, of type u8; scales `[rows]` are f32. It is never written.
  public init(quantized bytes: Tensor, scales: Tensor) {
    precondition(
      bytes.type == .u8 && bytes.shape.rank == 2 && bytes.offset == 0 && scales.type == .f32
        && scales.count == bytes.shape[0], "\(bytes.shape) bytes with \(scales.shape) scales")
    unsafe self.init(
      shape: bytes.shape, type: .i8,
      storage: TensorStorage(
        borrowing: bytes.base, byteCount: bytes.byteCount, owner: bytes.storage, scales: scales))
  }
  /// The scales of a quantized matrix, one for each row of its storage; nil for other types.
  public var scales: Tensor? { storage.scales }

  public var count: Int { shape.count }
  public var byteCount: Int { count * type.byteCount }

  /// The same elements under another shape.
  public func reshaped(_ shape: Shape) -> Tensor {
    precondition(shape.count == count, "\(self.shape) cannot become \(shape)")
    var t = self
    t.shape = shape
    return t
  }
  /// Elements `range` of the leading axis; shares memory.
  public func slice(_ range: Range<Int>) -> Tensor {
    precondition(
      shape.rank > 0 && range.lowerBound >= 0 && range.upperBound <= shape[0],
      "rows \(range) of \(shape)")
    var t = self
    t.shape[0] = range.count
    t.offset += range.lowerBound * (count / max(shape[0], 1))
    return t
  }
  /// Elements `range` in the order of memory, `[range.count]`; shares memory.
  public func flat(_ range: Range<Int>) -> Tensor { reshaped(Shape(count)).slice(range) }
  /// Element `index` of the leading axis, without that axis; shares memory.
  public subscript(row index: Int) -> Tensor {
    let t = slice(index..<index + 1)
    return t.reshaped(Shape(shape.dims.dropFirst()))
  }

  // MARK: elements, for tests, readers and reports (not for hot paths)

  /// All elements as f32.
  public var floats: [Float] {
    switch type {
    case .f32: unsafe withBuffer(as: Float.self) { unsafe Array($0) }
    case .f64: unsafe withBuffer(as: Double.self) { unsafe $0.map { Float($0) } }
    case .bf16:
      unsafe withBuffer(as: UInt16.self) { unsafe $0.map { Float(bitPattern: UInt32($0) << 16) } }
    case .f16, .i8: Workspace().widened(self).floats
    case .i32: unsafe withBuffer(as: Int32.self) { unsafe $0.map { Float($0) } }
    case .i64: unsafe withBuffer(as: Int64.self) { unsafe $0.map { Float($0) } }
    case .u8: unsafe withBuffer(as: UInt8.self) { unsafe $0.map { Float($0) } }
    }
  }
  /// All elements as f64.
  public var doubles: [Double] {
    switch type {
    case .f64: unsafe withBuffer(as: Double.self) { unsafe Array($0) }
    case .i32: unsafe withBuffer(as: Int32.self) { unsafe $0.map { Double($0) } }
    case .i64: unsafe withBuffer(as: Int64.self) { unsafe $0.map { Double($0) } }
    default: floats.map { Double($0) }
    }
  }
  public var integers: [Int] {
    switch type {
    case .i32: unsafe withBuffer(as: Int32.self) { unsafe $0.map { Int($0) } }
    case .i64: unsafe withBuffer(as: Int64.self) { unsafe $0.map { Int($0) } }
    case .u8: unsafe withBuffer(as: UInt8.self) { unsafe $0.map { Int($0) } }
    default: preconditionFailure("\(type) is not an integer type")
    }
  }
  /// The value of a tensor of one element.
  public var item: Double {
    precondition(count == 1, "item of \(shape)")
    return doubles[0]
  }

  /// Calls `body` with the elements.
  public func withSpan<Element: BitwiseCopyable, R>(
    of _: Element.Type = Element.self, _ body: (Span<Element>) throws -> R
  ) rethrows -> R {
    try unsafe withBuffer(as: Element.self) { try unsafe body($0.span) }
  }
  /// Calls `body` with the elements, for writing. Copies them first if they are shared.
  public mutating func withMutableSpan<Element: BitwiseCopyable, R>(
    of _: Element.Type = Element.self, _ body: (inout MutableSpan<Element>) throws -> R
  ) rethrows -> R {
    precondition(
      MemoryLayout<Element>.size == type.byteCount, "\(Element.self) is not the element of \(type)")
    makeUnique()
    let buffer = unsafe UnsafeMutableBufferPointer(
      start: base.bindMemory(to: Element.self, capacity: max(count, 1)), count: count)
    var span = unsafe buffer.mutableSpan
    return try body(&span)
  }
  /// Calls `body` with the bytes of the elements (for writing files).
  public func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try unsafe body(UnsafeRawBufferPointer(start: base, count: byteCount))
  }

  /// Calls `body` with the bytes of the elements, for writing. Copies them first if they are
  /// shared.
  public mutating func withMutableBytes<R>(
    _ body: (UnsafeMutableRawBufferPointer) throws -> R
  ) rethrows -> R {
    makeUnique()
    return try unsafe body(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
  }

  func withBuffer<Element, R>(
    as _: Element.Type, _ body: (UnsafeBufferPointer<Element>) throws -> R
  ) rethrows -> R {
    precondition(
      MemoryLayout<Element>.size == type.byteCount, "\(Element.self) is not the element of \(type)")
    return try unsafe body(
      UnsafeBufferPointer(start: base.assumingMemoryBound(to: Element.self), count: count))
  }

  // MARK: memory

  /// Address of the first element, valid while a tensor on this storage is held.
  var base: UnsafeMutableRawPointer {
    storage.settle()
    return unsafe storage.pointer + offset * type.byteCount
  }
  /// The same as f32.
  var floatBase: UnsafeMutablePointer<Float> {
    unsafe base.assumingMemoryBound(to: Float.self)
  }
  /// The elements as a weight, of a type that weights are stored in.
  var weight: pk_weight {
    let row = offset / max(shape.last, 1)
    let scale = unsafe scales.map { unsafe UnsafePointer($0.floatBase + row) }
    return unsafe pk_weight(type: type.pk, elements: base, scale: scale)
  }
  /// Makes every element zero, without memory until they are first read or written. Returns false
  /// and does nothing if this tensor is only a part of its memory.
  mutating func clear(in work: borrowing Workspace) -> Bool {
    if offset != 0 || byteCount != storage.byteCount { return false }
    if isOnlyHolder() {
      storage.panels.forget()
      storage.clear()
    } else {
      work.plan?.release(storage)
      storage = TensorStorage(clearedByteCount: byteCount, from: work.pool)
    }
    return true
  }
  /// Whether the elements are zeros that have not been written yet. The caller must overwrite all
  /// of them.
  func takeCleared() -> Bool {
    offset == 0 && byteCount == storage.byteCount && storage.takeCleared()
  }

  /// Whether both are the same elements in the same memory.
  public func isSame(as other: Tensor) -> Bool {
    storage === other.storage && offset == other.offset && count == other.count
      && type == other.type
  }
  /// Whether nothing else holds this memory, so that a result may be written over it.
  public mutating func isOnlyHolder() -> Bool {
    isKnownUniquelyReferenced(&storage) && !storage.isReadOnly
  }
  /// Makes this the only holder of its memory. If it was shared, it is copied and the copy is
  /// counted.
  mutating func makeUnique() { makeUnique(copyingTo: storage.pool) }
  /// The same before an operation of `work` writes this: a copy is memory of `work`. A plan's copy
  /// is empty, and does not count where the step itself would write in place.
  public mutating func makeUnique(in work: borrowing Workspace) {
    guard let plan = work.plan else { return makeUnique(copyingTo: work.pool) }
    if isOnlyHolder() {
      _ = storage.takeCleared()
    } else {
      let pool = plan.isOfTask(storage) && !storage.isCleared ? plan.copies : plan.pool
      (storage, offset) = (TensorStorage(byteCount: byteCount, from: pool), 0)
    }
  }
  private mutating func makeUnique(copyingTo pool: BufferPool?) {
    precondition(type != .i8, "a quantized matrix is not written")
    if isOnlyHolder() { return storage.panels.forget() }
    let old = self
    if let pool {
      pool.countCopy()
      storage = TensorStorage(byteCount: byteCount, from: pool)
    } else {
      storage = TensorStorage(byteCount: byteCount)
    }
    offset = 0
    unsafe storage.pointer.copyMemory(from: old.base, byteCount: byteCount)
  }
}
