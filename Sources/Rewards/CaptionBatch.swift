public import Models
public import TensorRuntime

/// What the rewards need of captions, computed once: token ids, the states at which the fusion
/// layers start, and the feature that the quality reward compares.
public struct CaptionBatch: Sendable {
  public let tokens: TokenBatch
  /// Text states `[B, L, D]` (the output of the text layers).
  public let hidden: Tensor
  /// Text feature y `[B, E]`, not normalised, and ŷ, its rows divided by their norms.
  public let feature, unit: Tensor
  /// T(ŷ), as unit rows, if there is a map.
  public let mapped: Tensor?

  /// The captions `indices`, in that order. Repeats are allowed.
  public func selecting(_ indices: [Int], in work: borrowing Workspace) -> CaptionBatch {
    let rows = indices.map { Int32($0) }
    let (b, l, d) = (indices.count, tokens.length, hidden.shape[2])
    func pick(_ t: Tensor) -> Tensor { work.gather(t, rows) }
    return CaptionBatch(
      tokens: tokens.selecting(indices),
      hidden: pick(hidden.reshaped(Shape(hidden.shape[0], l * d))).reshaped(Shape(b, l, d)),
      feature: pick(feature), unit: pick(unit),
      mapped: mapped.map { pick($0) })
  }
}

extension CaptionBatch {
  /// Several batches as one, padded to the longest caption.
  public init(joining parts: [CaptionBatch], in work: borrowing Workspace) {
    let length = parts.map(\.tokens.length).max() ?? 1
    let tokens = TokenBatch(joining: parts.map(\.tokens))
    let hidden = parts.map { p -> Tensor in
      if p.tokens.length == length { return p.hidden }
      var wide = work.zeros(Shape(p.hidden.shape[0], length, p.hidden.shape[2]), p.hidden.type)
      work.place(p.hidden, into: &wide, axis: 1, at: 0)
      return wide
    }
    func join(_ t: [Tensor]) -> Tensor { work.concatenated(t, axis: 0) }
    let mapped = parts.compactMap(\.mapped)
    self.init(
      tokens: tokens, hidden: join(hidden), feature: join(parts.map(\.feature)),
      unit: join(parts.map(\.unit)), mapped: mapped.count == parts.count ? join(mapped) : nil)
  }
}
