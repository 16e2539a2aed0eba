import TensorRuntime
import TestSupport
import Testing

/// Attention and its gradients. Probabilities are rounded to 2^-9 where operands are bf16.
@Suite(.serialized) struct AttentionTests {
  @Test(arguments: [
    [2, 3, 70, 70, 8], [1, 5, 33, 250, 88], [2, 2, 300, 97, 64], [1, 1, 1, 1, 3],
    [3, 1, 140, 193, 40], [1, 2, 20, 31, 130],
  ])
  func attention(sizes: [Int]) {
    let (batch, queries, keys) = (sizes[0], sizes[2], sizes[3])
    check(sizes, Workspace.Visibility())
    if queries == keys { check(sizes, Workspace.Visibility(causalBlock: 25)) }
    check(sizes, Workspace.Visibility(causalBlock: 25, queryBlock: 10))
    check(
      sizes,
      Workspace.Visibility(keyCounts: (0..<batch).map { Int32(max(1, keys - 2 * $0)) }))
  }

  /// sizes: batch, heads, queries, keys, channels of a head.
  private func check(_ sizes: [Int], _ visible: Workspace.Visibility) {
    let (batch, heads, queries, keys, dimension) = (
      sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    )
    let width = heads * dimension
    let q = Inputs.numbers(Shape(batch, queries, width), 1)
    let k = Inputs.numbers(Shape(batch, keys, width), 2)
    let v = Inputs.numbers(Shape(batch, keys, width), 3)
    let dO = Inputs.numbers(Shape(batch, queries, width), 4)
    let scale = 1 / Double(dimension).squareRoot()
    // With one key its probability is 1, and the gradients of q and k are differences of equal
    // numbers.
    compare(
      "attention \(sizes) \(visible)", [q, k, v, dO], tolerance: Tolerance(1e-5, bf16: 1.0 / 64)
    ) { t in
      let (o, lse) = Reference.attention(
        q: t[0], k: t[1], v: t[2], heads: heads, scale: scale, visible: visible)
      let d = Reference.attentionBackward(
        t[3], q: t[0], k: t[1], v: t[2], heads: heads, scale: scale, visible: visible)
      return keys == 1 ? [o, lse, d.dv] : [o, lse, d.dq, d.dk, d.dv]
    } _: { t, w in
      let (o, lse) = w.attention(
        q: t[0], k: t[1], v: t[2], heads: heads, scale: scale, visible: visible)
      let d = w.attentionBackward(
        t[3], q: t[0], k: t[1], v: t[2], o: o, lse: lse, heads: heads, scale: scale,
        visible: visible)
      return keys == 1 ? [o, lse, d.dv] : [o, lse, d.dq, d.dk, d.dv]
    }
  }

  /// Heads apart have the bits that they have together, in both directions (`RowShare`).
  @Test(arguments: [[2, 5, 70, 16], [1, 8, 130, 40], [1, 6, 300, 128]])
  func headsApart(sizes: [Int]) {
    let (batch, heads, rows, dimension) = (sizes[0], sizes[1], sizes[2], sizes[3])
    let inputs = (0..<4).map { i in
      RandomStream(seed: UInt64(i), .test)
        .normal(Shape(batch, rows, heads * dimension), in: Workspace())
    }
    let visible = Workspace.Visibility(keyCounts: (0..<batch).map { Int32(rows - 3 * $0) })
    func results(_ t: [Tensor], _ heads: Int, in work: borrowing Workspace) -> [Tensor] {
      let scale = 1 / Double(dimension).squareRoot()
      let (o, lse) = work.attention(
        q: t[0], k: t[1], v: t[2], heads: heads, scale: scale, visible: visible)
      let d = work.attentionBackward(
        t[3], q: t[0], k: t[1], v: t[2], o: o, lse: lse, heads: heads, scale: scale,
        visible: visible)
      return [o, d.dq, d.dk, d.dv]
    }
    for variant in KernelVariant.present {
      variant.use {
        let work = Workspace()
        let t = variant == .f64 ? inputs.map { work.converted($0, to: .f64) } : inputs
        let together = results(t, heads, in: work)
        for parts in [2, 3, heads] {
          let apart = (0..<parts).map { part in
            let heads = part * heads / parts..<(part + 1) * heads / parts
            let columns = heads.lowerBound * dimension..<heads.upperBound * dimension
            return results(
              t.map { work.narrowed($0, axis: 2, columns) }, heads.count, in: work)
          }
          for (i, x) in together.enumerated() {
            #expect(
              work.concatenated(apart.map { $0[i] }, axis: 2).hasSameBits(as: x),
              "result \(i) of \(sizes) in \(parts) parts on \(variant)")
          }
        }
      }
    }
  }
}
