public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// Position tables of the video encoder: the sine-cosine code of fresh models and the interpolation
/// of trained tables (algorithm.md 1.5). A table is `[1, 1 + frames · side², D]`, row 0 for CLS.
public enum PositionTable {
  /// Channels [0, D/4) encode the frame; of the rest the first half encodes the column, the second
  /// the row. CLS row 0.
  public static func sineCosine(width d: Int, frames: Int, side: Int) -> Tensor {
    func code(_ position: Int, _ e: Int) -> [Double] {
      let omega = (0..<e / 2).map { pow(10000, -Double($0) / Double(e / 2)) }
      // With an odd width, which no published size has, the last channel is zero.
      return omega.map { sin(Double(position) * $0) } + omega.map { cos(Double(position) * $0) }
        + Array(repeating: 0, count: e % 2)
    }
    let time = d / 4
    let space = (d - time) / 2
    var values = Array(repeating: Float(0), count: d)
    for f in 0..<frames {
      for row in 0..<side {
        for column in 0..<side {
          values += (code(f, time) + code(column, space) + code(row, d - time - space)).map {
            Float($0)
          }
        }
      }
    }
    return Tensor(values, Shape(1, 1 + frames * side * side, d))
  }

  /// Weights `[out, in]` of a linear map along time: no corner alignment.
  static func timeWeights(from n: Int, to m: Int) -> [Double] {
    var w = Array(repeating: 0.0, count: m * n)
    for t in 0..<m {
      let s = max(Double(n) / Double(m) * (Double(t) + 0.5) - 0.5, 0)
      let i = min(Int(s), n - 1)
      let j = min(i + 1, n - 1)
      w[t * n + i] += 1 - (s - Double(i))
      w[t * n + j] += s - Double(i)
    }
    return w
  }
  /// Weights `[out², in²]` of a bicubic map over a square grid: a = -3/4, no antialiasing, edges
  /// clamped.
  static func spaceWeights(from n: Int, to m: Int) -> [Double] {
    func kernel(_ t: Double) -> Double {
      let a = -0.75
      let x = abs(t)
      if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
      if x < 2 { return a * (((x - 5) * x + 8) * x - 4) }
      return 0
    }
    var axis = Array(repeating: 0.0, count: m * n)
    for i in 0..<m {
      let c = Double(n) / Double(m) * (Double(i) + 0.5) - 0.5
      let base = Int(c.rounded(.down))
      for k in -1...2 { axis[i * n + min(max(base + k, 0), n - 1)] += kernel(c - Double(base + k)) }
    }
    var w = Array(repeating: 0.0, count: m * m * n * n)
    for r in 0..<m {
      for c in 0..<m {
        for y in 0..<n {
          for x in 0..<n { w[(r * m + c) * n * n + y * n + x] = axis[r * n + y] * axis[c * n + x] }
        }
      }
    }
    return w
  }

  /// The linear map from one table to another size, as matrices for rows 1...; nil if the size does
  /// not change.
  struct Interpolation {
    let time: Tensor?, space: Tensor?
    let from: (frames: Int, side: Int), to: (frames: Int, side: Int)

    init(from: (frames: Int, side: Int), to: (frames: Int, side: Int), type: ElementType) {
      func matrix(_ w: [Double], _ rows: Int) -> Tensor {
        let shape = Shape(rows, w.count / rows)
        return Tensor(w, shape, as: type)
      }
      time =
        from.frames == to.frames
        ? nil : matrix(PositionTable.timeWeights(from: from.frames, to: to.frames), to.frames)
      space =
        from.side == to.side
        ? nil : matrix(PositionTable.spaceWeights(from: from.side, to: to.side), to.side * to.side)
      (self.from, self.to) = (from, to)
    }
    /// Table rows 1... `[frames · side², D]` of the source to those of the target (or back,
    /// transposed).
    func apply(_ rows: Tensor, transposed: Bool, in work: borrowing Workspace) -> Tensor {
      let d = rows.shape.last
      let frames = transposed ? to.frames : from.frames
      var x = rows
      func inTime() {
        guard let time else { return }
        x = work.matmul(time, x.reshaped(Shape(frames, x.count / frames)), transposeA: transposed)
        x = x.reshaped(Shape(x.count / d, d))
      }
      func inSpace() {
        guard let space else { return }
        let t = x.count / d / (transposed ? to.side * to.side : from.side * from.side)
        let cells = x.count / d / t
        x = work.stacked(
          (0..<t).map {
            work.matmul(space, x.slice($0 * cells..<($0 + 1) * cells), transposeA: transposed)
          })
        x = x.reshaped(Shape(x.count / d, d))
      }
      if transposed {
        inTime()
        inSpace()
      } else {
        inSpace()
        inTime()
      }
      return x
    }
  }

  /// A table for another number of frames or another grid.
  public static func interpolated(
    _ table: Tensor, fromSide: Int, toFrames: Int, toSide: Int, in work: borrowing Workspace
  ) -> Tensor {
    let d = table.shape.last
    let rows = table.reshaped(Shape(table.count / d, d))
    let n = rows.shape[0] - 1
    let map = Interpolation(
      from: (n / (fromSide * fromSide), fromSide), to: (toFrames, toSide), type: table.type)
    let body = map.apply(work.narrowed(rows, axis: 0, 1..<n + 1), transposed: false, in: work)
    return work.concatenated([rows.slice(0..<1), body], axis: 0).reshaped(
      Shape(1, body.shape[0] + 1, d))
  }
  /// The gradient of the source table, given that of the interpolated one.
  public static func interpolatedBackward(
    _ dTable: Tensor, source: Shape, fromSide: Int, toFrames: Int, toSide: Int,
    in work: borrowing Workspace
  ) -> Tensor {
    let d = source.last
    let rows = dTable.reshaped(Shape(dTable.count / d, d))
    let n = source[1] - 1
    let map = Interpolation(
      from: (n / (fromSide * fromSide), fromSide), to: (toFrames, toSide), type: dTable.type)
    let body = map.apply(
      work.narrowed(rows, axis: 0, 1..<rows.shape[0]), transposed: true, in: work)
    return work.concatenated([rows.slice(0..<1), body], axis: 0).reshaped(source)
  }
}
