public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// Rows divided by their norm: ŷ = y / max(‖y‖, 1e-12) (algorithm.md 5.1, 13.10). y `[..., D]`.
public enum L2Normalize {
  public struct Saved: Sendable { let y: Tensor, rstd: Tensor }

  /// An RMS norm whose ε is far below any real row gives the unit row times √D.
  public static func forward(_ x: Tensor, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let d = Double(x.shape.last)
    let (n, rstd) = work.rmsNorm(x, scale: nil, epsilon: 1e-24 / d)
    return (work.scaled(n, by: 1 / d.squareRoot()), Saved(y: x, rstd: rstd))
  }
  public static func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    var none: Tensor?
    return work.rmsNormBackward(
      work.scaled(dy, by: 1 / Double(dy.shape.last).squareRoot()), x: s.y, scale: nil, rstd: s.rstd,
      addingTo: &none)
  }
}

/// p = softmax(ℓ)[1] of two logits in each row (algorithm.md 2.4, 13.11).
public enum MatchProbability {
  public static func forward(_ logits: Tensor) -> [Double] {
    let l = logits.doubles
    return stride(from: 0, to: l.count, by: 2).map { 1 / (1 + exp(l[$0] - l[$0 + 1])) }
  }
  /// ℓ̄ = p̄ p (1 - p) (-1, 1).
  public static func backward(_ dp: [Double], _ p: [Double], type: ElementType) -> Tensor {
    let slopes = zip(dp, p).map { dp, p in dp * p * (1 - p) }
    return Tensor(slopes.flatMap { [-$0, $0] }, Shape(p.count, 2), as: type)
  }
}
