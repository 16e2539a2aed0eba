import Testing

@testable import TensorRuntime

/// Weights in the types that they are stored in.
@Suite(.serialized) struct StoredWeightTests {
  private static func stored(_ x: Tensor, as type: ElementType, _ work: borrowing Workspace)
    -> Tensor
  { type == .i8 ? work.quantized(x) : work.converted(x, to: type) }

  /// A product packs a stored weight as it packs the widened one, for any number of rows.
  @Test(arguments: [ElementType.bf16, .f16, .i8], [(70, 90), (320, 800), (33, 1541)])
  func productsPackWhatIsStored(type: ElementType, size: (out: Int, input: Int)) {
    for isa in KernelVariant.present {
      isa.use {
        let work = Workspace()
        let weight = Self.stored(Inputs.numbers(Shape(size.out, size.input), 2), as: type, work)
        let wide = work.widened(weight)
        let again = Workspace()
        for rows in [1, 5, 40, 600] {
          let x = Inputs.numbers(Shape(rows, size.input), 1)
          let dy = Inputs.numbers(Shape(rows, size.out), 3)
          // The frozen f32 weight has kept panels.
          let expected = again.matmul(x, keeping: work.permuted(wide, [1, 0])).floats
          #expect(work.linear(x, weight: weight, bias: nil).floats == expected)
          #expect(work.linear(x, weight: weight, bias: nil, frozen: true).floats == expected)
          let back = again.matmul(dy, keeping: wide).floats
          #expect(work.linearBackwardInput(dy, weight: weight).floats == back)
        }
        let dy = Inputs.numbers(Shape(9, size.out), 3)
        let part = work.linearBackwardInput(dy, weight: weight, columns: 16..<size.input)
        let whole = work.linearBackwardInput(dy, weight: weight)
        #expect(part.floats == work.narrowed(whole, axis: 1, 16..<size.input).floats)
      }
    }
  }

  /// A row of a product has the same bits among any number of rows.
  @Test func rowsDoNotDependOnTheirNumber() {
    let work = Workspace()
    let weight = work.converted(Inputs.numbers(Shape(288, 700), 2), to: .bf16)
    let x = Inputs.numbers(Shape(520, 700), 1)
    let all = work.linear(x, weight: weight, bias: nil)
    for rows in [1, 4, 7, 48, 49, 500] {
      #expect(
        work.linear(x.slice(0..<rows), weight: weight, bias: nil).floats
          == all.slice(0..<rows).floats)
    }
  }

  /// Without room for panels, a product makes them anew: the bits are the same, and nothing is
  /// held.
  @Test func panelsStayWithinTheirBudget() throws {
    let x = Inputs.numbers(Shape(20, 256), 1)
    let weights = (0..<3).map { Inputs.numbers(Shape(64, 256), 2 + $0) }
    let free = Workspace()
    let budget = PanelBudget(bytes: 2 * 64 * 256 * 4)
    let tight = Workspace(pool: BufferPool(panelBudget: budget))
    let plan = try #require(
      MemoryPlan(tight.pool) { work in
        for w in weights { _ = work.linear(x, weight: w, bias: nil, frozen: true) }
      })
    #expect(plan.panelBytes == 2 * 64 * 256 * 4)
    do {
      let copies = weights.map { Tensor($0.floats, $0.shape) }
      for (w, copy) in zip(weights, copies) {
        #expect(
          tight.linear(x, weight: copy, bias: nil, frozen: true).floats
            == free.linear(x, weight: w, bias: nil, frozen: true).floats)
      }
      #expect(!budget.has(1))
    }
    // The weights are gone, and so are their panels.
    #expect(budget.has(2 * 64 * 256 * 4))
  }

  /// At most half a unit from the number, whole rows of zeros and of tiny numbers included.
  @Test func quantizationIsNearest() throws {
    let work = Workspace()
    var numbers = Inputs.numbers(Shape(6, 50), 1).floats
    for i in 0..<50 { (numbers[i], numbers[50 + i]) = (0, numbers[50 + i] * 1e-40) }
    numbers[120] = -30
    let x = Tensor(numbers, Shape(6, 50))
    let q = work.quantized(x)
    let scales = try #require(q.scales).floats
    let back = work.widened(q).floats
    for row in 0..<6 {
      let values = numbers[row * 50..<(row + 1) * 50]
      #expect(
        abs(scales[row] * 127 - values.map { abs($0) }.max()!) <= 127 * Float.leastNonzeroMagnitude)
      for i in row * 50..<(row + 1) * 50 {
        #expect(abs(back[i] - numbers[i]) <= scales[row] * 0.5001 + .leastNonzeroMagnitude * 64)
      }
    }
    #expect(back[120] == -30)
    #expect(work.widened(q.slice(2..<4)).floats == Array(back[100..<200]))
    #expect(q.floats == back)
    #expect(
      work.converted(q, to: .bf16).floats == work.converted(work.widened(q), to: .bf16).floats)
    // Rows of tables in storage types.
    let ids: [Int32] = [5, 0, 2, 2]
    for table in [q, work.converted(x, to: .bf16), work.converted(x, to: .f16)] {
      #expect(
        work.gather(table, ids).floats == work.gather(work.widened(table), ids).floats)
    }
  }

  /// All numbers of f16, and of bf16.
  @Test func wideningIsExact() {
    let work = Workspace()
    let codes = (0..<65536).map { UInt16($0) }
    var half = work.tensor(Shape(256, 256), .f16)
    half.withMutableSpan(of: UInt16.self) { span in for i in 0..<65536 { span[i] = codes[i] } }
    var brain = work.tensor(Shape(256, 256), .bf16)
    brain.withMutableSpan(of: UInt16.self) { span in for i in 0..<65536 { span[i] = codes[i] } }
    for isa in KernelVariant.present {
      isa.use {
        let w = Workspace()
        #expect(
          zip(w.widened(half).floats, codes).allSatisfy { x, code in
            let expected = Float(Float16(bitPattern: code))
            return x == expected && x.sign == expected.sign || x.isNaN && expected.isNaN
          })
        #expect(
          zip(w.widened(brain).floats, codes).allSatisfy { x, code in
            x.bitPattern == UInt32(code) << 16 || x.isNaN
          })
      }
    }
  }

  /// Of any shape: kernels of convolutions, single numbers, nothing at all.
  @Test func wideningOfOtherShapes() {
    let work = Workspace()
    for shape in [Shape(70, 50, 3, 3, 3), Shape(5), Shape(), Shape(0, 4), Shape(4, 0)] {
      for type in [ElementType.bf16, .f16] {
        let x = work.converted(Inputs.numbers(shape, 1), to: type)
        #expect(work.widened(x).floats == x.floats && work.widened(x).shape == shape)
        #expect(x.floats == work.converted(x, to: .f32).floats)
      }
    }
  }

  /// Memory that is given back is taken again when it is written.
  @Test func unusedBlocksGoBack() {
    for index in 24..<140 {
      let bytes = BufferPool.capacity(index)
      #expect(BufferPool.sizeClass(bytes) == (index, bytes))
    }
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let kept = work.full(Shape(1 << 20), 3)
    do { _ = work.full(Shape(1 << 20), 7) }
    pool.releaseUnused()
    let again = work.full(Shape(1 << 20), 5)
    #expect(again.floats.allSatisfy { $0 == 5 } && kept.floats.allSatisfy { $0 == 3 })
    #expect(pool.statistics.allocations == 2)
  }
}
