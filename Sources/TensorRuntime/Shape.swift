/// The extents of a tensor, outermost first, of rank at most 8. Uses no heap memory.
///
/// No vector type is stored here or in anything that a model contains. In the frame of an async
/// function Swift 6.3 does not align values that need more than 16 bytes (measured), which was the
/// likely cause of a heap overwritten in an optimised build.
public struct Shape: Hashable, Sendable, CustomStringConvertible {
  /// Extents from `rank` on are 1.
  private var extents: [8 of Int]
  public private(set) var rank: Int

  /// The shape of a scalar.
  public init() { (extents, rank) = ([8 of Int](repeating: 1), 0) }
  public static func == (a: Shape, b: Shape) -> Bool {
    if a.rank != b.rank { return false }
    for axis in 0..<a.rank where a.extents[axis] != b.extents[axis] { return false }
    return true
  }
  public func hash(into hasher: inout Hasher) {
    hasher.combine(rank)
    for axis in 0..<rank { hasher.combine(extents[axis]) }
  }
  public init(_ a: Int) {
    self.init()
    append(a)
  }
  public init(_ a: Int, _ b: Int) {
    self.init(a)
    append(b)
  }
  public init(_ a: Int, _ b: Int, _ c: Int) {
    self.init(a, b)
    append(c)
  }
  public init(_ a: Int, _ b: Int, _ c: Int, _ d: Int) {
    self.init(a, b, c)
    append(d)
  }
  public init(_ a: Int, _ b: Int, _ c: Int, _ d: Int, _ e: Int) {
    self.init(a, b, c, d)
    append(e)
  }
  public init(_ extents: some Sequence<Int>) {
    self.init()
    for e in extents { append(e) }
  }

  public mutating func append(_ extent: Int) {
    precondition(rank < 8, "a shape has at most 8 axes")
    precondition(extent >= 0, "an extent cannot be negative: \(extent)")
    extents[rank] = extent
    rank += 1
  }

  public subscript(axis: Int) -> Int {
    get {
      precondition(axis >= 0 && axis < rank, "axis \(axis) of \(self)")
      return extents[axis]
    }
    set {
      precondition(axis >= 0 && axis < rank && newValue >= 0, "axis \(axis) of \(self)")
      extents[axis] = newValue
    }
  }

  /// Number of elements. Above 2^56 it stays at that value: it is larger than any memory, and its
  /// number of bytes does not overflow (`MemoryLimit`).
  public var count: Int {
    var n = 1
    for axis in 0..<rank {
      let (product, overflows) = n.multipliedReportingOverflow(by: extents[axis])
      n = overflows ? 1 << 56 : min(product, 1 << 56)
    }
    return n
  }
  public var dims: [Int] { (0..<rank).map { extents[$0] } }
  public var last: Int { rank == 0 ? 1 : extents[rank - 1] }
  /// All axes but the last.
  public var droppingLast: Shape { Shape(dims.dropLast()) }
  /// The number of rows if the last axis is a row.
  public var rows: Int { last == 0 ? 0 : count / last }
  public func replacingLast(with extent: Int) -> Shape {
    var s = self
    s[rank - 1] = extent
    return s
  }
  public var description: String { "[" + dims.map(String.init).joined(separator: ", ") + "]" }
}

/// Three numbers of a grid (time, height, width) in stored form; see `Shape` for why this is not a
/// `SIMD3`.
public struct Extents3: Hashable, Sendable {
  private let x, y, z: Int
  public init(_ v: SIMD3<Int>) { (x, y, z) = (v.x, v.y, v.z) }
  public var vector: SIMD3<Int> { SIMD3(x, y, z) }
}
