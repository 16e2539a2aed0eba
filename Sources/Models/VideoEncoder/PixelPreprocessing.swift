public import TensorRuntime

/// Antialiased bicubic resampling of one axis as a matrix (algorithm.md 1.3): Keys' cubic with a =
/// -1/2, support widened when shrinking, weights renormalised at the borders, no clamping. Equal
/// lengths give the identity.
public enum BicubicResampling {
  /// Row-major weights `[output, input]`.
  public static func weights(from n: Int, to m: Int) -> [Double] {
    func kernel(_ t: Double) -> Double {
      let a = -0.5
      let x = abs(t)
      if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
      if x < 2 { return a * (((x - 5) * x + 8) * x - 4) }
      return 0
    }
    let scale = Double(n) / Double(m)
    let inverse = scale >= 1 ? 1 / scale : 1
    let support = 2 * max(scale, 1)
    var w = Array(repeating: 0.0, count: m * n)
    for i in 0..<m {
      let center = scale * (Double(i) + 0.5)
      let lo = max(Int(center - support + 0.5), 0)
      let hi = min(Int(center + support + 0.5), n)
      var total = 0.0
      for j in lo..<hi {
        w[i * n + j] = kernel((Double(j) - center + 0.5) * inverse)
        total += w[i * n + j]
      }
      for j in lo..<hi { w[i * n + j] /= total }
    }
    return w
  }

  /// Images `[N, h, w]` (any leading count of planes) to `[N, H, W]`: W_v X W_hᵀ.
  public static func resize(_ x: Tensor, height: Int, width: Int, in work: borrowing Workspace)
    -> Tensor
  {
    let (n, h, w) = (x.shape[0], x.shape[1], x.shape[2])
    let wide =
      w == width
      ? x
      : work.matmul(x.reshaped(Shape(n * h, w)), matrix(w, width, x.type), transposeB: true)
        .reshaped(Shape(n, h, width))
    return h == height ? wide : apply(matrix(h, height, x.type), wide, transposed: false, in: work)
  }
  public static func resizeBackward(
    _ dy: Tensor, height: Int, width: Int, in work: borrowing Workspace
  ) -> Tensor {
    let (n, h, w) = (dy.shape[0], dy.shape[1], dy.shape[2])
    let tall = h == height ? dy : apply(matrix(height, h, dy.type), dy, transposed: true, in: work)
    return w == width
      ? tall
      : work.matmul(tall.reshaped(Shape(n * height, w)), matrix(width, w, dy.type)).reshaped(
        Shape(n, height, width))
  }
  private static func matrix(_ n: Int, _ m: Int, _ type: ElementType) -> Tensor {
    let w = weights(from: n, to: m)
    return Tensor(w, Shape(m, n), as: type)
  }
  private static func apply(
    _ m: Tensor, _ x: Tensor, transposed: Bool, in work: borrowing Workspace
  ) -> Tensor {
    work.batchedMatmul(work.repeated(m, x.shape[0]), x, transposeA: transposed)
  }
}

/// Frames in [0, 1] to the encoder's input (algorithm.md 1.2): shorter side to `size`, crop,
/// normalise per channel.
public struct PixelPreprocessing: Sendable {
  public static let mean = [0.485, 0.456, 0.406], deviation = [0.229, 0.224, 0.225]
  public let size: Int

  /// Top-left corner of the crop in the resized frame: the centre, or given by the caller.
  public enum Crop: Sendable {
    case center
    /// As shares of the rows and columns that are cut off, each in [0, 1).
    case random(row: Double, column: Double)
  }
  public struct Saved: Sendable {
    let height, width, resizedHeight, resizedWidth, row, column: Int, shape: Shape
    /// Shape of the input frames.
    public var input: Shape { shape }
  }

  public init(size: Int) { self.size = size }

  /// Height and width of frames after the shorter side is resized to `size`.
  public static func resized(height h: Int, width w: Int, size: Int) -> (height: Int, width: Int) {
    let s = Double(size) / Double(min(h, w))
    return s == 1
      ? (h, w)
      : (
        Int((Double(h) * s).rounded(.toNearestOrEven)),
        Int((Double(w) * s).rounded(.toNearestOrEven))
      )
  }
  /// Planes `[N, H, W]` to `[N, size, size]`: the shorter side is resized, then the crop starts at
  /// (row, column).
  static func fitted(
    _ x: Tensor, _ r: (height: Int, width: Int), size: Int, row: Int, column: Int,
    in work: borrowing Workspace
  ) -> Tensor {
    let y =
      (r.height, r.width) == (x.shape[1], x.shape[2])
      ? x : BicubicResampling.resize(x, height: r.height, width: r.width, in: work)
    return (r.height, r.width) == (size, size)
      ? y
      : work.narrowed(work.narrowed(y, axis: 1, row..<row + size), axis: 2, column..<column + size)
  }
  /// Frames `[T, 3, H, W]` in [0, 1] to `[T, 3, size, size]`, centre crop, not normalised, clamped
  /// to [0, 1].
  public static func canvas(_ x: Tensor, size: Int, in work: borrowing Workspace) -> Tensor {
    let (t, h, w) = (x.shape[0], x.shape[2], x.shape[3])
    let r = resized(height: h, width: w, size: size)
    let y = fitted(
      x.reshaped(Shape(t * 3, h, w)), r, size: size, row: (r.height - size) / 2,
      column: (r.width - size) / 2, in: work)
    return work.affineClamp(y, alpha: 1, beta: 0, to: 0...1).reshaped(Shape(t, 3, size, size))
  }

  /// x `[B, T, 3, H, W]` to `[B, T, 3, size, size]`, with one crop for all frames and all clips.
  public func forward(_ x: Tensor, crop: Crop = .center, in work: borrowing Workspace) -> (
    y: Tensor, saved: Saved
  ) {
    let (h, w) = (x.shape[3], x.shape[4])
    let r = Self.resized(height: h, width: w, size: size)
    let (rh, rw) = (r.height, r.width)
    let row: Int
    let column: Int
    switch crop {
    case .center: (row, column) = ((rh - size) / 2, (rw - size) / 2)
    case .random(let y, let x):
      (row, column) = (Int(y * Double(rh - size + 1)), Int(x * Double(rw - size + 1)))
    }
    let y = normalised(
      Self.fitted(
        x.reshaped(Shape(x.count / (h * w), h, w)), r, size: size, row: row, column: column,
        in: work), shift: true, in: work)
    return (
      y.reshaped(Shape(x.shape[0], x.shape[1], 3, size, size)),
      Saved(
        height: h, width: w, resizedHeight: rh, resizedWidth: rw, row: row, column: column,
        shape: x.shape)
    )
  }

  /// Gradient of the frames.
  public func backward(_ dy: Tensor, _ s: Saved, in work: borrowing Workspace) -> Tensor {
    let planes = dy.count / (size * size)
    var dx = normalised(dy.reshaped(Shape(planes, size, size)), shift: false, in: work)
    if (s.resizedHeight, s.resizedWidth) != (size, size) {
      var rows = work.zeros(Shape(planes, size, s.resizedWidth), dy.type)
      work.place(dx, into: &rows, axis: 2, at: s.column)
      dx = work.zeros(Shape(planes, s.resizedHeight, s.resizedWidth), dy.type)
      work.place(rows, into: &dx, axis: 1, at: s.row)
    }
    if (s.resizedHeight, s.resizedWidth) != (s.height, s.width) {
      dx = BicubicResampling.resizeBackward(dx, height: s.height, width: s.width, in: work)
    }
    return dx.reshaped(s.shape)
  }

  /// (x - mean) / deviation of planes `[N 3, h, w]`. Without the shift the map is its own
  /// transpose.
  private func normalised(_ x: Tensor, shift: Bool, in work: borrowing Workspace) -> Tensor {
    let pixels = x.shape[1] * x.shape[2]
    let groups = x.shape[0] / 3
    // y = x (1 + scale) + shift with scale = 1/deviation - 1, per channel.
    let scale = Self.deviation.map { 1 / $0 - 1 }
    let offset = zip(Self.mean, Self.deviation).map { shift ? -$0 / $1 : 0 }
    func constants(_ v: [Double]) -> Tensor {
      let column = Tensor(v, Shape(3, 1), as: x.type)
      return work.matmul(column, work.full(Shape(1, pixels), 1, x.type)).reshaped(
        Shape(1, 3 * pixels))
    }
    let y = work.modulate(
      x.reshaped(Shape(1, groups, 3 * pixels)), scale: Workspace.Chunk(constants(scale), 0, of: 1),
      shift: Workspace.Chunk(constants(offset), 0, of: 1))
    return y.reshaped(x.shape)
  }
}
