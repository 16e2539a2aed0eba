import TensorRuntime
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
}
