public import TensorRuntime

/// Converts pixels `[B, T, 3, H, W]` in [0, 1] to the autoencoder's `[B, 3, T, H, W]` in [-1, 1],
/// and back (clamped).
public enum PixelRange {
  public static func centered(_ clips: Tensor, in work: borrowing Workspace) -> Tensor {
    work.affineClamp(work.permuted(clips, [0, 2, 1, 3, 4]), alpha: 2, beta: -1, to: -1...1)
  }
  public static func unit(_ video: Tensor, in work: borrowing Workspace) -> Tensor {
    work.permuted(work.affineClamp(video, alpha: 0.5, beta: 0.5, to: 0...1), [0, 2, 1, 3, 4])
  }
}
