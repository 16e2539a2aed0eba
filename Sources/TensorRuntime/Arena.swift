/// Which addresses of some regions are taken: blocks of any length, cut from the shortest free
/// range that is long enough (best fit). What is left of the range stays free, and free neighbours
/// become one range again. This only keeps the books and touches no memory, so that a plan of a
/// step may go on with a copy.
struct Arena {
  /// Addresses of which the first `used` have been part of a block at some time.
  struct Region {
    let addresses: Range<Int>
    var used = 0
    var end: Int { addresses.lowerBound + used }
  }
  private(set) var regions: [Region] = []
  /// Free ranges of used addresses, in ascending order. No two of them touch.
  private(set) var free: [Range<Int>] = []
  /// Addresses that were part of a block at some time, and those that are part of one now.
  private(set) var used = 0, taken = 0

  /// A remainder shorter than this is not cut off.
  static let shortest = 1 << 16

  mutating func add(_ addresses: Range<Int>) { regions.append(Region(addresses: addresses)) }

  /// At least `length` addresses. nil if no region has room for them.
  mutating func take(_ length: Int) -> Range<Int>? {
    takeFree(length) ?? extend(length)
  }
  /// The same without new addresses.
  mutating func takeFree(_ length: Int) -> Range<Int>? {
    let block = cut(length)
    taken += block?.count ?? 0
    return block
  }
  private mutating func cut(_ length: Int) -> Range<Int>? {
    var best: Int?
    for (i, range) in free.enumerated() where range.count >= length {
      if range.count < best.map({ free[$0].count }) ?? .max { best = i }
    }
    guard let best else { return nil }
    let range = free[best]
    if range.count - length < Self.shortest {
      free.remove(at: best)
      return range
    }
    let block = range.lowerBound..<range.lowerBound + length
    free[best] = block.upperBound..<range.upperBound
    return block
  }
  /// A block that begins in the free end of what is used of a region and goes on behind it.
  private mutating func extend(_ length: Int) -> Range<Int>? {
    for (i, region) in regions.enumerated() {
      let last = free.firstIndex { $0.upperBound == region.end }
      let start = last.map { free[$0].lowerBound } ?? region.end
      if start + length > region.addresses.upperBound { continue }
      if let last { free.remove(at: last) }
      used += start + length - region.end
      regions[i].used = start + length - region.addresses.lowerBound
      taken += length
      return start..<start + length
    }
    return nil
  }

  /// Gives a block back. Returns the free range of which it is now a part.
  @discardableResult
  mutating func give(_ block: Range<Int>) -> Range<Int> {
    taken -= block.count
    var (low, high) = (0, free.count)
    while low < high {
      let middle = (low + high) / 2
      if free[middle].lowerBound < block.lowerBound { low = middle + 1 } else { high = middle }
    }
    let follows = low > 0 && free[low - 1].upperBound == block.lowerBound
    let precedes = low < free.count && free[low].lowerBound == block.upperBound
    let start = follows ? free[low - 1].lowerBound : block.lowerBound
    let end = precedes ? free[low].upperBound : block.upperBound
    free.replaceSubrange(
      (follows ? low - 1 : low)..<(precedes ? low + 1 : low), with: CollectionOfOne(start..<end))
    return start..<end
  }
}
