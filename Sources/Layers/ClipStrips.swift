public import TensorRuntime

/// A clip `[B, C, T, H, W]` in strips of its rows (H), of which this process holds some.
///
/// A layer of a frozen network treats each strip by itself, with the rows beside it that it needs,
/// so the bits depend on the number of strips, not on who has them (`RowShare`).
public struct ClipStrips: Sendable {
  /// The strips of this process, in order.
  public private(set) var parts: [Tensor]
  public let share: RowShare
  /// Where each strip of all processes begins; in the end the number of rows.
  let bounds: [Int]

  init(_ parts: [Tensor], _ share: RowShare, bounds: [Int]) {
    (self.parts, self.share, self.bounds) = (parts, share, bounds)
  }
  /// This process' strips of a clip that it has all of. There are no more strips than rows.
  public init(cutting x: Tensor, by share: RowShare, in work: borrowing Workspace) {
    let bounds = (0...share.strips).map { $0 * x.shape[3] / share.strips }
    self.init(
      share.mine.map { work.narrowed(x, axis: 3, bounds[$0]..<bounds[$0 + 1]) }, share,
      bounds: bounds)
  }
  /// The same strips of another clip that this process has all of.
  public func cutting(_ x: Tensor, in work: borrowing Workspace) -> ClipStrips {
    precondition(x.shape[3] == bounds.last!, "\(x.shape) in strips that end at \(bounds.last!)")
    return ClipStrips(
      share.mine.map { work.narrowed(x, axis: 3, bounds[$0]..<bounds[$0 + 1]) }, share,
      bounds: bounds)
  }
  /// The whole clip, on every process.
  public func collected(in work: borrowing Workspace) -> Tensor {
    let all = share.exchanged(
      (0..<share.count).map { _ in parts },
      shapes: (0..<share.count).map { place in
        share.strips(of: place).map { strip in
          var shape = parts[0].shape
          shape[3] = rows(strip)
          return shape
        }
      }, in: work)
    return work.concatenated(all.flatMap { $0 }, axis: 3)
  }

  /// The rows of strip `strip` of all.
  public func rows(_ strip: Int) -> Int { bounds[strip + 1] - bounds[strip] }
  /// The same strips of another tensor, whose rows are `factor` times as many.
  public func with(_ parts: [Tensor], factor: Int = 1) -> ClipStrips {
    ClipStrips(parts, share, bounds: bounds.map { $0 * factor })
  }
  /// The same, where rows are joined `factor` by `factor`.
  func with(_ parts: [Tensor], dividedBy factor: Int) -> ClipStrips {
    ClipStrips(parts, share, bounds: bounds.map { $0 / factor })
  }
  /// Part `i`, which this no longer holds.
  mutating func take(_ i: Int, in work: borrowing Workspace) -> Tensor {
    let part = parts[i]
    parts[i] = work.tensor(Shape(0), part.type)
    return part
  }
  mutating func put(_ part: Tensor, _ i: Int) { parts[i] = part }
  /// Each strip of this process plus that of another clip.
  public mutating func add(_ other: ClipStrips, in work: borrowing Workspace) {
    for i in parts.indices { work.add(other.parts[i], to: &parts[i]) }
  }

  /// The strips of the sum of whole clips, one from every strip, of which `mine` come from this
  /// process. They are added in order of the strips.
  public func summed(_ mine: [Tensor], in work: borrowing Workspace) -> ClipStrips {
    func cut(_ x: Tensor, _ strip: Int) -> Tensor {
      work.narrowed(x, axis: 3, bounds[strip]..<bounds[strip + 1])
    }
    var sums: [Tensor?] = parts.map { _ in nil }
    let pieces = (0..<share.count).map { place in
      mine.flatMap { x in share.strips(of: place).map { cut(x, $0) } }
    }
    let shapes = pieces[share.index].map(\.shape)
    for received in share.exchanged(
      pieces, shapes: (0..<share.count).map { _ in shapes }, in: work)
    {
      for (i, piece) in received.enumerated() {
        let strip = i % parts.count
        if sums[strip] == nil {
          sums[strip] = work.copy(piece)
        } else {
          work.add(piece, to: &sums[strip]!)
        }
      }
    }
    return with(sums.map { $0! })
  }

  /// The `rows` rows above and below each strip of this process, where there are any.
  func halos(of rows: Int, in work: borrowing Workspace) -> [(above: Tensor?, below: Tensor?)] {
    let tops = parts.map { work.narrowed($0, axis: 3, 0..<rows) }
    let bottoms = parts.map { work.narrowed($0, axis: 3, $0.shape[3] - rows..<$0.shape[3]) }
    let (before, behind) = share.neighbours(first: tops.first!, last: bottoms.last!, in: work)
    return parts.indices.map { i in
      (i > 0 ? bottoms[i - 1] : before, i + 1 < parts.count ? tops[i + 1] : behind)
    }
  }
  /// Without the `rows` rows that part `i` has of the strips above and below.
  func inner(_ x: Tensor, _ i: Int, by rows: Int, in work: borrowing Workspace) -> Tensor {
    let strip = share.mine.lowerBound + i
    let (above, below) = (strip > 0 ? rows : 0, strip + 1 < share.strips ? rows : 0)
    return above + below == 0 ? x : work.narrowed(x, axis: 3, above..<x.shape[3] - below)
  }
}

/// A frozen convolution without strides on strips. A strip borrows the rows that the kernel reaches
/// beyond it; what padding makes of them is cut off.
extension Convolution {
  public func forward(
    _ x: ClipStrips, after norm: Workspace.PendingNorm? = nil, adding side: ClipStrips? = nil,
    in work: borrowing Workspace
  ) -> ClipStrips {
    precondition(!readsInput && geometry.stride == SIMD3(1, 1, 1), "\(weight.name) on strips")
    let (halo, factor) = (geometry.side, geometry.upsampling.y)
    let kernel = kernel(in: work)
    let halos = halo == 0 ? nil : x.halos(of: halo, in: work)
    let parts = x.parts.indices.map { i in
      let input = work.joined(halos?[i].above, x.parts[i], halos?[i].below)
      var y = x.inner(
        work.convolution(input, weight: kernel, bias: bias.value, geometry, after: norm), i,
        by: halo * factor, in: work)
      if let side { work.add(side.parts[i], to: &y) }
      return y
    }
    return x.with(parts, factor: factor)
  }
  /// The gradient of the input.
  public func backward(_ dy: ClipStrips, in work: borrowing Workspace) -> ClipStrips {
    let (halo, factor) = (geometry.side, geometry.upsampling.y)
    let kernel = kernel(in: work)
    let halos = halo == 0 ? nil : dy.halos(of: halo * factor, in: work)
    let parts = dy.parts.indices.map { i in
      let d = work.joined(halos?[i].above, dy.parts[i], halos?[i].below)
      let (s, f) = (d.shape, geometry.upsampling)
      let input = Shape(
        s[0], kernel.shape[1], (s[2] - 1) / f.x + 1, s[3] / f.y, s[4] / f.z)
      return dy.inner(
        work.convolutionBackwardInput(d, input: input, weight: kernel, geometry), i, by: halo,
        in: work)
    }
    return dy.with(parts, dividedBy: factor)
  }
}
extension Workspace {
  /// A strip with the rows above and below it, where there are any.
  fileprivate func joined(_ above: Tensor?, _ x: Tensor, _ below: Tensor?) -> Tensor {
    above == nil && below == nil
      ? x : concatenated([above, x, below].compactMap { $0 }, axis: 3)
  }
}

/// A frozen group norm of a clip in strips: its sums go over all of them, in their order.
extension GroupNorm {
  public struct StripsSaved: Sendable {
    let x: ClipStrips, statistics: Workspace.RowStatistics
  }
  private func saved(_ x: ClipStrips, in work: borrowing Workspace) -> StripsSaved {
    precondition(!scale.isTrainable && !shift.isTrainable && !eachFrame, "\(scale.name) on strips")
    let all = x.share.gathered(
      x.parts.map {
        work.groupStatistics($0, groups: groups, epsilon: epsilon).joined(in: work)
      }, in: work)
    let statistics = Workspace.RowStatistics(
      merging: all, cells: (0..<x.share.strips).map { x.rows($0) }, epsilon: epsilon, in: work)
    return StripsSaved(x: x, statistics: statistics)
  }
  public func forward(_ x: ClipStrips, in work: borrowing Workspace) -> (
    y: ClipStrips, saved: StripsSaved
  ) {
    let saved = saved(x, in: work)
    let y = x.parts.map {
      work.groupNorm(
        $0, saved.statistics, groups: groups, scale: scale.value, shift: shift.value, silu: silu)
    }
    return (x.with(y), saved)
  }
  /// The norm in a form that a convolution applies as it reads x.
  public func pending(_ x: ClipStrips, in work: borrowing Workspace) -> (
    norm: Workspace.PendingNorm, saved: StripsSaved
  ) {
    let saved = saved(x, in: work)
    let norm = work.pendingNorm(
      x.parts[0], saved.statistics, groups: groups, scale: scale.value, shift: shift.value,
      silu: silu)
    return (norm, saved)
  }
  /// dx plus `side`, the gradient of the path around the norm.
  public func backward(
    _ dy: consuming ClipStrips, _ saved: StripsSaved, adding side: ClipStrips? = nil,
    in work: borrowing Workspace
  ) -> ClipStrips {
    var d = dy
    let x = saved.x
    var sums: [Tensor] = []
    for i in x.parts.indices {
      let (g, s) = work.groupNormBackwardSums(
        d.take(i, in: work), x: x.parts[i], groups: groups, scale: scale.value,
        shift: shift.value, silu: silu, statistics: saved.statistics)
      d.put(g, i)
      sums.append(s)
    }
    let pieces = x.share.gathered(sums, in: work)
    var all = work.zeros(pieces[0].shape, .f64)
    for piece in pieces { work.add(piece, to: &all) }
    let shape = x.parts[0].shape
    for i in x.parts.indices {
      var g = d.take(i, in: work)
      work.groupNormBackwardFinish(
        &g, x: x.parts[i], groups: groups, scale: scale.value, statistics: saved.statistics,
        sums: all, cells: shape[2] * x.bounds.last! * shape[4], adding: side?.parts[i])
      d.put(g, i)
    }
    return d
  }
}
