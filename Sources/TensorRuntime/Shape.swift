/// The extents of a tensor, outermost first, rank at most 8. No heap memory.
public struct Shape: Hashable, Sendable, CustomStringConvertible {
  private var extents: SIMD8<Int>
  public private(set) var rank: Int

  /// The shape of a scalar.
  public init() { (extents, rank) = (SIMD8(repeating: 1), 0) }
  public init(_ a: Int) { self.init(); append(a) }
  public init(_ a: Int, _ b: Int) { self.init(a); append(b) }
  public init(_ a: Int, _ b: Int, _ c: Int) { self.init(a, b); append(c) }
  public init(_ a: Int, _ b: Int, _ c: Int, _ d: Int) { self.init(a, b, c); append(d) }
  public init(_ a: Int, _ b: Int, _ c: Int, _ d: Int, _ e: Int) { self.init(a, b, c, d); append(e) }
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

  /// Number of elements.
  public var count: Int {
    var n = 1
    for axis in 0..<rank { n *= extents[axis] }
    return n
  }
  public var dims: [Int] { (0..<rank).map { extents[$0] } }
  public var last: Int { rank == 0 ? 1 : extents[rank - 1] }
  /// All axes but the last.
  public var droppingLast: Shape { Shape(dims.dropLast()) }
  /// The number of rows when the last axis is a row.
  public var rows: Int { last == 0 ? 0 : count / last }
  public func replacingLast(with extent: Int) -> Shape {
    var s = self
    s[rank - 1] = extent
    return s
  }
  public var description: String { "[" + dims.map(String.init).joined(separator: ", ") + "]" }
}
