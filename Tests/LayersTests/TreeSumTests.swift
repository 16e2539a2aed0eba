import Layers
import TensorRuntime
import TestSupport
import Testing

@Suite struct TreeSumTests {
  func leaf(_ i: Int) -> [Tensor] {
    [
      randomTensor(Shape(7), seed: UInt64(i), type: .f32),
      randomTensor(Shape(3), seed: 99, type: .f32),
    ]
  }
  /// left + right, where the left part is the largest power of two below the number of leaves.
  func tree(_ range: Range<Int>) -> [[Float]] {
    if range.count == 1 { return leaf(range.lowerBound).map(\.floats) }
    var left = 1
    while 2 * left < range.count { left *= 2 }
    let middle = range.lowerBound + left
    return zip(tree(range.lowerBound..<middle), tree(middle..<range.upperBound)).map {
      zip($0, $1).map { $0 + $1 }
    }
  }

  @Test(arguments: 1...17) func addsAlongTheTree(_ leaves: Int) {
    let work = Workspace()
    var sum = TreeSum()
    for i in 0..<leaves {
      sum.push(leaf: i, leaf(i), in: work)
      #expect(sum.parts.count <= Int.bitWidth - (i + 1).leadingZeroBitCount)
    }
    #expect(sum.finish(in: work).map(\.floats) == tree(0..<leaves))
  }
  /// Parts made by ranks give the bits of one process, for any number of ranks.
  @Test(arguments: 1...13) func partsGiveTheSameBits(_ leaves: Int) {
    let work = Workspace()
    for ranks in 1...leaves {
      var sum = TreeSum()
      for rank in 0..<ranks {
        let mine = rank * leaves / ranks..<(rank + 1) * leaves / ranks
        var own = TreeSum()
        for i in mine { own.push(leaf: i, leaf(i), in: work) }
        #expect(own.parts.map { $0.first..<$0.first + $0.leaves } == TreeSum.parts(of: mine))
        for part in own.take().parts { sum.push(part, in: work) }
      }
      #expect(sum.finish(in: work).map(\.floats) == tree(0..<leaves))
    }
  }
}

@Suite struct GrainsTests {
  let grains = Grains(of: [5, Grains.size, 1, 2 * Grains.size + 3])

  @Test func grainsTileTheParameters() {
    #expect(grains.count == 6)
    #expect(grains.elementCount == 3 * Grains.size + 9)
    #expect((0..<6).map { grains.parameter(ofGrain: $0) } == [0, 1, 2, 3, 3, 3])
    #expect(
      (0...6).map { grains.start(ofGrain: $0) } == [
        0, 5, 5 + Grains.size, 6 + Grains.size, 6 + 2 * Grains.size, 6 + 3 * Grains.size,
        9 + 3 * Grains.size,
      ])
  }
  @Test(arguments: 1...9) func sharesTileTheGrains(_ ranks: Int) {
    var next = 0
    var counts = [0, 0, 0, 0]
    for rank in 0..<ranks {
      let share = grains.share(rank, of: ranks)
      #expect(share.lowerBound == next)
      next = share.upperBound
      for (i, range) in grains.pieces(grains.elements(share)) {
        #expect(range.lowerBound == counts[i] && range.lowerBound % Grains.size == 0)
        counts[i] = range.upperBound
      }
    }
    #expect(next == grains.count && counts == [5, Grains.size, 1, 2 * Grains.size + 3])
  }
  /// The update of shards has the bits of the update of whole parameters, with each kind of
  /// moments.
  @Test(arguments: AdamW.Moments.allCases) func shardsAreUpdatedAlike(_ moments: AdamW.Moments) {
    let work = Workspace()
    let n = 2 * Grains.size + 77
    var whole = Parameter("w", randomTensor(Shape(n), seed: 1, type: .f32))
    whole.makeTrainable(in: work)
    struct One: Layer {
      var p: Parameter
      mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
        try body(&p)
      }
    }
    var model = One(p: whole)
    var optimizer = AdamW(.init(weightDecay: 0.1, moments: moments), for: model, in: work)
    let ranges = [0..<Grains.size, Grains.size..<n]
    var shards = ranges.map {
      AdamW(.init(weightDecay: 0.1, moments: moments), for: model, owned: [$0], in: work)
    }
    var values = ranges.map { [work.copy(model.p.value.flat($0))] }
    var average: MovingAverage? = MovingAverage(decay: 0.9, of: model, in: work)
    var averages: [MovingAverage?] = ranges.map {
      MovingAverage(decay: 0.9, of: model, owned: [$0], in: work)
    }
    for step in 0..<3 {
      let g = randomTensor(Shape(n), seed: 10 + UInt64(step), type: .f32)
      model.p.gradient = g
      optimizer.step(
        &model, learningRate: 0.01, gradientScale: 0.5, averaging: &average, decay: 0.8, in: work)
      for (i, range) in ranges.enumerated() {
        shards[i].step(
          &values[i], [g.flat(range)], owned: [range], learningRate: 0.01, gradientScale: 0.5,
          averaging: &averages[i], decay: 0.8, in: work)
      }
    }
    #expect(values.flatMap { $0[0].floats } == model.p.value.floats)
    #expect(shards.flatMap { $0.second[0].floats } == optimizer.second[0].floats)
    #expect(averages.flatMap { $0!.values[0].value.floats } == average!.values[0].value.floats)
  }
}
