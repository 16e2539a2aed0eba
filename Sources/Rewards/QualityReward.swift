public import TensorRuntime

/// R_quality = ⟨v̂, ẑ⟩ of unit rows `[B, E]`, one value for each pair (algorithm.md 5.1; PISCES eq.
/// 4). ẑ depends on the caption alone and is constant.
public enum QualityReward {
  public static func forward(_ video: Tensor, _ target: Tensor, in work: borrowing Workspace)
    -> [Double]
  {
    precondition(
      video.shape == target.shape, "video features \(video.shape), text features \(target.shape)")
    return (0..<video.shape[0]).map {
      work.dot(video.slice($0..<$0 + 1), target.slice($0..<$0 + 1))
    }
  }
  /// Gradient with respect to the unit video rows: w ẑ.
  public static func backward(_ weights: [Double], target: Tensor, in work: borrowing Workspace)
    -> Tensor
  {
    work.mixEach(weights, target, weights.map { _ in 0 }, target)
  }
}
