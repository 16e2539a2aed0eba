public import TensorRuntime

/// The elements of a model's trainable parameters, one behind the other in the order of
/// `forEachParameter`, cut into grains: runs of 65,536 elements of one parameter, of which the last
/// may be shorter. Sums over all elements are made of one sum a grain, in order, and a rank owns
/// whole grains. So neither depends on the number of ranks.
public struct Grains: Sendable {
  public static let size = 65_536
  /// Elements of each parameter, and where its first element and its first grain lie.
  private let counts: [Int], starts: [Int], firstGrains: [Int]
  /// Elements and grains of all parameters.
  public let elementCount: Int, count: Int

  public init(of counts: [Int]) {
    self.counts = counts
    var (element, grain) = (0, 0)
    var starts: [Int] = []
    var firstGrains: [Int] = []
    for n in counts {
      starts.append(element)
      firstGrains.append(grain)
      element += n
      grain += (n + Self.size - 1) / Self.size
    }
    (self.starts, self.firstGrains) = (starts, firstGrains)
    (elementCount, count) = (element, grain)
  }

  /// The grains of rank `rank`.
  public func share(_ rank: Int, of ranks: Int) -> Range<Int> {
    rank * count / ranks..<(rank + 1) * count / ranks
  }
  /// The parameter of a grain.
  public func parameter(ofGrain grain: Int) -> Int {
    Self.last(firstGrains, notAbove: grain, upTo: counts.count)
  }
  /// Where grain `grain` begins; for the number of grains, the number of elements.
  public func start(ofGrain grain: Int) -> Int {
    if grain == count { return elementCount }
    let i = parameter(ofGrain: grain)
    return starts[i] + (grain - firstGrains[i]) * Self.size
  }
  public func elements(_ grains: Range<Int>) -> Range<Int> {
    start(ofGrain: grains.lowerBound)..<start(ofGrain: grains.upperBound)
  }
  /// What a range of elements holds of each parameter: its index, and elements of it.
  public func pieces(_ elements: Range<Int>) -> [(parameter: Int, range: Range<Int>)] {
    if elements.isEmpty { return [] }
    var pieces: [(parameter: Int, range: Range<Int>)] = []
    var i = Self.last(starts, notAbove: elements.lowerBound, upTo: counts.count)
    while i < counts.count && starts[i] < elements.upperBound {
      let range =
        max(elements.lowerBound - starts[i], 0)..<min(elements.upperBound - starts[i], counts[i])
      if !range.isEmpty { pieces.append((i, range)) }
      i += 1
    }
    return pieces
  }
  /// The sum of squares of each grain of `x`, whose first element begins one.
  public static func squares(of x: Tensor, in work: borrowing Workspace) -> [Double] {
    stride(from: 0, to: x.count, by: size).map {
      work.sumOfSquares(x.flat($0..<min($0 + size, x.count)))
    }
  }
  /// Index of the last of the ascending `values` that is not above `x`. Of equal ones the last.
  private static func last(_ values: [Int], notAbove x: Int, upTo count: Int) -> Int {
    var (low, high) = (0, count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if values[middle] <= x { low = middle } else { high = middle }
    }
    return low
  }
}
