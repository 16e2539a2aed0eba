public import TensorRuntime

/// R_quality = ⟨v̂, ẑ⟩ of unit rows, a value per pair (algorithm.md 5.1; PISCES eq. 4). ẑ is a
/// constant of the caption.
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
  /// Gradient of the unit video rows: w ẑ.
  public static func backward(_ weights: [Double], target: Tensor, in work: borrowing Workspace)
    -> Tensor
  {
    work.mixEach(weights, target, weights.map { _ in 0 }, target)
  }
}
