public import TensorRuntime

/// Adds what leaves have computed along a binary tree that depends on their number alone: of
/// [a, b) the left part is the largest power of two below b - a, and the sum is left + right. Parts
/// that are whole subtrees may be made anywhere, and give the same bits.
///
/// A value is a list of tensors. At most log2(leaves) + 1 values are alive.
public struct TreeSum: Sendable {
  /// A whole subtree: leaves `first..<first + leaves`, a power of two that divides `first`.
  public struct Part: Sendable {
    public let first, leaves: Int
    public var value: [Tensor]
    public init(first: Int, leaves: Int, value: [Tensor]) {
      (self.first, self.leaves, self.value) = (first, leaves, value)
    }
  }
  public private(set) var parts: [Part] = []
  public init() {}

  /// Parts come in order of their leaves, without gaps.
  public mutating func push(_ part: Part, in work: borrowing Workspace) {
    precondition(
      parts.last.map { $0.first + $0.leaves == part.first } ?? true, "leaf \(part.first) is early")
    parts.append(part)
    while parts.count > 1 {
      let (first, leaves) = (parts[parts.count - 2].first, parts[parts.count - 2].leaves)
      guard leaves == parts[parts.count - 1].leaves && first % (2 * leaves) == 0 else { return }
      let right = parts.removeLast()
      parts.append(Self.sum(parts.removeLast(), right, in: work))
    }
  }
  public mutating func push(leaf: Int, _ value: [Tensor], in work: borrowing Workspace) {
    push(Part(first: leaf, leaves: 1, value: value), in: work)
  }
  /// This sum, which begins again.
  public mutating func take() -> TreeSum {
    defer { parts = [] }
    return self
  }
  /// The sum of all leaves from 0 on.
  public consuming func finish(in work: borrowing Workspace) -> [Tensor] {
    precondition(parts.first?.first == 0, "the first leaf is missing")
    var sum = parts.removeLast()
    while let left = parts.popLast() { sum = Self.sum(left, sum, in: work) }
    return sum.value
  }
  /// The sum lies in the memory of the left part.
  private static func sum(
    _ left: consuming Part, _ right: consuming Part, in work: borrowing Workspace
  ) -> Part {
    let (first, leaves) = (left.first, left.leaves + right.leaves)
    var value = left.value
    left.value = []
    for i in value.indices { work.add(right.value[i], to: &value[i]) }
    return Part(first: first, leaves: leaves, value: value)
  }

  /// The whole subtrees that leaves `range` are made of, as ranges.
  public static func parts(of range: Range<Int>) -> [Range<Int>] {
    var parts: [Range<Int>] = []
    var first = range.lowerBound
    while first < range.upperBound {
      var leaves = first == 0 ? 1 << 62 : first & -first
      while first + leaves > range.upperBound || leaves > range.count { leaves /= 2 }
      parts.append(first..<first + leaves)
      first += leaves
    }
    return parts
  }
}
