/// Two arenas. Blocks that outlast those around them have one of their own: between short-lived
/// ones they would leave holes too short for large results. Any block may lie in a hole of theirs.
struct Arenas {
  private var brief = Arena(), lasting = Arena()

  mutating func add(_ addresses: Range<Int>, lasting lasts: Bool) {
    if lasts { lasting.add(addresses) } else { brief.add(addresses) }
  }
  mutating func take(_ length: Int, lasting lasts: Bool) -> Range<Int>? {
    if lasts { return lasting.take(length) }
    return brief.takeFree(length) ?? lasting.takeFree(length) ?? brief.take(length)
  }
  @discardableResult
  mutating func give(_ block: Range<Int>) -> Range<Int> {
    let lasts = lasting.regions.contains { $0.addresses.contains(block.lowerBound) }
    return lasts ? lasting.give(block) : brief.give(block)
  }
  var used: Int { brief.used + lasting.used }
  var taken: Int { brief.taken + lasting.taken }
  var free: [Range<Int>] { brief.free + lasting.free }
  var regions: [Arena.Region] { brief.regions + lasting.regions }
}
