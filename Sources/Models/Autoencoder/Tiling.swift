import Layers
public import TensorRuntime

/// How a long or large clip is cut into overlapping tiles (algorithm.md 6.16). Group norms see one
/// tile at a time, so values differ from those of a single pass. The two published styles differ in
/// when they cut time.
public struct Tiling: Sendable, Equatable {
  public enum Style: String, Sendable, Codable, CaseIterable { case original, diffusers }
  public let style: Style
  /// Tile extents and strides in samples (frames, rows, columns).
  public var extent: SIMD3<Int> { extents.vector }
  public var stride: SIMD3<Int> { strides.vector }
  private let extents, strides: Extents3
  /// Whether frames and planes are cut.
  public let temporal, spatial: Bool

  init(style: Style, extent: SIMD3<Int>, stride: SIMD3<Int>, temporal: Bool, spatial: Bool) {
    (self.style, extents, strides) = (style, Extents3(extent), Extents3(stride))
    (self.temporal, self.spatial) = (temporal, spatial)
  }

  /// The original's: square tiles of `size` samples, `frames` in time, overlapping by a quarter.
  public static func original(size: Int = 256, frames: Int = 64) -> Tiling {
    Tiling(
      style: .original, extent: SIMD3(frames, size, size),
      stride: SIMD3(frames * 3 / 4, size * 3 / 4, size * 3 / 4), temporal: true, spatial: true)
  }
  /// diffusers': time is always cut, and planes if `spatial`.
  public static func diffusers(
    spatial: Bool = true, extent: SIMD3<Int> = SIMD3(16, 256, 256),
    stride: SIMD3<Int> = SIMD3(12, 192, 192)
  ) -> Tiling {
    Tiling(style: .diffusers, extent: extent, stride: stride, temporal: true, spatial: spatial)
  }

  /// One axis: windows of `window` input elements start every `step` elements. Neighbours are
  /// blended over `blend` output elements, and `keep` output elements of each are kept.
  struct Axis { let window, step, blend, keep, threshold: Int }

  /// `ratio`: samples per latent. Encoding counts inputs in samples, decoding counts them in
  /// latents.
  func space(axis: Int, encoding: Bool, ratio: Int) -> Axis {
    let e = extent[axis]
    let s = stride[axis]
    if style == .original {
      let latent = e / ratio
      let blendLatent = latent / 4
      let blendSample = e / 4
      return encoding
        ? Axis(window: e, step: s, blend: blendLatent, keep: latent - blendLatent, threshold: e)
        : Axis(
          window: latent, step: latent * 3 / 4, blend: blendSample, keep: e - blendSample,
          threshold: latent)
    }
    return encoding
      ? Axis(window: e, step: s, blend: e / ratio - s / ratio, keep: s / ratio, threshold: e)
      : Axis(window: e / ratio, step: s / ratio, blend: e - s, keep: s, threshold: e / ratio)
  }
  /// Time: a window has one element more than its extent, and every tile except the first drops its
  /// first output.
  func time(encoding: Bool, ratio: Int) -> Axis {
    let a = space(axis: 0, encoding: encoding, ratio: ratio)
    return Axis(
      window: a.window + 1, step: a.step, blend: a.blend, keep: a.keep,
      threshold: style == .original ? a.threshold : a.threshold + 1)
  }
}

/// A network that maps `[B, C, T, H, W]` to another such grid in one pass, and can be run on tiles.
protocol TiledNetwork: Layer {
  associatedtype PassSaved: Sendable
  var isEncoding: Bool { get }
  var ratios: (time: Int, space: Int) { get }
  func pass(_ x: Tensor, checkpointing: Bool, in work: borrowing Workspace) -> (
    y: Tensor, saved: PassSaved
  )
  mutating func passBackward(
    _ dy: Tensor, _ s: PassSaved, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor?
}

/// What a tiled pass keeps for backward: a tree of cuts whose leaves are single passes.
public indirect enum TiledSaved<PassSaved: Sendable>: Sendable {
  case pass(PassSaved)
  /// A leaf that is run again in backward, with its input.
  case input(Tensor)
  case temporal([TiledSaved], Cut)
  /// Row-major grid with `columns` tiles a row.
  case spatial([TiledSaved], columns: Int, Cut)

  public struct Cut: Sendable { let input, output: Shape, tiles: [Shape] }
}

extension TiledNetwork {
  func tiled(_ x: Tensor, _ tiling: Tiling?, checkpointing: Bool, in work: borrowing Workspace) -> (
    y: Tensor, saved: TiledSaved<PassSaved>
  ) {
    guard let tiling else {
      let (y, s) = pass(x, checkpointing: checkpointing, in: work)
      return (y, .pass(s))
    }
    let t = tiling.time(encoding: isEncoding, ratio: ratios.time)
    if tiling.temporal && x.shape[2] > t.threshold {
      return temporal(x, tiling, t, checkpointing: checkpointing, in: work)
    }
    return spatial(x, tiling, checkpointing: checkpointing, in: work)
  }

  private func temporal(
    _ x: Tensor, _ tiling: Tiling, _ axis: Tiling.Axis, checkpointing: Bool,
    in work: borrowing Workspace
  ) -> (y: Tensor, saved: TiledSaved<PassSaved>) {
    var tiles: [Tensor] = []
    var saved: [TiledSaved<PassSaved>] = []
    for start in Swift.stride(from: 0, to: x.shape[2], by: axis.step) {
      let part = work.narrowed(x, axis: 2, start..<min(start + axis.window, x.shape[2]))
      var (y, s) = spatial(part, tiling, checkpointing: checkpointing, in: work)
      if start > 0 { y = work.narrowed(y, axis: 2, 1..<y.shape[2]) }
      tiles.append(y)
      saved.append(s)
    }
    for i in tiles.indices.dropFirst() {
      tiles[i] = work.blended(tiles[i - 1], tiles[i], axis: 2, over: axis.blend)
    }
    let total = outputFrames(x.shape[2])
    var kept: [Tensor] = []
    var frames = 0
    for (i, tile) in tiles.enumerated() {
      let n = min(tile.shape[2], i == 0 ? axis.keep + 1 : axis.keep, total - frames)
      kept.append(work.narrowed(tile, axis: 2, 0..<n))
      frames += n
    }
    let y = work.concatenated(kept, axis: 2)
    return (y, .temporal(saved, .init(input: x.shape, output: y.shape, tiles: tiles.map(\.shape))))
  }
  private func outputFrames(_ n: Int) -> Int {
    isEncoding ? (n - 1) / ratios.time + 1 : (n - 1) * ratios.time + 1
  }

  private func spatial(
    _ x: Tensor, _ tiling: Tiling, checkpointing: Bool, in work: borrowing Workspace
  )
    -> (y: Tensor, saved: TiledSaved<PassSaved>)
  {
    let v = tiling.space(axis: 1, encoding: isEncoding, ratio: ratios.space)
    let h = tiling.space(axis: 2, encoding: isEncoding, ratio: ratios.space)
    if !(tiling.spatial && (x.shape[3] > v.threshold || x.shape[4] > h.threshold)) {
      let (y, s) = pass(x, checkpointing: checkpointing, in: work)
      return (y, checkpointing ? .input(x) : .pass(s))
    }
    let rows = Array(Swift.stride(from: 0, to: x.shape[3], by: v.step))
    let columns = Array(Swift.stride(from: 0, to: x.shape[4], by: h.step))
    var tiles: [Tensor] = []
    var saved: [TiledSaved<PassSaved>] = []
    for r in rows {
      let band = work.narrowed(x, axis: 3, r..<min(r + v.window, x.shape[3]))
      for c in columns {
        let part = work.narrowed(band, axis: 4, c..<min(c + h.window, x.shape[4]))
        let (y, s) = pass(part, checkpointing: checkpointing, in: work)
        tiles.append(y)
        saved.append(checkpointing ? .input(part) : .pass(s))
      }
    }
    // In place, in row-major order: the tiles above and to the left have been blended already.
    for i in tiles.indices {
      if i >= columns.count {
        tiles[i] = work.blended(tiles[i - columns.count], tiles[i], axis: 3, over: v.blend)
      }
      if i % columns.count > 0 {
        tiles[i] = work.blended(tiles[i - 1], tiles[i], axis: 4, over: h.blend)
      }
    }
    let size = (
      isEncoding ? x.shape[3] / ratios.space : x.shape[3] * ratios.space,
      isEncoding ? x.shape[4] / ratios.space : x.shape[4] * ratios.space
    )
    var y = work.zeros(
      Shape(x.shape[0], tiles[0].shape[1], tiles[0].shape[2], size.0, size.1), x.type)
    for (i, tile) in tiles.enumerated() {
      let top = i / columns.count * v.keep
      let left = i % columns.count * h.keep
      let part = work.narrowed(
        work.narrowed(tile, axis: 3, 0..<min(tile.shape[3], v.keep, size.0 - top)), axis: 4,
        0..<min(tile.shape[4], h.keep, size.1 - left))
      work.placeBlock(part, into: &y, row: top, column: left)
    }
    return (
      y,
      .spatial(
        saved, columns: columns.count,
        .init(input: x.shape, output: y.shape, tiles: tiles.map(\.shape)))
    )
  }

  /// `tiling` is that of the forward pass.
  mutating func tiledBackward(
    _ dy: Tensor, _ s: TiledSaved<PassSaved>, _ tiling: Tiling?, wantsInput: Bool,
    in work: borrowing Workspace
  ) -> Tensor? {
    switch s {
    case .pass(let saved): return passBackward(dy, saved, wantsInput: wantsInput, in: work)
    case .input(let x):
      return passBackward(
        dy, pass(x, checkpointing: false, in: work).saved, wantsInput: wantsInput, in: work)
    case .temporal(let parts, let cut):
      return temporalBackward(dy, parts, cut, tiling!, wantsInput: wantsInput, in: work)
    case .spatial(let parts, let columns, let cut):
      return spatialBackward(
        dy, parts, columns: columns, cut, tiling!, wantsInput: wantsInput, in: work)
    }
  }

  private mutating func temporalBackward(
    _ dy: Tensor, _ parts: [TiledSaved<PassSaved>], _ cut: TiledSaved<PassSaved>.Cut,
    _ tiling: Tiling, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor? {
    let axis = tiling.time(encoding: isEncoding, ratio: ratios.time)
    var d: [Tensor] = []
    var frames = 0
    for (i, shape) in cut.tiles.enumerated() {
      let n = min(shape[2], i == 0 ? axis.keep + 1 : axis.keep, dy.shape[2] - frames)
      var tile = work.zeros(shape, dy.type)
      work.place(work.narrowed(dy, axis: 2, frames..<frames + n), into: &tile, axis: 2, at: 0)
      d.append(tile)
      frames += n
    }
    var dx = work.zeros(cut.input, dy.type)
    for i in d.indices.reversed() {
      if i > 0 {
        let (da, db) = work.blendedBackward(
          d[i], above: cut.tiles[i - 1], axis: 2, over: axis.blend)
        work.add(da, to: &d[i - 1])
        d[i] = work.withFrameInFront(db)
      }
      if let part = tiledBackward(d[i], parts[i], tiling, wantsInput: wantsInput, in: work) {
        work.place(part, into: &dx, axis: 2, at: i * axis.step, accumulate: true)
      }
    }
    return wantsInput ? dx : nil
  }

  private mutating func spatialBackward(
    _ dy: Tensor, _ parts: [TiledSaved<PassSaved>], columns: Int, _ cut: TiledSaved<PassSaved>.Cut,
    _ tiling: Tiling, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor? {
    let v = tiling.space(axis: 1, encoding: isEncoding, ratio: ratios.space)
    let h = tiling.space(axis: 2, encoding: isEncoding, ratio: ratios.space)
    var d: [Tensor] = []
    for (i, shape) in cut.tiles.enumerated() {
      let top = i / columns * v.keep
      let left = i % columns * h.keep
      let rows = min(shape[3], v.keep, cut.output[3] - top)
      let width = min(shape[4], h.keep, cut.output[4] - left)
      var tile = work.zeros(shape, dy.type)
      work.placeBlock(
        work.narrowed(work.narrowed(dy, axis: 3, top..<top + rows), axis: 4, left..<left + width),
        into: &tile, row: 0, column: 0)
      d.append(tile)
    }
    var dx = work.zeros(cut.input, dy.type)
    for i in d.indices.reversed() {
      if i % columns > 0 {
        let (da, db) = work.blendedBackward(d[i], above: cut.tiles[i - 1], axis: 4, over: h.blend)
        work.add(da, to: &d[i - 1])
        d[i] = db
      }
      if i >= columns {
        let (da, db) = work.blendedBackward(
          d[i], above: cut.tiles[i - columns], axis: 3, over: v.blend)
        work.add(da, to: &d[i - columns])
        d[i] = db
      }
      if let part = tiledBackward(d[i], parts[i], tiling, wantsInput: wantsInput, in: work) {
        work.placeBlock(
          part, into: &dx, row: i / columns * v.step, column: i % columns * h.step,
          accumulate: true)
      }
    }
    return wantsInput ? dx : nil
  }
}

extension Workspace {
  /// b with its first e elements along `axis` blended with the last e of a: b[y] = a[-e+y] (1 -
  /// y/e) + b[y] y/e.
  func blended(_ a: Tensor, _ b: Tensor, axis: Int, over extent: Int) -> Tensor {
    let e = min(extent, a.shape[axis], b.shape[axis])
    let n = a.shape[axis]
    var out = b
    for y in 0..<e {
      let t = Double(y) / Double(e)
      place(
        combine(
          1 - t, narrowed(a, axis: axis, n - e + y..<n - e + y + 1), t,
          narrowed(b, axis: axis, y..<y + 1)), into: &out, axis: axis, at: y)
    }
    return out
  }
  /// (gradient of a, gradient of b).
  func blendedBackward(_ d: Tensor, above a: Shape, axis: Int, over extent: Int) -> (Tensor, Tensor)
  {
    let e = min(extent, a[axis], d.shape[axis])
    let n = a[axis]
    var da = zeros(a, d.type)
    var db = d
    for y in 0..<e {
      let t = Double(y) / Double(e)
      let row = narrowed(d, axis: axis, y..<y + 1)
      place(scaled(row, by: 1 - t), into: &da, axis: axis, at: n - e + y)
      place(scaled(row, by: t), into: &db, axis: axis, at: y)
    }
    return (da, db)
  }
  /// Puts a zero frame before the first: the gradient of dropping the first frame.
  func withFrameInFront(_ d: Tensor) -> Tensor {
    var shape = d.shape
    shape[2] += 1
    var out = zeros(shape, d.type)
    place(d, into: &out, axis: 2, at: 1)
    return out
  }
  /// Writes (or adds) a block of rows and columns into the planes of y `[B, C, T, H, W]`.
  func placeBlock(
    _ x: Tensor, into y: inout Tensor, row: Int, column: Int, accumulate: Bool = false
  ) {
    let s = x.shape
    let planes = s[0] * s[1] * s[2]
    let (h, w) = (y.shape[3], y.shape[4])
    precondition(
      y.count == planes * h * w && row + s[3] <= h && column + s[4] <= w,
      "block \(s) at \(row), \(column) of \(y.shape)")
    copyStrided(
      [planes, s[3], s[4]], from: x, strides: [s[3] * s[4], s[4], 1], to: &y,
      toOffset: row * w + column, toStrides: [h * w, w, 1], accumulate: accumulate)
  }
}
