public import TensorRuntime

/// Clips as images, for networks that see single frames.
public enum ClipFrames {
  /// `[B, C, T, H, W]` to `[B T, C, H, W]`.
  public static func images(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    let s = x.shape
    return work.permuted(x, [0, 2, 1, 3, 4]).reshaped(Shape(s[0] * s[2], s[1], s[3], s[4]))
  }
  /// Back: images `[B T, C, H, W]` to `[B, C, T, H, W]`, B and T those of `clip`.
  public static func clip(_ y: Tensor, of clip: Shape, in work: borrowing Workspace) -> Tensor {
    let s = y.shape
    return work.permuted(y.reshaped(Shape(clip[0], clip[2], s[1], s[2], s[3])), [0, 2, 1, 3, 4])
  }
}
