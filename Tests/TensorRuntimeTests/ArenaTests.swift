import TestSupport
import Testing

@testable import TensorRuntime

@Suite struct ArenaTests {
  /// After any sequence of requests, blocks do not overlap, none is lost, and what is free is
  /// merged; when all are given back, one block can have everything again.
  @Test(arguments: 1...4) func blocksAndFreeRanges(seed: Int) {
    var arena = Arena()
    arena.add(0..<1 << 22)
    arena.add(1 << 30..<1 << 30 + 1 << 26)
    var state = UInt64(seed)
    func random(_ n: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % n
    }
    var blocks: [Range<Int>] = []
    for _ in 0..<2000 {
      if blocks.isEmpty || random(5) > 1 {
        let length = (1 << 16) + random(1 << 18) / 64 * 64
        guard let block = arena.take(length) else {
          #expect(arena.free.allSatisfy { $0.count < length })
          for _ in 0..<(blocks.count + 1) / 2 { arena.give(blocks.removeFirst()) }
          continue
        }
        #expect(block.count >= length && block.count < length + Arena.shortest)
        blocks.append(block)
      } else {
        arena.give(blocks.remove(at: random(blocks.count)))
      }
      let all = (blocks + arena.free).sorted { $0.lowerBound < $1.lowerBound }
      #expect(zip(all, all.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
      #expect(all.reduce(0) { $0 + $1.count } == arena.used)
      #expect(blocks.reduce(0) { $0 + $1.count } == arena.taken)
      #expect(zip(arena.free, arena.free.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound })
    }
    blocks.forEach { arena.give($0) }
    #expect(arena.free.count == arena.regions.filter { $0.used > 0 }.count)
    #expect(arena.free.reduce(0) { $0 + $1.count } == arena.used && arena.taken == 0)
  }
  /// The shortest free range that is long enough serves, and growth begins in the free end.
  @Test func bestFit() {
    var arena = Arena()
    #expect(arena.take(1 << 20) == nil)
    arena.add(0..<1 << 26)
    let blocks = [5, 1, 3, 1, 2, 1, 4].map { arena.take($0 << 20)! }
    for i in [0, 2, 4, 6] { arena.give(blocks[i]) }
    #expect(arena.take(2 << 20)! == blocks[4])
    #expect(arena.take(3 << 20)!.lowerBound == blocks[2].lowerBound)
    #expect(arena.take(6 << 20)!.lowerBound == blocks[6].lowerBound)
    #expect(arena.used == 19 << 20)
  }
  /// Lasting blocks lie one behind the other however long those between them live; others use the
  /// holes among them.
  @Test func lastingBlocks() {
    var arenas = Arenas()
    arenas.add(0..<1 << 26, lasting: false)
    #expect(arenas.take(1 << 20, lasting: true) == nil)
    arenas.add(1 << 30..<1 << 30 + 1 << 26, lasting: true)
    var lasting: [Range<Int>] = []
    for _ in 0..<8 {
      let brief = [3, 2].map { arenas.take($0 << 20, lasting: false)! }
      lasting.append(arenas.take(1 << 20, lasting: true)!)
      brief.forEach { arenas.give($0) }
    }
    #expect(zip(lasting, lasting.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound })
    #expect(arenas.used == 13 << 20 && arenas.taken == 8 << 20)
    lasting[2...7].forEach { arenas.give($0) }
    #expect(arenas.take(6 << 20, lasting: false)!.lowerBound == lasting[2].lowerBound)
    #expect(arenas.used == 13 << 20 && arenas.free == [0..<5 << 20])
  }
}
